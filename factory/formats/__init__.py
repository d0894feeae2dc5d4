"""Which export formats there are, by name: one file each.

The table is written out, so that a name in a recipe leads here and from here to one file.
"""

from collections.abc import Mapping

from factory.formats import (
    axolotl,
    ftpo,
    grpo,
    kto,
    leap_finetune,
    llama_factory,
    nemo_rl,
    openrlhf,
    sft,
    torchtune,
    trl,
    trl_tokens,
)
from factory.formats.base import Format
from schemas.export import ExportFormat

FORMATS: Mapping[ExportFormat, Format] = {
    form.name: form
    for form in (
        trl.FORMAT,
        trl_tokens.FORMAT,
        llama_factory.FORMAT,
        axolotl.FORMAT,
        openrlhf.FORMAT,
        nemo_rl.FORMAT,
        torchtune.FORMAT,
        leap_finetune.FORMAT,
        sft.FORMAT,
        kto.FORMAT,
        ftpo.FORMAT,
        grpo.FORMAT,
    )
}
