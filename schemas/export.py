"""What a run's pairs are written as, for whose trainer.

The rule that must not break: a name here is the name of the folder under `export/`, of the word behind `--format`, and of the
file in `factory/formats/` (there with `_` for `-`).
"""

from enum import StrEnum

from pydantic import Field, field_validator

from schemas.marks import MarksUse
from schemas.section import Section


class ExportFormat(StrEnum):
    TRL = "trl"
    TRL_TOKENS = "trl-tokens"
    LLAMA_FACTORY = "llama-factory"
    AXOLOTL = "axolotl"
    OPENRLHF = "openrlhf"
    NEMO_RL = "nemo-rl"
    TORCHTUNE = "torchtune"
    LEAP_FINETUNE = "leap-finetune"
    SFT = "sft"
    KTO = "kto"
    FTPO = "ftpo"
    GRPO = "grpo"


class Export(Section):
    """`marks`: what people say of the pairs. `exclude` leaves out what they call flipped or both bad; `flip` exchanges the
    sides of a flipped pair, and leaves out where both are bad.
    """

    marks: MarksUse = MarksUse.UNUSED
    test_share: float = Field(default=0.1, ge=0, lt=1)
    formats: list[ExportFormat] = Field(default=[ExportFormat.TRL], min_length=1)
    licences: dict[str, str] = Field(
        default={}
    )  # source, by its name in the table `prompts` -> licence, as the Hub names it

    @field_validator("formats")
    @classmethod
    def _each_once(cls, formats: list[ExportFormat]) -> list[ExportFormat]:
        if twice := sorted({name for name in formats if formats.count(name) > 1}):
            raise ValueError(f"named twice: {', '.join(twice)}")
        return formats
