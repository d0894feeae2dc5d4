"""From verdicts to a decision: who is judged, whose opinion counts, what each rollout is worth, and what bars it.

Pure: rows in, rows out. The rule that must not break: what is missing never becomes a number. A judge counts for a
prompt only where it scored every rollout that was to be judged there (else its leniency leaks into the comparison), and
then all judges' scores are compared within the prompt alone (`factory.aggregation`). Where a cascade left rollouts out, those
that every judge which was asked has scored are compared, and the others have no score.

Nothing depends on the order of rows: sums are `math.fsum`, which rounds once, or sums of integers.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from factory.aggregation import ALL_ALIKE, Block, Weights, aggregate, centred, scaled, weight
from judges.base import no_score
from judges.injections import looks_injected
from judges.registry import find_verifier
from schemas.recipe import Jury, Pairing
from schemas.rows import Loop, Rollout, Scorecard, Verdict, VerdictStatus

LOOPED, FAILED_CHECK, UNCHECKED, PROVEN = -2, -1, 0, 1  # the tiers; they rank before any score
_DEFAULT_PAIRING = Pairing()
_GRID = 2**40  # a block's sum of squares is kept in units of 2**-40, so that differences under 1e-6 are none
_ASKED_AGAIN = frozenset({VerdictStatus.FAILED, VerdictStatus.UNREADABLE})  # a refusal never; the rest would not change


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
    """Who is judged: every answer but hard loops and texts that are judged already.

    A blank answer that ended by itself is judged (it can be rejected). A blank one that did not is no answer at all:
    there is nothing in it to prefer or to train on. Of equal texts a finished one is judged.
    """
    ordered = sorted(rollouts, key=slot_order)
    failed = tuple(rollout for rollout in ordered if not _answered(rollout))
    loops = tuple(rollout for rollout in ordered if _answered(rollout) and rollout.loop == Loop.HARD)
    rest = [rollout for rollout in ordered if _answered(rollout) and rollout.loop != Loop.HARD]
    first: dict[str, Rollout] = {}
    for rollout in sorted(rest, key=lambda rollout: not rollout.finished):
        first.setdefault(_text(rollout), rollout)
    duplicates = tuple(
        Duplicate(rollout, first[_text(rollout)].rollout_id) for rollout in rest if first[_text(rollout)] is not rollout
    )
    return Candidates(tuple(sorted(first.values(), key=slot_order)), loops, duplicates, failed)


def _answered(rollout: Rollout) -> bool:
    return rollout.error is None and rollout.text is not None and bool(rollout.answer.strip() or rollout.finished)


def _text(rollout: Rollout) -> str:
    return (rollout.text or "").strip()


def skipped_verdicts(rollouts: Sequence[Rollout], names: Sequence[str]) -> tuple[Verdict, ...]:
    """A row for each loop and duplicate and each of these judges or verifiers. An answer that failed has none."""
    who = candidates(rollouts)
    looped = [(rollout, VerdictStatus.SKIPPED_LOOP) for rollout in who.loops]
    repeated = [(duplicate.rollout, VerdictStatus.SKIPPED_DUPLICATE) for duplicate in who.duplicates]
    return tuple(no_score(rollout, name, status) for rollout, status in looped + repeated for name in names)


def quorum(jury: Jury, weights: Weights = ALL_ALIKE) -> int:
    """How many judges must count: max(2, ceil(2J/3)), one of a jury of one, or what the recipe says.

    J leaves out the judges that gold has silenced, and a quorum is never more than J.
    """
    judges = max(1, len(listened_to(jury, weights)))
    return min(judges, jury.quorum or max(2, math.ceil(2 * judges / 3)))


def listened_to(jury: Jury, weights: Weights) -> tuple[str, ...]:
    """The seats whose opinion weighs anything."""
    return tuple(seat for seat in jury.seats if weight(seat, weights) > 0)


def settled_without(verdicts: Iterable[Verdict]) -> frozenset[str]:
    """The judges that a cascade did not ask about a prompt at all."""
    asked: dict[str, bool] = {}
    for verdict in verdicts:
        if verdict.status not in (VerdictStatus.SKIPPED_LOOP, VerdictStatus.SKIPPED_DUPLICATE):
            asked[verdict.judge] = asked.get(verdict.judge, False) or verdict.status != VerdictStatus.NOT_ASKED
    return frozenset(judge for judge, was in asked.items() if not was)


def blocks(judged: Sequence[Rollout], verdicts: Sequence[Verdict], jury: Jury) -> dict[str, Block]:
    """Each judge's raw scores, for the judges that scored every one of `judged` that they were asked about."""
    wanted = {rollout.rollout_id for rollout in judged}
    found: dict[str, dict[str, float]] = {seat: {} for seat in jury.seats}
    spared: dict[str, set[str]] = {}
    for verdict in verdicts:
        if verdict.judge not in found or verdict.rollout_id not in wanted:
            continue
        if verdict.status == VerdictStatus.OK and verdict.score is not None:
            found[verdict.judge][verdict.rollout_id] = verdict.score
        elif verdict.status == VerdictStatus.NOT_ASKED:
            spared.setdefault(verdict.judge, set()).add(verdict.rollout_id)
    return {
        judge: block
        for judge, block in found.items()
        if block and len(block) + len(spared.get(judge, ())) == len(wanted)
    }


