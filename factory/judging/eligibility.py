"""What the verifiers and an answer's own form say of it: its tier, and what keeps it from being chosen.

Pure: rows in, rows out. The rule that must not break: tiers rank before any opinion and are never averaged in, and a check
that did not come back proves nothing and excuses nothing.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum

from factory.judging.candidates import Candidates, stripped
from judges.injections import looks_injected
from judges.registry import find_verifier
from schemas.recipe import Pairing
from schemas.rows import Loop, Rollout, Verdict, VerdictStatus

LOOPED, FAILED_CHECK, UNCHECKED, PROVEN = -2, -1, 0, 1  # the tiers


class Bar(StrEnum):
    """Why a rollout may not be chosen: the first that holds, in this order."""

    NO_ANSWER = "no answer"
    LOOPED = "hard loop"
    DUPLICATE = "same text as another"
    FAILED_CHECK = "failed a check"
    NOT_PROVEN = "another answer passed the check"
    UNCHECKED = "a check did not come back"
    SOFT_LOOP = "soft loop"
    BLANK = "blank"
    INJECTION = "looks like an injection"
    UNFINISHED = "unfinished"


def tiers(judged: Sequence[Rollout], verdicts: Iterable[Verdict], verifiers: Collection[str]) -> dict[str, int]:
    """By the verifiers alone: one failed check outweighs any pass, and a pass counts where the verifier proves."""
    found = {rollout.rollout_id: UNCHECKED for rollout in judged}
    for verdict in verdicts if verifiers else ():
        own = verdict.rollout_id
        if verdict.judge not in verifiers or verdict.status is not VerdictStatus.OK or own not in found:
            continue
        if verdict.score == 0.0:
            found[own] = FAILED_CHECK
        elif found[own] == UNCHECKED and find_verifier(verdict.judge).proves:
            found[own] = PROVEN
    return found


def bars(
    who: Candidates,
    tier: Mapping[str, int],
    verdicts: Iterable[Verdict],
    verifiers: Collection[str],
    pairing: Pairing,
) -> dict[str, Bar | None]:
    """What keeps each rollout from being chosen, by rollout_id; None: nothing does.

    A check that hung or died leaves its rollout where no check would, but bars it: a text that breaks the verifier must
    not win by that.
    """
    barred: dict[str, Bar | None] = {rollout.rollout_id: Bar.NO_ANSWER for rollout in who.failed}
    barred |= {rollout.rollout_id: Bar.LOOPED for rollout in who.loops}
    barred |= {duplicate.rollout.rollout_id: Bar.DUPLICATE for duplicate in who.duplicates}
    highest = max((tier[rollout.rollout_id] for rollout in who.judged), default=UNCHECKED)
    back = _back(verdicts, verifiers)
    for rollout in who.judged:
        own = rollout.rollout_id
        if tier[own] == FAILED_CHECK:
            barred[own] = Bar.FAILED_CHECK
        elif tier[own] < highest:
            barred[own] = Bar.NOT_PROVEN
        elif any((name, own) not in back for name in verifiers):
            barred[own] = Bar.UNCHECKED
        else:
            barred[own] = bar_of_form(rollout, pairing)
    return barred


def _back(verdicts: Iterable[Verdict], verifiers: Collection[str]) -> set[tuple[str, str]]:
    """Which checks of which rollouts came back."""
    done = (VerdictStatus.OK, VerdictStatus.ABSTAINED)
    said = verdicts if verifiers else ()
    return {(one.judge, one.rollout_id) for one in said if one.judge in verifiers and one.status in done}


def bar_of_form(rollout: Rollout, pairing: Pairing) -> Bar | None:
    """What the answer's own form has against it, whatever anybody thinks of it."""
    if rollout.loop == Loop.HARD:
        return Bar.LOOPED
    if rollout.loop == Loop.SOFT:
        return Bar.SOFT_LOOP
    if not stripped(rollout):
        return Bar.BLANK
    if looks_injected(rollout.text or ""):
        return Bar.INJECTION
    return None if rollout.finished or pairing.allow_unfinished else Bar.UNFINISHED
