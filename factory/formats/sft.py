"""Plain supervised fine-tuning on the chosen side: whole conversations in `messages`, as nearly every trainer takes them.

The rule that must not break: what ran into the cap is no example of how to answer, so that it is left out.
"""

from factory.formats.base import (
    EMPTY_ANSWER,
    PAIRS_AND_ENDS,
    WHY,
    Files,
    Format,
    assistant,
    pair_rows,
)
from schemas.export import ExportFormat

UNFINISHED = "unfinished"

FORMAT = Format(
    name=ExportFormat.SFT,
    what="supervised fine-tuning on the chosen answers, with any trainer that takes `messages`",
    sql=pair_rows(
        f"list_append(messages, {assistant('chosen')}) AS messages, tools, prompt_id, chosen_id",
        {
            EMPTY_ANSWER: r"NOT regexp_matches(chosen, '\S')",
            UNFINISHED: "NOT coalesce(chosen_ended, false)",
        },
        PAIRS_AND_ENDS,
    ),
    files=Files.PARQUET,
    columns="`messages` ends with the chosen answer, and nothing but that answer should be learned: in TRL's SFTTrainer "
    "`assistant_only_loss=True`, with a chat template that marks the assistant's turns. `tools` is a JSON list as "
    "text, or null.",
    use='```python\nimport datasets\nanswers = datasets.load_dataset("FOLDER")\n```',
    reasons={
        EMPTY_ANSWER: WHY[EMPTY_ANSWER],
        UNFINISHED: "the chosen answer ran into the cap, and a trainer would teach the model to end there",
    },
)