def comparable(whole: Mapping[str, Block]) -> dict[str, Block]:
    """The blocks over the rollouts that are in each of them. A cascade asks fewer and fewer; without one nothing changes."""
    if not whole:
        return {}
    shared = set.intersection(*(set(block) for block in whole.values()))
    return {
        judge: block if len(block) == len(shared) else {own: block[own] for own in block if own in shared}
        for judge, block in whole.items()
    }


def needs_requeue(rollouts: Sequence[Rollout], verdicts: Sequence[Verdict], jury: Jury) -> bool:
    """Whether the prompt is short of its quorum, and replies that failed or were unreadable are what it is short of."""
    judged = candidates(rollouts).judged
    whole = blocks(judged, verdicts, jury)
    status = {(verdict.judge, verdict.rollout_id): verdict.status for verdict in verdicts}
    mendable = 0
    for judge in set(jury.seats) - whole.keys():
        said = {status.get((judge, rollout.rollout_id), VerdictStatus.FAILED) for rollout in judged}
        mendable += bool(judged) and said <= _ASKED_AGAIN | {VerdictStatus.OK}
    return len(whole) < quorum(jury) <= len(whole) + mendable


@dataclass(slots=True)
class PooledSpread:
    """Each judge's within-prompt SD over a run, in one pass over its prompts and equal for every order of them.

        sigma[j]² = Σ over prompts Σ over i of (s[j,i] - mean over i)² / Σ over prompts (n - 1)

    n: the judged rollouts of a prompt. Each prompt costs one degree of freedom, its mean; a prompt with one judged
    rollout, or that the judge did not score whole, has none to give. Shards are added apart and merged.
    """

    squares: dict[str, int] = field(default_factory=dict)  # in units of 1/_GRID: integers add up alike in any order
    degrees: dict[str, int] = field(default_factory=dict)

    def add(self, rollouts: Sequence[Rollout], verdicts: Sequence[Verdict], jury: Jury) -> None:
        """One prompt's rollouts and verdicts."""
        for judge, block in blocks(candidates(rollouts).judged, verdicts, jury).items():
            squares = math.fsum(d * d for d in centred(block).values())
            self._count(judge, round(squares * _GRID), len(block) - 1)

    def merge(self, other: "PooledSpread") -> None:
        for judge, squares in other.squares.items():
            self._count(judge, squares, other.degrees[judge])

    def _count(self, judge: str, squares: int, degrees: int) -> None:
        self.squares[judge] = self.squares.get(judge, 0) + squares
        self.degrees[judge] = self.degrees.get(judge, 0) + degrees

    def sigmas(self) -> dict[str, float]:
        """By judge. A judge that never told two rollouts of one prompt apart says nothing, and is not in it."""
        return {
            judge: math.sqrt(squares / _GRID / self.degrees[judge])
            for judge, squares in sorted(self.squares.items())
            if squares > 0 and self.degrees[judge] > 0
        }


def tier(rollout_id: str, verdicts: Iterable[Verdict], jury: Jury) -> int:
    """By the verifiers alone: one failed check outweighs any pass, and a pass counts where the verifier proves."""
    checks = [v for v in verdicts if v.rollout_id == rollout_id and v.judge in jury.verifiers]
    scores = {check.judge: check.score for check in checks if check.status == VerdictStatus.OK}
    if any(score == 0.0 for score in scores.values()):
        return FAILED_CHECK
    return PROVEN if any(find_verifier(name).proves for name in scores) else UNCHECKED


