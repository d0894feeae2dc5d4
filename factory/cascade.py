"""Who the next judge of a cascade hears: the rollouts that may still be chosen or rejected, or nobody.

Pure. The first judges hear everything. After each judge, the rollouts that can no longer become the best or the worst leave,
and where one best and one worst are left the prompt is settled and the other judges are spared. How near is near shrinks
with every judge that was heard, since fewer are left who could change the picture:

    a rollout stays while S is within  margin · (J - k) / (J - first)  of the best (or the worst)

S: the scaled mean over the k of J judges heard so far. The rule that must not break: a rollout that leaves was scored by
every judge that was heard till then, so whoever stays to the end is compared by the same judges.
"""

from collections.abc import Mapping, Sequence

from factory.aggregation import Weights, aggregate
from factory.candidates import candidates
from factory.eligibility import bars, tiers
from factory.jury import Rules, blocks, heard_blocks
from schemas.recipe import Cascade, Jury, Pairing
from schemas.rows import Rollout, Verdict


def waves(jury: Jury) -> list[tuple[str, ...]]:
    """The seats in the order in which they are heard: the first together, the others one by one."""
    seats = jury.seats
    if jury.cascade is None:
        return [seats]
    first = jury.cascade.first
    return [seats[:first], *((seat,) for seat in seats[first:])]


def contenders(
    rollouts: Sequence[Rollout],
    verdicts: Sequence[Verdict],
    heard: int,
    jury: Jury,
    pairing: Pairing,
    sigmas: Mapping[str, float],
    weights: Weights,
) -> frozenset[str]:
    """The rollout_ids that the next judge is asked about; empty where the prompt is settled.

    `heard`: how many seats were asked so far. `verdicts` holds theirs, and the verifiers'. Where none of them can be used,
    every judged rollout stays. `sigmas` is pooled over the run for the judges heard.
    """
    cascade = jury.cascade
    assert cascade is not None, "without a cascade every judge hears everything"
    rules = Rules(jury, sigmas, pairing, weights)
    who = candidates(rollouts)
    tier = tiers(who.judged, verdicts, jury.verifiers)
    barred = bars(who, tier, verdicts, jury.verifiers, pairing)
    if all(barred[rollout.rollout_id] is not None for rollout in who.judged):
        return frozenset()  # nothing may be chosen, whatever anybody says
    own = heard_blocks(blocks(who.judged, verdicts, rules.seats), rules)
    if not own:
        return frozenset(rollout.rollout_id for rollout in who.judged)
    score = aggregate("scaled", own, sigmas, weights)
    near = _near(cascade, heard, len(jury.judges))
    best = _nearest({key: s for key, s in score.items() if barred[key] is None}, near)
    worst = frozenset() if who.loops else _worst(score, best, tier, near)
    settled = len(best) == 1 and len(worst) <= 1
    return frozenset() if settled else best | worst


def _near(cascade: Cascade, heard: int, judges: int) -> float:
    """In pooled within-prompt SDs."""
    return cascade.margin * (judges - heard) / (judges - cascade.first)


def _nearest(score: Mapping[str, float], near: float) -> frozenset[str]:
    if not score:
        return frozenset()
    top = max(score.values())
    return frozenset(key for key, s in score.items() if s >= top - near)


def _worst(score: Mapping[str, float], best: frozenset[str], tier: Mapping[str, int], near: float) -> frozenset[str]:
    """Of the lowest tier there is: a failed check outranks every opinion. The one best is not its own worst."""
    others = {key: s for key, s in score.items() if best != {key}}
    lowest = min((tier[key] for key in others), default=0)
    return _nearest({key: -s for key, s in others.items() if tier[key] == lowest}, near)
