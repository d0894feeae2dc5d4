"""What becomes of a pair of which a person has said something, where the recipe heeds it (`pairing.marks`).

Pure. A person outranks opinions and checks, but not the form of an answer: what loops, is blank, unfinished or looks like an
injection is never made the chosen one. The rule that must not break: a mark speaks of its two answers alone, and who said it,
when and why changes no row.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from factory.judging.eligibility import bar_of_form
from schemas.marks import HumanMark, Mark, MarksUse
from schemas.recipe import Pairing
from schemas.rows import Cause, Dropped, DropReason, Pair, Rollout

Marks = Mapping[frozenset[str], HumanMark]  # by both rollout ids of the pair


def by_sides(marks: Iterable[HumanMark]) -> Marks:
    return {mark.sides: mark for mark in marks}


def mark_of(decided: Pair | Dropped, marks: Marks) -> HumanMark | None:
    return marks.get(frozenset({decided.chosen_id, decided.rejected_id})) if isinstance(decided, Pair) else None


def vouched_for(decided: Pair | Dropped, marks: Marks) -> bool:
    """Whether a person says that the pair is as it should be: then nobody has to confirm it."""
    mark = mark_of(decided, marks)
    return mark is not None and isinstance(decided, Pair) and mark.better == decided.chosen_id


def heed(decided: Pair | Dropped, rollouts: Sequence[Rollout], pairing: Pairing, marks: Marks) -> Pair | Dropped:
    """What the jury and the checks decided of a prompt, as the mark on that very pair leaves it."""
    mark = mark_of(decided, marks)
    if mark is None or not isinstance(decided, Pair) or mark.better == decided.chosen_id:
        return decided
    if mark.mark is Mark.BOTH_BAD:
        detail = f"{decided.chosen_id} and {decided.rejected_id}"
        return Dropped(decided.prompt_id, DropReason.MARKED_BOTH_BAD, detail)
    by_id = {rollout.rollout_id: rollout for rollout in rollouts}
    return _exchanged(decided, by_id[decided.rejected_id], by_id[decided.chosen_id], pairing)


def _exchanged(pair: Pair, better: Rollout, worse: Rollout, pairing: Pairing) -> Pair | Dropped:
    """Both sides as they were generated: a cut is for loops alone, and a loop is not chosen."""
    said = f"{better.rollout_id} over {worse.rollout_id}"
    if pairing.marks is MarksUse.EXCLUDE:
        return Dropped(pair.prompt_id, DropReason.MARKED_FLIPPED, said)
    if (bar := bar_of_form(better, pairing)) is not None:
        return Dropped(pair.prompt_id, DropReason.MARKED_FLIPPED, f"{said}, which may not be chosen: {bar}")
    return replace(
        pair,
        chosen=better.answer,
        rejected=worse.answer,
        chosen_id=better.rollout_id,
        rejected_id=worse.rollout_id,
        chosen_score=pair.rejected_score,
        rejected_score=pair.chosen_score,
        margin=None if pair.margin is None else -pair.margin,
        agreement=None,
        cause=Cause.HUMAN,
        prompt_token_ids=better.prompt_token_ids,
        chosen_token_ids=better.token_ids,
        rejected_token_ids=worse.token_ids,
        rejected_trimmed=False,
        rejected_ended=worse.finished,
    )