def bars(
    rollouts: Sequence[Rollout], verdicts: Sequence[Verdict], jury: Jury, pairing: Pairing
) -> dict[str, Bar | None]:
    """What keeps each rollout from being chosen, by rollout_id; None: nothing does.

    A check that hung or died leaves its rollout where no check would, but bars it: a text that breaks the verifier must
    not win by that.
    """
    who = candidates(rollouts)
    tiers = {rollout.rollout_id: tier(rollout.rollout_id, verdicts, jury) for rollout in who.judged}
    back = {(v.judge, v.rollout_id) for v in verdicts if v.status in (VerdictStatus.OK, VerdictStatus.ABSTAINED)}
    barred: dict[str, Bar | None] = {rollout.rollout_id: Bar.NO_ANSWER for rollout in who.failed}
    barred |= {rollout.rollout_id: Bar.LOOPED for rollout in who.loops}
    barred |= {duplicate.rollout.rollout_id: Bar.DUPLICATE for duplicate in who.duplicates}
    for rollout in who.judged:
        own = rollout.rollout_id
        if tiers[own] == FAILED_CHECK:
            barred[own] = Bar.FAILED_CHECK
        elif tiers[own] < max(tiers.values()):
            barred[own] = Bar.NOT_PROVEN
        elif any((name, own) not in back for name in jury.verifiers):
            barred[own] = Bar.UNCHECKED
        else:
            barred[own] = _bar_of_form(rollout, pairing)
    return barred


def _bar_of_form(rollout: Rollout, pairing: Pairing) -> Bar | None:
    """What the answer's own form has against it."""
    if rollout.loop == Loop.SOFT:
        return Bar.SOFT_LOOP
    if not _text(rollout):
        return Bar.BLANK
    if looks_injected(rollout.text or ""):
        return Bar.INJECTION
    return None if rollout.finished or pairing.allow_unfinished else Bar.UNFINISHED


def score_prompt(
    prompt_id: str,
    rollouts: Sequence[Rollout],
    verdicts: Sequence[Verdict],
    jury: Jury,
    sigmas: Mapping[str, float],
    pairing: Pairing = _DEFAULT_PAIRING,
    weights: Weights = ALL_ALIKE,
) -> tuple[Scorecard, ...]:
    """One scorecard for each rollout, in slot order; a duplicate stands where the judged rollout of its text stands.

    `sigmas` is PooledSpread's, over the whole run. A judge without one is left out, but for a prompt with one judged
    rollout, where there is nothing to tell apart and every score is 0. `pairing` says how scores are aggregated, and has a say
    in `eligible`. `weights` is by judge; one of weight 0 is not heard.
    """
    who = candidates(rollouts)
    whole = blocks(who.judged, verdicts, jury)
    heard = heard_blocks(whole, jury, sigmas, weights)
    scores = aggregate(pairing.aggregation, heard, sigmas, weights) if heard else {}
    z_scores = [scaled(block, sigmas.get(judge, 1.0)) for judge, block in heard.items()]
    barred = bars(rollouts, verdicts, jury, pairing)
    left_out = _left_out(jury, whole, heard, verdicts, weights) if who.judged else ()
    same_text = {duplicate.rollout.rollout_id: duplicate.of for duplicate in who.duplicates}
    cards = []
    for rollout in sorted(rollouts, key=slot_order):
        own = rollout.rollout_id
        like = same_text.get(own, own)
        z = [block[like] for block in z_scores if like in block]
        bar = barred[own]
        cards.append(
            Scorecard(
                prompt_id=prompt_id,
                rollout_id=own,
                tier=LOOPED if bar is Bar.LOOPED else tier(like, verdicts, jury),
                score=scores.get(like),
                spread=_sample_sd(z),
                judges=len(heard),
                eligible=bar is None,
                note="; ".join([*([bar] if bar else []), *left_out]) or None,
            )
        )
    return tuple(cards)


def heard_blocks(
    whole: Mapping[str, Block], jury: Jury, sigmas: Mapping[str, float], weights: Weights
) -> dict[str, Block]:
    """The blocks that are aggregated: of judges that weigh something and tell answers apart, over the same rollouts."""
    listened = listened_to(jury, weights)
    heard = {
        judge: block
        for judge, block in sorted(whole.items())
        if judge in listened and (judge in sigmas or len(block) == 1)
    }
    return comparable(heard)


def _sample_sd(values: Sequence[float]) -> float | None:
    """With n - 1; None of fewer than two."""
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _left_out(
    jury: Jury,
    whole: Mapping[str, Block],
    heard: Mapping[str, Block],
    verdicts: Sequence[Verdict],
    weights: Weights,
) -> tuple[str, ...]:
    spared, listened = settled_without(verdicts), listened_to(jury, weights)
    notes = []
    for name in jury.seats:
        if name in spared:
            notes.append(f"{name} was not needed")
        elif name not in whole:
            notes.append(f"{name} did not score every answer")
        elif name not in listened:
            notes.append(f"{name} weighs nothing")
        elif name not in heard:
            notes.append(f"{name} tells no two answers apart")
    return tuple(notes)
