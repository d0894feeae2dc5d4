"""Who the next judge of a cascade hears: the rollouts that may still be chosen or rejected, or nobody.

Pure. The first judges hear whoever opinion can make a difference to: nobody where nothing may be chosen, and where a hard
loop is what gets rejected those that may be chosen. After each judge, the rollouts that can no longer become the best or
the worst leave, and where one best and one worst are left on which the judges agree the prompt is settled and the other
judges are spared. How near is near shrinks with every judge that was heard, since fewer are left who could change the picture:

    a rollout stays while S is within  margin · (J - k) / (J - first)  of the best (or the worst)

S: the scaled mean over the k of J judges heard so far. The rule that must not break: a rollout that leaves was scored by
every judge that was heard till then, so whoever stays to the end is compared by the same judges. A hard negative, too, is
looked for among them alone.
"""

import math
from collections.abc import Mapping, Sequence

from factory.judging.aggregation import TIE, Block, Weights, aggregate, weight
from factory.judging.candidates import candidates
from factory.judging.eligibility import FAILED_CHECK, bars, tiers
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
    everybody stays who opinion can choose or reject. `sigmas` is pooled over the run for the judges heard.
    """
    cascade = jury.cascade
    assert cascade is not None, "without a cascade every judge hears everything"
    rules, who = Rules(jury, sigmas, pairing, weights), candidates(rollouts)
    tier = tiers(who.judged, verdicts, jury.verifiers)
    barred = bars(who, tier, verdicts, jury.verifiers, pairing)
    own = heard_blocks(blocks(who.judged, verdicts, rules.seats), rules)
    score = aggregate("scaled", own, sigmas, weights) if own else dict.fromkeys(tier, 0.0)
    near = _near(cascade, heard, len(jury.judges)) if own else 0.0
    best = _nearest({key: s for key, s in score.items() if barred[key] is None}, near)
    if not best or (len(tier) < 2 and not who.loops):
        return frozenset()  # there is no pair in it, whatever anybody says
    loop_is_rejected = who.loops and pairing.loop_share is None  # under a cap it may be the worst of the others
    worst = frozenset() if loop_is_rejected else _worst(score, best, tier, near)
    if own and len(best) == 1 and len(worst) <= 1 and _agreed(best, worst, own, tier, rules):
        return frozenset()
    return best | worst


def _agreed(
    best: frozenset[str], worst: frozenset[str], own: Mapping[str, Block], tier: Mapping[str, int], rules: Rules
) -> bool:
    """Whether the judges heard so far would let the pair pass; where they would not, the next ones may."""
    if not worst or tier[min(worst)] == FAILED_CHECK:
        return True
    (chosen,), (rejected,) = best, worst
    weights = {judge: weight(judge, rules.weights) for judge in own}
    apart = [judge for judge, block in own.items() if block[chosen] - block[rejected] > TIE]
    for_chosen = math.fsum(weights[judge] for judge in apart)
    return for_chosen >= (rules.pairing.agreement - TIE) * math.fsum(weights.values())


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
