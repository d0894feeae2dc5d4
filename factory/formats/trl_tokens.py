"""Token ids as they were generated, for a trainer that tokenises nothing: this project's own, and TRL's past its preparation.

The rule that must not break: nothing is added and nothing is cut. `chosen_ended` and `rejected_ended` say whether the ids close
with the end-of-turn token that the model wrote; where they do not, no trainer may add one.
"""

from factory.formats.base import NO_IDS, PAIRS_AND_ENDS, Files, Format, pair_rows
from schemas.export import ExportFormat

NO_TOKEN_IDS = "no_token_ids"

_USE = """DPOTrainer renders and tokenises what it is given; these ids go past that, and its collator reads them as they are:

```python
import datasets
import trl

class Trainer(trl.DPOTrainer):
    def _prepare_dataset(self, dataset, *_):
        return dataset

pairs = datasets.load_dataset("FOLDER")
config = trl.DPOConfig(loss_type="sigmoid_norm", beta=5.0, max_length=None, output_dir="out")
Trainer(model, args=config, train_dataset=pairs["train"], processing_class=tokenizer).train()
```"""

FORMAT = Format(
    name=ExportFormat.TRL_TOKENS,
    what="token ids as generated: `prefactory train`, and TRL without its tokenising",
    sql=pair_rows(
        """prompt_id, prompt_token_ids AS prompt_ids, chosen_token_ids AS chosen_ids, rejected_token_ids AS rejected_ids,
        coalesce(chosen_ended, false) AS chosen_ended, rejected_ended, cause, rejected_trimmed, margin""",
        {NO_TOKEN_IDS: NO_IDS},
        PAIRS_AND_ENDS,
    ),
    files=Files.PARQUET,
    columns="`prompt_ids`, `chosen_ids`, `rejected_ids` are the ids that the engine read and wrote. `chosen_ended` and "
    "`rejected_ended` say whether a side ended by itself, and so closes with the end token that the model wrote; the others "
    "ran into the cap or were cut behind a loop's onset (`rejected_trimmed`), and must not be closed. `cause` says what "
    "separates the two sides (`loop`, `verifier`, `jury`), `margin` by how much; it is NULL for a loop.",
    use=_USE,
    reasons={
        NO_TOKEN_IDS: "the engine returned no token ids for a side, or the cut of a loop could not be found in them"
    },
)
