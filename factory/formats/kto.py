"""Unpaired answers with a label, for TRL's KTOTrainer (Ethayarajh et al., 2024, arXiv 2402.01306).

The rule that must not break: an answer stands here once. That holds since an export is of one round, in which a prompt makes
one pair.
"""

from factory.formats.base import CLOSES, EMPTY_ANSWER, PAIRS_AND_ENDS, WHY, Files, Format, assistant, first_of
from schemas.export import ExportFormat

_ANSWERS = f"""
SELECT prompt_id, round, messages, tools, cause, unnest([
    {{'answer': chosen, 'label': true, 'trimmed': false, 'ended': coalesce(chosen_ended, false)}},
    {{'answer': rejected, 'label': false, 'trimmed': rejected_trimmed, 'ended': rejected_ended}}
], recursive := true) FROM {PAIRS_AND_ENDS}
"""
_LEFT_OUT = {EMPTY_ANSWER: r"NOT regexp_matches(answer, '\S')"}

FORMAT = Format(
    name=ExportFormat.KTO,
    what="TRL's KTOTrainer: unpaired answers",
    sql=f"""SELECT messages AS prompt, [{assistant("answer")}] AS completion, label, tools, prompt_id, cause, trimmed, ended,
        prompt_id AS _prompt_id, round AS _round, (NOT label, answer) AS _place, {first_of(_LEFT_OUT)} AS _left_out
        FROM ({_ANSWERS})""",
    files=Files.PARQUET,
    columns="`prompt` and `completion` are lists of messages, `label` is true for an answer that was chosen. `trimmed` says "
    f"whether it was cut behind a loop's onset, `ended` whether it ended by itself. "
    f"{CLOSES.replace('rejected_ended', 'ended')}",
    use='```python\nimport datasets\nanswers = datasets.load_dataset("FOLDER")   # for trl.KTOTrainer\n```',
    reasons={EMPTY_ANSWER: WHY[EMPTY_ANSWER]},
)
