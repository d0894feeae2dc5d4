"""Liquid's leap-finetune, `type: dpo`: `prompt`, `chosen` and `rejected` as lists of messages, with a job's configuration.

Checked by `leap_finetune.data_loading.validate_dataset_format`. It refuses the whole dataset for one pair whose sides are
equal, and for marks of tool calls in another model's form.
"""

from collections.abc import Mapping

from factory.formats.base import (
    CLOSES,
    EMPTY_ANSWER,
    HAS_TOOLS,
    IS_EMPTY,
    TOOLS,
    TRACED,
    WHY,
    Files,
    Format,
    Written,
    assistant,
    pair_rows,
)
from schemas.export import ExportFormat

FOREIGN_CALLS = "foreign_calls"

_MARKS = r"</?tool_call>|\[/?TOOL_CALLS\]|</?function_call>|<\|plugin\|>|<(start|end)_function_call>"
_HAS_MARKS = (
    f"regexp_matches(chosen, '{_MARKS}') OR regexp_matches(rejected, '{_MARKS}') "
    f"OR list_bool_or(list_transform(messages, lambda m: regexp_matches(m.content, '{_MARKS}')))"
)


def _yaml(written: Written) -> Mapping[str, str]:
    trained, *held_out = (
        f"./{path}" for path in written.files.values()
    )  # else a file's name is taken for one on the Hub
    lines = [
        "# Paths start from the folder in which leap-finetune is run.",
        "training_type: dpo",
        "dataset:",
        f"  path: {trained}",
        "  type: dpo",
        *(line for path in held_out for line in ("  test_size: null", f"  val_dataset_path: {path}")),
        "training_config:",
        "  extends: DEFAULT_DPO",
        "  loss_type: sigmoid_norm",
        "  beta: 5.0",
    ]
    return {"leap_finetune.yaml": "\n".join(lines) + "\n"}


FORMAT = Format(
    name=ExportFormat.LEAP_FINETUNE,
    what="Liquid's leap-finetune, `type: dpo`",
    sql=pair_rows(
        f"messages AS prompt, [{assistant('chosen')}] AS chosen, [{assistant('rejected')}] AS rejected, {TRACED}",
        {EMPTY_ANSWER: IS_EMPTY, TOOLS: HAS_TOOLS, FOREIGN_CALLS: _HAS_MARKS},
    ),
    files=Files.JSON_LINES,
    columns=f"`prompt`, `chosen` and `rejected` are lists of messages. {CLOSES}",
    use="Add model and training settings to `leap_finetune.yaml`, and run it as a job.",
    reasons={
        EMPTY_ANSWER: WHY[EMPTY_ANSWER],
        TOOLS: WHY[TOOLS],
        FOREIGN_CALLS: "marks of tool calls in another model's form, for which the loader refuses the whole dataset",
    },
    beside=_yaml,
)
