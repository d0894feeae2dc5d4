"""torchtune's preference data: the whole conversation in `chosen` and again in `rejected`.

Read by `torchtune.datasets.preference_dataset`. Its tokenizers refuse turns that are not the user's and the assistant's
in turn, so that what a tool gave back cannot be said.
"""

from collections.abc import Mapping

from factory.formats.base import (
    CLOSES,
    EMPTY_ANSWER,
    HAS_TOOLS,
    IS_EMPTY,
    TOOLS,
    TRACED,
    TURNS,
    WHY,
    Files,
    Format,
    Written,
    assistant,
    not_alternating,
    pair_rows,
)
from schemas.export import ExportFormat


def _yaml(written: Written) -> Mapping[str, str]:
    lines = ["# Paths start from the folder in which torchtune is run."]
    for split, path in written.files.items():
        lines += [
            "dataset:" if split == "train" else "dataset_val:",
            "  _component_: torchtune.datasets.preference_dataset",
            "  source: json",
            f"  data_files: {path}",
            "  split: train",
        ]
    return {"torchtune.yaml": "\n".join(lines) + "\n"}


FORMAT = Format(
    name=ExportFormat.TORCHTUNE,
    what="torchtune's DPO recipes (`preference_dataset`)",
    sql=pair_rows(
        f"""list_append(messages, {assistant("chosen")}) AS chosen,
        list_append(messages, {assistant("rejected")}) AS rejected, {TRACED}""",
        {EMPTY_ANSWER: IS_EMPTY, TOOLS: HAS_TOOLS, TURNS: not_alternating("user")},
    ),
    files=Files.JSON_LINES,
    columns="`chosen` and `rejected` are whole conversations. Every turn of the assistant is scored, earlier ones too: they "
    f"are the same on both sides. {CLOSES}",
    use="Put the lines of `torchtune.yaml` into the recipe's configuration. Its DPO is not length-normalised.",
    reasons={EMPTY_ANSWER: WHY[EMPTY_ANSWER], TOOLS: WHY[TOOLS], TURNS: WHY[TURNS]},
    beside=_yaml,
)
