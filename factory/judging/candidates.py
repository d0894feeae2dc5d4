"""Which of a prompt's rollouts are judged: every answer but hard loops and texts that are judged already.

Pure: rows in, rows out. The rule that must not break: each rollout is in exactly one place, the same one in whatever order
the rows come.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from judges.base import no_score
from schemas.rows import Loop, Rollout, Verdict, VerdictStatus


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A rollout whose text, but for white space at its ends, is that of the judged rollout `of`."""

    rollout: Rollout
    of: str


@dataclass(frozen=True, slots=True)
class Candidates:
    """The rollouts of one prompt, each in one place, each tuple in slot order."""

    judged: tuple[Rollout, ...]
    loops: tuple[Rollout, ...]
    duplicates: tuple[Duplicate, ...]
    failed: tuple[Rollout, ...]


def slot_order(rollout: Rollout) -> tuple[int, int, str]:
    """Greedy first, then t0, t1, … t10."""
    number = rollout.slot[1:]
    if rollout.slot == "greedy":
        return (0, 0, rollout.rollout_id)
    return (1, int(number), rollout.rollout_id) if number.isdecimal() else (2, 0, rollout.rollout_id)


def candidates(rollouts: Sequence[Rollout]) -> Candidates:
    """Who is judged.

    A blank answer that ended by itself is judged (it can be rejected). A blank one that did not is no answer at all:
    there is nothing in it to prefer or to train on. Of equal texts a finished one is judged.
    """
    failed: list[Rollout] = []
    loops: list[Rollout] = []
    rest: list[tuple[str, Rollout]] = []
    for rollout in sorted(rollouts, key=slot_order):
        if not _answered(rollout):
            failed.append(rollout)
        elif rollout.loop == Loop.HARD:
            loops.append(rollout)
        else:
            rest.append((stripped(rollout), rollout))
    first: dict[str, Rollout] = {}
    for text, rollout in rest:
        if text not in first or (rollout.finished and not first[text].finished):
            first[text] = rollout
    return Candidates(
        judged=tuple(rollout for text, rollout in rest if first[text] is rollout),
        loops=tuple(loops),
        duplicates=tuple(
            Duplicate(rollout, first[text].rollout_id) for text, rollout in rest if first[text] is not rollout
        ),
        failed=tuple(failed),
    )


def _answered(rollout: Rollout) -> bool:
    if rollout.error is not None or rollout.text is None:
        return False
    return rollout.finished or bool(rollout.answer.strip())


def stripped(rollout: Rollout) -> str:
    """The answer's text as duplicates are told by."""
    return (rollout.text or "").strip()


def skipped_verdicts(rollouts: Sequence[Rollout], names: Sequence[str]) -> tuple[Verdict, ...]:
    """A row for each loop and duplicate and each of these judges or verifiers. An answer that failed has none."""
    who = candidates(rollouts)
    looped = [(rollout, VerdictStatus.SKIPPED_LOOP) for rollout in who.loops]
    repeated = [(duplicate.rollout, VerdictStatus.SKIPPED_DUPLICATE) for duplicate in who.duplicates]
    return tuple(no_score(rollout, name, status) for rollout, status in looped + repeated for name in names)
