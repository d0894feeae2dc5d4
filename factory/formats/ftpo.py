"""Rows for final token preference optimisation at the place where a loop began.

FTPO (Paech et al., 2025, "Antislop", arXiv 2510.15061) trains one position: after `prompt_ids`, every one of `chosen_ids`
is to become likelier than `rejected_token_id`. The names are those of the features in the authors' trainer
(github.com/sam-paech/auto-antislop). There the rejected token is the first of a banned phrase, and the chosen ones are
what else the sampler might have drawn.

Here the rejected token is the one with which the second copy of a hard loop begins (`loop_onset_token`), and the context is the
prompt and the answer up to there. Nobody stored what else the model might have drawn, so the chosen ones are what it did write
elsewhere, in the answers to the same prompt that the detector calls clean:

    shares_prefix true     an answer went with the loop up to the onset, token by token, and then another way
    shares_prefix false    otherwise: what stands in those answers behind the last `shared` tokens of the context;
                           `shared` is the largest of 8, 4 and 2 for which there is such a place

The second kind is a guess about a context that the clean answer was not in: the larger `shared`, the better. The rule
that must not break: the token that began the loop is never among the chosen ones, and a loop without any other is left
out.
"""

from factory.formats.base import Files, Format, RowsOf, first_of
from schemas.export import ExportFormat

NO_ONSET = "no_onset_token"
NO_ALTERNATIVE = "no_alternative"
SUFFIXES = (8, 4, 2)

_LOOPS = """
SELECT rollout_id, prompt_id, round, prompt_token_ids, token_ids AS ids, loop_onset_token AS onset,
       token_ids[loop_onset_token + 1] AS rejected
FROM rollouts WHERE loop = 'hard'
"""
_CLEAN = "SELECT prompt_id, round, token_ids AS other FROM rollouts WHERE loop = 'clean' AND len(token_ids) > 1"


def _after(shared: int) -> str:
    """The tokens that stand in `other` behind the last `shared` tokens before the onset."""
    tail = f"ids[onset - {shared - 1}:onset]"
    places = (
        f"list_filter(range({shared}, len(other)), "
        f"lambda p: other[p] = ids[onset] AND other[p - {shared - 1}:p] = {tail} AND other[p + 1] <> rejected)"
    )
    tokens = f"list_transform({places}, lambda p: other[p + 1])"
    return f"WHEN onset >= {shared} AND len({places}) > 0 THEN (false, {shared}, {tokens})"


_FOUND = f"""
SELECT rollout_id, round, shares_prefix, shared, unnest(tokens) AS token FROM (
    SELECT rollout_id, round, best[1] AS shares_prefix, best[2] AS shared, best[3] AS tokens FROM (
        SELECT rollout_id, round, CASE
            WHEN other[1:onset] = ids[1:onset] AND len(other) > onset AND other[onset + 1] <> rejected
                THEN (true, onset, [other[onset + 1]])
            {" ".join(map(_after, SUFFIXES))} END AS best
        FROM loops JOIN ({_CLEAN}) USING (prompt_id, round) WHERE onset IS NOT NULL
    ) WHERE best IS NOT NULL
)
"""
_BEST = """
SELECT rollout_id, round, shares_prefix, shared, list(DISTINCT token ORDER BY token) AS chosen_ids FROM (
    SELECT *, max((shares_prefix, shared)) OVER (PARTITION BY rollout_id, round) AS most FROM found
) WHERE (shares_prefix, shared) = most GROUP BY rollout_id, round, shares_prefix, shared
"""
_LEFT_OUT = {
    NO_ONSET: "onset IS NULL OR rejected IS NULL OR prompt_token_ids IS NULL",
    NO_ALTERNATIVE: "chosen_ids IS NULL",
}

FORMAT = Format(
    name=ExportFormat.FTPO,
    what="final token preference optimisation, as in auto-antislop: one position a loop",
    sql=f"""WITH loops AS ({_LOOPS}), found AS ({_FOUND}), best AS ({_BEST})
        SELECT list_concat(prompt_token_ids, ids[1:onset]) AS prompt_ids, rejected AS rejected_token_id, chosen_ids,
        shared::INTEGER AS shared, shares_prefix, prompt_id, rollout_id,
        prompt_id AS _prompt_id, round AS _round, rollout_id AS _place, {first_of(_LEFT_OUT)} AS _left_out
        FROM loops LEFT JOIN best USING (rollout_id, round)""",
    files=Files.PARQUET,
    rows_of=RowsOf.LOOPS,
    columns="A row for each hard loop, not for each pair. `prompt_ids` is the context: prompt and answer up to the token with "
    "which the loop's second copy begins, `rejected_token_id`. `chosen_ids` are what the same model wrote there in a clean "
    "answer that shares the whole context (`shares_prefix`), or else wherever its last `shared` tokens stand in a clean answer "
    "to the same prompt: the larger `shared`, the better such a token fits. Nothing is closed with an end token.",
    use="The columns are what auto-antislop's trainer takes behind its own tokenising:\n\n"
    '```python\nimport datasets\nrows = datasets.load_dataset("FOLDER")\n```',
    reasons={
        NO_ONSET: "hard loops of which the token that began them is not known",
        NO_ALTERNATIVE: "hard loops without a clean answer that says what else might have stood there",
    },
)
