"""LLaMA-Factory's ranking datasets in ShareGPT form, with the `dataset_info.json` that names them.

Read by `llamafactory.data.converter.SharegptDatasetConverter`: `conversations` ends with the user's or a tool's turn,
`chosen` and `rejected` are one message each, a leading system message and `tools` (a JSON string) go into the template.
"""

import json
from collections.abc import Mapping

from factory.formats.base import (
    CLOSES,
    EMPTY_ANSWER,
    IS_EMPTY,
    TRACED,
    TURNS,
    WHY,
    Files,
    Format,
    Written,
    not_alternating,
    pair_rows,
)
from schemas.export import ExportFormat

_ROLES = (
    "CASE m.role WHEN 'user' THEN 'human' WHEN 'assistant' THEN 'gpt' WHEN 'tool' THEN 'observation' ELSE m.role END"
)


def _dataset_info(written: Written) -> Mapping[str, str]:
    info = {
        f"prefactory_{split}": {
            "file_name": path,
            "formatting": "sharegpt",
            "ranking": True,
            "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected", "tools": "tools"},
        }
        for split, path in written.files.items()
    }
    return {"dataset_info.json": json.dumps(info, indent=2) + "\n"}


FORMAT = Format(
    name=ExportFormat.LLAMA_FACTORY,
    what="LLaMA-Factory's `stage: dpo` (ranking, ShareGPT form)",
    sql=pair_rows(
        f"""list_transform(messages, lambda m: {{'from': {_ROLES}, 'value': m.content}}) AS conversations,
        {{'from': 'gpt', 'value': chosen}} AS chosen, {{'from': 'gpt', 'value': rejected}} AS rejected,
        coalesce(tools, '') AS tools, {TRACED}""",
        {EMPTY_ANSWER: IS_EMPTY, TURNS: not_alternating("user", "tool")},
    ),
    files=Files.JSON_LINES,
    columns="`conversations` is the prompt, `chosen` and `rejected` are one message each, `tools` is a JSON list as text. "
    f"{CLOSES}",
    use="""```yaml
stage: dpo
dataset_dir: FOLDER
dataset: prefactory_train
eval_dataset: prefactory_test
```

Its DPO is not length-normalised; `pref_loss: simpo` is the nearest to it.""",
    reasons={EMPTY_ANSWER: WHY[EMPTY_ANSWER], TURNS: WHY[TURNS]},
    beside=_dataset_info,
)
