"""OpenRLHF's preference data: `prompt`, `chosen` and `rejected` as lists of messages, rendered by the tokenizer's chat
template.

Read by `openrlhf.datasets.RewardDataset`. It reads a column `margin` too, as a margin in the reward model's loss: so there is
none here, since this project's margins are in other units and unknown for loops.
"""

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
    assistant,
    pair_rows,
)
from schemas.export import ExportFormat

FORMAT = Format(
    name=ExportFormat.OPENRLHF,
    what="OpenRLHF's DPO and reward models",
    sql=pair_rows(
        f"messages AS prompt, [{assistant('chosen')}] AS chosen, [{assistant('rejected')}] AS rejected, {TRACED}",
        {EMPTY_ANSWER: IS_EMPTY, TOOLS: HAS_TOOLS},
    ),
    files=Files.JSON_LINES,
    columns=f"`prompt`, `chosen` and `rejected` are lists of messages. {CLOSES}",
    use="""```sh
deepspeed --module openrlhf.cli.train_dpo --data.dataset FOLDER --data.apply_chat_template \\
    --data.prompt_key prompt --data.chosen_key chosen --data.rejected_key rejected
```

Its DPO is not length-normalised.""",
    reasons={EMPTY_ANSWER: WHY[EMPTY_ANSWER], TOOLS: WHY[TOOLS]},
)
