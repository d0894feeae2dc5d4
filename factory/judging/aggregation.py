"""From the judges' scores of one prompt to one score for each rollout: the ways there are to do it.

Pure, and over one prompt: blocks in, scores out. Every way puts 0 in the middle of the prompt, knows no order of judges
or rollouts, and takes weights. The rule that must not break: a missing score is never filled in; a block that reaches
here is whole.

    d[j,i] = s[j,i] - mean over i of s[j,·]      within the prompt: leniency and difficulty cancel
    z[j,i] = d[j,i] / sigma[j]                   sigma[j]: judge j's within-prompt SD, pooled over the run

| way           | S[i]                                                      | its unit, which is the margin's     |
|---------------|-----------------------------------------------------------|-------------------------------------|
| scaled        | weighted mean over j of z[j,i]                            | pooled within-prompt SDs            |
| mean          | weighted mean over j of d[j,i]                            | grades                              |
| median        | weighted median over j of d[j,i]                          | grades                              |
| borda         | weighted mean over j of the share of the others beaten    | shares of the other rollouts        |
| copeland      | share of the others that a majority sets behind i, less   | shares of the other rollouts        |
|               | the share that it sets before i                           |                                     |
| bradley_terry | log strength under wins weighted by judge                 | log-odds of being preferred         |
| gold_log_odds | mean over the others of the sum of w[j] for and against   | log-odds, with weights from gold    |
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from schemas.recipe import Aggregation

Block = Mapping[str, float]  # one judge's raw scores of one prompt, by rollout_id
Weights = Mapping[str, float]  # by judge; a judge that is not in it weighs 1

ALL_ALIKE: Final[Weights] = {}
TIE: Final = 1e-6  # raw scores nearer than this are equal
_PRIOR: Final = 0.1  # virtual wins of each over each, so that an unbeaten rollout has a finite strength
_STEPS: Final = 200
_SETTLED: Final = 1e-10


def weight(judge: str, weights: Weights) -> float:
    return weights.get(judge, 1.0)


def centred(block: Block) -> dict[str, float]:
    mean = math.fsum(block.values()) / len(block)
    return {rollout_id: score - mean for rollout_id, score in block.items()}


def scaled(block: Block, sigma: float) -> dict[str, float]:
    return {rollout_id: d / sigma for rollout_id, d in centred(block).items()}


def aggregate(
    way: Aggregation, blocks: Mapping[str, Block], sigmas: Mapping[str, float], weights: Weights
) -> dict[str, float]:
    """S of each rollout. `blocks` holds judges that all scored the same rollouts, at least one of both.

    A judge without a sigma is not scaled; each weight is above 0.
    """
    return _WAYS[way](blocks, sigmas, weights)


def _scaled(blocks: Mapping[str, Block], sigmas: Mapping[str, float], weights: Weights) -> dict[str, float]:
    return _weighted_mean({judge: scaled(block, sigmas.get(judge, 1.0)) for judge, block in blocks.items()}, weights)


def _mean(blocks: Mapping[str, Block], sigmas: Mapping[str, float], weights: Weights) -> dict[str, float]:
    return _weighted_mean({judge: centred(block) for judge, block in blocks.items()}, weights)


def _weighted_mean(values: Mapping[str, Block], weights: Weights) -> dict[str, float]:
    whole = math.fsum(weight(judge, weights) for judge in values)
    return {
        rollout_id: math.fsum(weight(judge, weights) * block[rollout_id] for judge, block in values.items()) / whole
        for rollout_id in _rollouts(values)
    }


def _median(blocks: Mapping[str, Block], sigmas: Mapping[str, float], weights: Weights) -> dict[str, float]:
    own = {judge: centred(block) for judge, block in blocks.items()}
    return {
        rollout_id: _weighted_median([(block[rollout_id], weight(judge, weights)) for judge, block in own.items()])
        for rollout_id in _rollouts(blocks)
    }


def _weighted_median(values: Sequence[tuple[float, float]]) -> float:
    """The middle of the weight; the mean of the two that it falls between."""
    half = math.fsum(own for _, own in values) / 2
    below, ordered = 0.0, sorted(values)
    for number, (value, own) in enumerate(ordered):
        below += own
        if math.isclose(below, half, rel_tol=1e-9) and number + 1 < len(ordered):
            return (value + ordered[number + 1][0]) / 2
        if below > half:
            return value
    return ordered[-1][0]


def _borda(blocks: Mapping[str, Block], sigmas: Mapping[str, float], weights: Weights) -> dict[str, float]:
    """Borda's count with half points for ties, over what a winner of all gets, less one half."""
    return _weighted_mean({judge: _beaten(block) for judge, block in blocks.items()}, weights)


