"""From verdicts to a standing: whose opinion counts about a prompt, what each rollout is worth, and what bars it.

Pure: rows in, rows out. The rule that must not break: what is missing never becomes a number. A judge counts for a
prompt only where it scored every rollout that was to be judged there (else its leniency leaks into the comparison), and
then all judges' scores are compared within the prompt alone (`factory.judging.aggregation`). Where a cascade left rollouts out,
those that every judge which was asked has scored are compared, and the others have no score.

Nothing depends on the order of rows: sums are `math.fsum`, which rounds once, or sums of integers.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from factory.judging.aggregation import ALL_ALIKE, Block, Weights, aggregate, scaled, weight
from factory.judging.candidates import Candidates, candidates, slot_order
from factory.judging.eligibility import LOOPED, UNCHECKED, Bar, bars, tiers
from schemas.recipe import Jury, Pairing
from schemas.rows import Rollout, Scorecard, Verdict, VerdictStatus

_ASKED_AGAIN = frozenset({VerdictStatus.FAILED, VerdictStatus.UNREADABLE})  # a refusal never; the rest would not change


@dataclass(frozen=True)
class Rules:
    """All that a run decides by besides its rows.

    `sigmas` is PooledSpread's, over the whole run. A judge without one is left out, but for a prompt with one judged
    rollout, where there is nothing to tell apart and every score is 0. `weights` is by judge; one of weight 0 is not heard.
    """

    jury: Jury
    sigmas: Mapping[str, float]
    pairing: Pairing = field(default_factory=Pairing)
    weights: Weights = field(default_factory=dict)

    @cached_property
    def seats(self) -> tuple[str, ...]:
        return self.jury.seats

    @cached_property
    def listened(self) -> tuple[str, ...]:
        return listened_to(self.jury, self.weights)

    @cached_property
    def quorum(self) -> int:
        return quorum(self.jury, self.weights)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of one prompt's rollouts before any two of them are compared. Mappings are by rollout_id, but `opinions`,
    by judge: the raw scores that were aggregated, of judges that count, over the rollouts that are compared.
    """

    who: Candidates
    tiers: Mapping[str, int]  # of those that are judged
    barred: Mapping[str, Bar | None]
    opinions: Mapping[str, Block]
    scores: Mapping[str, float]  # S of those that are compared
    spared: frozenset[str]  # judges that a cascade did not ask
    notes: tuple[str, ...]  # why the others do not count


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
            asked[verdict.judge] = asked.get(verdict.judge, False) or verdict.status is not VerdictStatus.NOT_ASKED
    return frozenset(judge for judge, was in asked.items() if not was)


def blocks(judged: Sequence[Rollout], verdicts: Sequence[Verdict], seats: Sequence[str]) -> dict[str, Block]:
    """Each judge's raw scores, for the judges that scored every one of `judged` that they were asked about."""
    wanted = {rollout.rollout_id for rollout in judged}
    found: dict[str, dict[str, float]] = {seat: {} for seat in seats}
    spared: dict[str, set[str]] = {}
    for verdict in verdicts:
        if verdict.judge not in found or verdict.rollout_id not in wanted:
            continue
        if verdict.status is VerdictStatus.OK and verdict.score is not None:
            found[verdict.judge][verdict.rollout_id] = verdict.score
        elif verdict.status is VerdictStatus.NOT_ASKED:
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


def needs_requeue(
    rollouts: Sequence[Rollout], verdicts: Sequence[Verdict], jury: Jury, weights: Weights = ALL_ALIKE
) -> bool:
    """Whether the prompt is short of its quorum, and replies that failed or were unreadable are what it is short of.

    Judges that gold has silenced neither fill the quorum nor are worth asking for it.
    """
    judged, listened = candidates(rollouts).judged, listened_to(jury, weights)
    whole = blocks(judged, verdicts, listened)
    status = {(verdict.judge, verdict.rollout_id): verdict.status for verdict in verdicts}
    mendable = 0
    for judge in set(listened) - whole.keys():
        said = {status.get((judge, rollout.rollout_id), VerdictStatus.FAILED) for rollout in judged}
        asked = said - {VerdictStatus.NOT_ASKED}
        mendable += bool(asked) and asked <= _ASKED_AGAIN | {VerdictStatus.OK}
    return len(whole) < quorum(jury, weights) <= len(whole) + mendable


def stand(rollouts: Sequence[Rollout], verdicts: Sequence[Verdict], rules: Rules) -> Standing:
    """One prompt's rollouts and verdicts, in any order, to what is known of them."""
    who, verifiers = candidates(rollouts), rules.jury.verifiers
    tier = tiers(who.judged, verdicts, verifiers)
    whole = blocks(who.judged, verdicts, rules.seats)
    heard = heard_blocks(whole, rules)
    spared = settled_without(verdicts)
    return Standing(
        who=who,
        tiers=tier,
        barred=bars(who, tier, verdicts, verifiers, rules.pairing),
        opinions=heard,
        scores=aggregate(rules.pairing.aggregation, heard, rules.sigmas, rules.weights) if heard else {},
        spared=spared,
        notes=_left_out(whole, heard, spared, rules) if who.judged else (),
    )


def heard_blocks(whole: Mapping[str, Block], rules: Rules) -> dict[str, Block]:
    """The blocks that are aggregated: of judges that weigh something and tell answers apart, over the same rollouts."""
    heard = {
        judge: block
        for judge, block in sorted(whole.items())
        if judge in rules.listened and (judge in rules.sigmas or len(block) == 1)
    }
    return comparable(heard)


def _left_out(
    whole: Mapping[str, Block], heard: Mapping[str, Block], spared: frozenset[str], rules: Rules
) -> tuple[str, ...]:
    notes = []
    for name in rules.seats:
        if name in heard:
            continue
        if name in spared:
            notes.append(f"{name} was not needed")
        elif name not in whole:
            notes.append(f"{name} did not score every answer")
        elif name not in rules.listened:
            notes.append(f"{name} weighs nothing")
        else:
            notes.append(f"{name} tells no two answers apart")
    return tuple(notes)


def scorecards(standing: Standing, rules: Rules) -> tuple[Scorecard, ...]:
    """One for each rollout, in slot order; a duplicate stands where the judged rollout of its text stands."""
    z_scores = [scaled(block, rules.sigmas.get(judge, 1.0)) for judge, block in standing.opinions.items()]
    who = standing.who
    like = {duplicate.rollout.rollout_id: duplicate.of for duplicate in who.duplicates}
    everyone = [*who.judged, *who.loops, *(duplicate.rollout for duplicate in who.duplicates), *who.failed]
    return tuple(_scorecard(rollout, standing, z_scores, like) for rollout in sorted(everyone, key=slot_order))


def _scorecard(
    rollout: Rollout, standing: Standing, z_scores: Sequence[Block], same_text: Mapping[str, str]
) -> Scorecard:
    own = rollout.rollout_id
    like = same_text.get(own, own)
    bar = standing.barred[own]
    return Scorecard(
        prompt_id=rollout.prompt_id,
        rollout_id=own,
        tier=LOOPED if bar is Bar.LOOPED else standing.tiers.get(like, UNCHECKED),
        score=standing.scores.get(like),
        spread=_sample_sd([block[like] for block in z_scores if like in block]),
        judges=len(standing.opinions),
        eligible=bar is None,
        note="; ".join([*([bar] if bar else []), *standing.notes]) or None,
    )


def _sample_sd(values: Sequence[float]) -> float | None:
    """With n - 1; None of fewer than two."""
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
