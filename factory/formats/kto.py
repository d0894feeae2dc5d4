"""Unpaired answers with a label, for TRL's KTOTrainer (Ethayarajh et al., 2024, arXiv 2402.01306).

The rule that must not break: an answer stands here once, however many pairs it is in. One that was chosen in a pair and
rejected in another has no label, and is left out.
"""

from factory.formats.base import CLOSES, EMPTY_ANSWER, PAIRS_AND_ENDS, WHY, Files, Format, assistant, first_of
from schemas.export import ExportFormat

BOTH_WAYS = "both_ways"

_ANSWERS = f"""
SELECT prompt_id, min(round) AS round, first(messages ORDER BY round) AS messages, first(tools ORDER BY round) AS tools, answer,
       bool_or(good) AS label, bool_or(good) AND NOT bool_and(good) AS both_ways, bool_or(trimmed) AS trimmed,
       bool_and(ended) AS ended, first(cause ORDER BY round) AS cause
FROM (
    SELECT prompt_id, round, messages, tools, cause, unnest([
        {{'answer': chosen, 'good': true, 'trimmed': false, 'ended': coalesce(chosen_ended, false)}},
        {{'answer': rejected, 'good': false, 'trimmed': rejected_trimmed, 'ended': rejected_ended}}
    ], recursive := true) FROM {PAIRS_AND_ENDS}
) GROUP BY prompt_id, answer
"""
_LEFT_OUT = {EMPTY_ANSWER: r"NOT regexp_matches(answer, '\S')", BOTH_WAYS: "both_ways"}

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
    reasons={
        EMPTY_ANSWER: WHY[EMPTY_ANSWER],
        BOTH_WAYS: "answers that were chosen in one pair and rejected in another",
    },
)