def _beaten(block: Block) -> dict[str, float]:
    others = max(1, len(block) - 1)
    return {
        one: math.fsum((sign(score - other) + 1) / 2 for key, other in block.items() if key != one) / others
        - (0.5 if len(block) > 1 else 0.0)
        for one, score in block.items()
    }


def _copeland(blocks: Mapping[str, Block], sigmas: Mapping[str, float], weights: Weights) -> dict[str, float]:
    found = _rollouts(blocks)
    others = max(1, len(found) - 1)
    return {
        one: math.fsum(sign(_votes(blocks, weights, one, other)) for other in found if other != one) / others
        for one in found
    }


def _gold_log_odds(blocks: Mapping[str, Block], sigmas: Mapping[str, float], weights: Weights) -> dict[str, float]:
    """With w = log(a / (1 - a)) the sum is the log-odds that `one` is better, were the judges independent of each other."""
    found = _rollouts(blocks)
    others = max(1, len(found) - 1)
    return {
        one: math.fsum(_votes(blocks, weights, one, other) for other in found if other != one) / others for one in found
    }


def _votes(blocks: Mapping[str, Block], weights: Weights, one: str, other: str) -> float:
    """The weight of the judges that prefer `one`, less that of those that prefer `other`."""
    return math.fsum(weight(judge, weights) * sign(block[one] - block[other]) for judge, block in blocks.items())


def _bradley_terry(blocks: Mapping[str, Block], sigmas: Mapping[str, float], weights: Weights) -> dict[str, float]:
    """Minorisation-maximisation (Hunter, Annals of Statistics 32, 2004); a tie is half a win for each."""
    found = _rollouts(blocks)
    wins = {
        (one, other): _PRIOR
        + math.fsum(weight(judge, weights) * (sign(b[one] - b[other]) + 1) / 2 for judge, b in blocks.items())
        for one in found
        for other in found
        if one != other
    }
    total = {one: math.fsum(wins[one, other] for other in found if other != one) for one in found}
    strength = dict.fromkeys(found, 1.0)
    for _ in range(_STEPS if len(found) > 1 else 0):
        new = {
            one: total[one]
            / math.fsum(
                (wins[one, other] + wins[other, one]) / (strength[one] + strength[other])
                for other in found
                if other != one
            )
            for one in found
        }
        middle = math.exp(math.fsum(map(math.log, new.values())) / len(new))
        new = {one: value / middle for one, value in new.items()}
        moved = max(abs(new[one] - strength[one]) for one in found)
        strength = new
        if moved < _SETTLED:
            break
    return {one: math.log(value) for one, value in strength.items()}


def sign(difference: float) -> int:
    """1, -1, or 0 where two raw scores are equal."""
    return (difference > TIE) - (difference < -TIE)


def _rollouts(blocks: Mapping[str, Block]) -> list[str]:
    """In one order, so that every sum is the same sum."""
    return sorted(next(iter(blocks.values())))


_Way = Callable[[Mapping[str, Block], Mapping[str, float], Weights], dict[str, float]]
_WAYS: dict[Aggregation, _Way] = {
    "scaled": _scaled,
    "mean": _mean,
    "median": _median,
    "borda": _borda,
    "copeland": _copeland,
    "bradley_terry": _bradley_terry,
    "gold_log_odds": _gold_log_odds,
}
