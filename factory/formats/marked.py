"""An export that listens to what people say of its pairs: some are left out, some have their sides exchanged.

The rule that must not break: an answer that loops is never made the chosen side, whatever a line of the file says, and what is
left out is counted by its reason, as what a format cannot hold is.
"""

from collections.abc import Mapping

from factory.formats.base import Format, RowsOf
from schemas.marks import Mark, MarksUse
from schemas.rows import Cause, Loop

MARKED: Mapping[str, str] = {
    f"marked_{Mark.FLIPPED}": "pairs whose rejected answer is the better one, as a person says",
    f"marked_{Mark.BOTH_BAD}": "pairs of which a person says that both answers are bad",
}
_PAIR = "round, prompt_id, chosen_id, rejected_id"
# Those whose sides can be exchanged, and whether the answer that becomes the rejected one had ended by itself.
_FLIPPED = f"""
SELECT {_PAIR}, true AS flipped, c.error IS NULL AND c.finish_reason IN ('stop', 'tool_calls') AS ended
FROM main.human
JOIN (SELECT round, rollout_id AS rejected_id, loop FROM main.rollouts) USING (round, rejected_id)
JOIN (SELECT round, rollout_id AS chosen_id, error, finish_reason FROM main.rollouts) c USING (round, chosen_id)
WHERE mark = '{Mark.FLIPPED}' AND coalesce(loop, '{Loop.CLEAN}') = '{Loop.CLEAN}'
"""
_SIDES = ("", "_id", "_score", "_token_ids")
_EXCHANGED = ", ".join(
    f"if(flipped, {other}{side}, {one}{side}) AS {one}{side}"
    for side in _SIDES
    for one, other in (("chosen", "rejected"), ("rejected", "chosen"))
)
_PAIRS = f"""
SELECT * EXCLUDE (flipped, ended) REPLACE (
    {_EXCHANGED}, if(flipped, -margin, margin) AS margin, if(flipped, NULL, agreement) AS agreement,
    if(flipped, '{Cause.HUMAN}', cause) AS cause, if(flipped, coalesce(ended, false), rejected_ended) AS rejected_ended
) FROM main.pairs LEFT JOIN ({_FLIPPED}) USING ({_PAIR})
"""
_SAID = (
    "SELECT prompt_id AS _prompt_id, round AS _round, 'marked_' || mark AS _marked "
    f"FROM main.pairs JOIN main.human USING ({_PAIR})"
)
_OUT = {
    MarksUse.EXCLUDE: f"{_SAID} WHERE mark IN ('{Mark.FLIPPED}', '{Mark.BOTH_BAD}')",
    MarksUse.FLIP: f"""{_SAID} ANTI JOIN ({_FLIPPED}) USING ({_PAIR})
        WHERE mark IN ('{Mark.FLIPPED}', '{Mark.BOTH_BAD}')""",
}


def rows_sql(form: Format, use: MarksUse) -> str:
    """The format's rows as the marks leave them, with the columns of `Format.sql`."""
    if use is MarksUse.UNUSED or form.rows_of is not RowsOf.PAIRS:
        return form.sql
    pairs = f"WITH pairs AS ({_PAIRS}) " if use is MarksUse.FLIP else ""
    return (
        f"{pairs}SELECT * EXCLUDE (_marked) REPLACE (coalesce(_left_out, _marked) AS _left_out) "
        f"FROM ({form.sql}) LEFT JOIN ({_OUT[use]}) USING (_prompt_id, _round)"
    )


def reason_in_words(form: Format, reason: str) -> str:
    """Why a row is left out."""
    return {**MARKED, **form.reasons}[reason]
