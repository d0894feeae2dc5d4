"""TRL's conversational preference format: `prompt`, `chosen` and `rejected` as lists of messages, for `DPOTrainer`.

The trainer renders and tokenises the text itself, and closes both sides with an end token whatever they ended by: where that
matters, `trl-tokens` holds what was generated.
"""

from factory.formats.base import Files, Format, pair_rows
from schemas.export import ExportFormat

FORMAT = Format(
    name=ExportFormat.TRL,
    what="TRL's DPOTrainer: conversations as text",
    sql=pair_rows(
        """messages AS prompt,
        [{'role': 'assistant', 'content': chosen}] AS chosen,
        [{'role': 'assistant', 'content': rejected}] AS rejected,
        prompt_id, chosen_id, rejected_id, chosen_score, rejected_score, margin, agreement, cause,
        rejected_trimmed, rejected_ended, source, tools""",
        {},
    ),
    files=Files.PARQUET,
    columns="`prompt`, `chosen`, `rejected` are lists of messages, as TRL's DPOTrainer takes them. `cause` says what separates "
    "the two sides (`loop`, `verifier`, `jury`); scores are in pooled within-prompt standard deviations, and NULL for "
    "a loop, which no judge reads. `rejected_ended` is false where the rejected side was cut or ran into the cap: a "
    "trainer should not close it with an end token. DPOTrainer closes both sides all the same; the format `trl-tokens` "
    "holds the token ids as they were generated.",
    use='```python\nimport datasets\npairs = datasets.load_dataset("FOLDER")   # or datasets.load_from_disk("FOLDER")\n```',
    reasons={},
)
