"""The stage that confirms the final pair: each judge sees the two side by side, in both orders.

A judge that names the same answer in both orders votes for it; a winner that flips with the order is a tie. A pair is
kept where more of the weight votes for the chosen answer than for the other. Pairs that a loop or a failed check made
are not asked about: they are no opinion. The rule that must not break: a pair that was not asked about, or about which
nobody could say anything, is not confirmed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from factory.client.asking import Desk
from factory.engine import Engine
from factory.judging.aggregation import Weights, weight
from judges.pairwise import PairwiseJudge, winner
from schemas.chat import Completion
from schemas.rows import Cause, Confirmation, Dropped, DropReason, Pair, Prompt, Rollout, VerdictStatus

_TIED = 1e-9


@dataclass(frozen=True, slots=True)
class Contest:
    """A pair that opinion made, with the two answers as they were generated."""

    prompt: Prompt
    chosen: Rollout
    rejected: Rollout

    @property
    def key(self) -> tuple[str, str]:
        return self.chosen.rollout_id, self.rejected.rollout_id


def contest(prompt: Prompt, rollouts: Sequence[Rollout], decided: Pair | Dropped) -> Contest | None:
    """What is to be confirmed of a prompt; None where opinion has made no pair."""
    if not isinstance(decided, Pair) or decided.cause is not Cause.JURY:
        return None
    by_id = {rollout.rollout_id: rollout for rollout in rollouts}
    return Contest(prompt, by_id[decided.chosen_id], by_id[decided.rejected_id])


async def confirm(
    contests: Sequence[Contest],
    judges: Mapping[str, PairwiseJudge],
    engines: Mapping[str, Engine],
    desk: Desk,
) -> None:
    """Ask the judges that have an engine here; the replies lie in the desk's journal afterwards."""
    asked = [
        (engines[name], question.request)
        for one in contests
        for name, judge in judges.items()
        if name in engines
        for question in judge.ask(one.prompt, one.chosen, one.rejected)
    ]
    desk.expect(len(asked))
    await desk.ask_all(asked)


def confirmation_rows(
    contests: Sequence[Contest],
    judges: Mapping[str, PairwiseJudge],
    stored: Sequence[Confirmation],
    kept: Mapping[str, Completion],
    *,
    asked: bool,
) -> list[Confirmation]:
    """Two rows for each contest and judge: what is stored already, else what was replied.

    Without `asked` nobody could be asked now, and what is not stored has the status not_asked.
    """
    known = {(row.chosen_id, row.rejected_id, row.judge, row.chosen_first): row for row in stored}
    rows: list[Confirmation] = []
    for one in contests:
        for name, judge in judges.items():
            for row in judge.read(one.chosen, one.rejected, kept):
                before = known.get((*one.key, name, row.chosen_first))
                if before is not None and before.status is not VerdictStatus.NOT_ASKED:
                    rows.append(before)
                elif asked:
                    rows.append(row)
                else:
                    rows.append(not_asked(one, name, chosen_first=row.chosen_first))
    return rows


def not_asked(one: Contest, judge: str, *, chosen_first: bool) -> Confirmation:
    return Confirmation(one.prompt.prompt_id, *one.key, judge, chosen_first, VerdictStatus.NOT_ASKED)


def open_contests(
    contests: Sequence[Contest], judges: Mapping[str, PairwiseJudge], stored: Sequence[Confirmation]
) -> list[Contest]:
    """Those that some judge has not been asked about."""
    known = {(row.chosen_id, row.rejected_id, row.judge) for row in stored if row.status is not VerdictStatus.NOT_ASKED}
    return [one for one in contests if any((*one.key, name) not in known for name in judges)]


def confirmed(decided: Pair, rows: Sequence[Confirmation], weights: Weights) -> Pair | Dropped:
    """The pair, or why it is dropped. `rows` are those of its prompt."""
    if decided.cause is not Cause.JURY:
        return decided
    own = [row for row in rows if (row.chosen_id, row.rejected_id) == (decided.chosen_id, decided.rejected_id)]
    said = {
        judge: winner([row for row in own if row.judge == judge]) for judge in dict.fromkeys(row.judge for row in own)
    }
    pro = math.fsum(weight(judge, weights) for judge, side in said.items() if side == 1.0)
    con = math.fsum(weight(judge, weights) for judge, side in said.items() if side == 0.0)
    if pro > con + _TIED:
        return decided
    ties = sum(side == 0.5 for side in said.values())
    silent = sum(side is None for side in said.values())
    detail = f"weight {pro:g} for the chosen one, {con:g} against, {ties} ties, {silent} without an answer"
    return Dropped(decided.prompt_id, DropReason.NOT_CONFIRMED, detail)
