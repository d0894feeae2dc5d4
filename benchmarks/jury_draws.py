"""How often a jury's votes name the better answer: with weights as given, and with weights from gold pairs drawn for it.

The rule that must not break: no pair is scored by weights that it helped to find, and the votes are aggregated by the
functions that a run uses, which have not seen which answer is better.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import correlation, fmean
from typing import get_args

from benchmarks.jury_votes import Case, Style
from factory.judging.aggregation import ALL_ALIKE, Weights, aggregate, sign, weight
from factory.judging.agreement import effective_judges
from factory.judging.gold import Accuracy, counted
from schemas.recipe import Aggregation

WAYS: tuple[Aggregation, ...] = get_args(Aggregation)
GOLD_PAIRS = 50
MORE_GOLD = (100, 200)  # how many of it panels are also tried with
PANEL_DRAWS = 50
Kinds = Sequence[tuple[Case, int]]  # pairs on which everybody says the same are counted, not repeated


@dataclass(frozen=True, slots=True)
class Draw:
    """One draw of gold pairs: accuracy on the other pairs, by aggregation and of each judge alone."""

    by_way: Mapping[Aggregation, float]
    single: Mapping[str, float]
    refused: bool  # gold silences every judge


@dataclass(frozen=True, slots=True)
class Panel:
    """Three judges in one style: accuracy with equal votes, and all its draws of gold."""

    equal: Mapping[Aggregation, float]
    draws: Mapping[int, tuple[Draw, ...]]  # by the number of gold pairs

    def best(self, gold: int) -> str:
        """The judge that is best over all draws."""
        draws = self.draws[gold]
        return max(draws[0].single, key=lambda judge: fmean(one.single[judge] for one in draws))

    def gaps(self, gold: int) -> list[tuple[float, bool]]:
        """Of each draw: gold log-odds less the best single judge; and whether anybody was heard."""
        best = self.best(gold)
        return [(one.by_way["gold_log_odds"] - one.single[best], not one.refused) for one in self.draws[gold]]


def kinds_of(cases: Iterable[Case], panel: Sequence[str]) -> Kinds:
    """By what these judges say of a pair, and which answer is better."""
    found: dict[tuple[object, ...], tuple[Case, int]] = {}
    for case in cases:
        said = tuple(tuple(case.blocks[judge].values()) if judge in case.blocks else None for judge in panel)
        _, number = found.get((*said, case.better), (case, 0))
        found[*said, case.better] = (case, number + 1)
    return list(found.values())


def lead(way: Aggregation, case: Case, panel: Sequence[str], sigmas: Mapping[str, float], weights: Weights) -> float:
    """Of the better answer over the other; 0 where nobody is heard."""
    heard = {judge: case.blocks[judge] for judge in panel if judge in case.blocks and weight(judge, weights) > 0}
    if not heard:
        return 0.0
    score = aggregate(way, heard, sigmas, weights)
    return score[case.better] - score[case.worse]


def accuracy(
    way: Aggregation, kinds: Kinds, panel: Sequence[str], sigmas: Mapping[str, float], weights: Weights = ALL_ALIKE
) -> Accuracy:
    right = sum(n * (sign(lead(way, case, panel, sigmas, weights)) + 1) / 2 for case, n in kinds)
    return Accuracy(right, sum(number for _, number in kinds))


def alone(cases: Iterable[Case], judge: str) -> Accuracy:
    """As `prefactory judges calibrate` counts it."""
    return counted(one.blocks[judge][one.better] - one.blocks[judge][one.worse] for one in cases if judge in one.blocks)


def drawn(
    style: Style, panel: Sequence[str], ways: Sequence[Aggregation], dice: random.Random, gold: int = GOLD_PAIRS
) -> Draw:
    cases = dice.sample(style.cases, len(style.cases))
    weights = {judge: alone(cases[:gold], judge).weight for judge in panel}
    others = kinds_of(cases[gold:], panel)
    return Draw(
        {way: accuracy(way, others, panel, style.sigmas, weights).rate for way in ways},
        {judge: accuracy("mean", others, [judge], style.sigmas).rate for judge in panel},
        refused=not any(weights.values()),
    )


def heard_panel(style: Style, seats: Sequence[str], dice: random.Random) -> Panel:
    kinds = kinds_of(style.cases, seats)
    equal = {way: accuracy(way, kinds, seats, style.sigmas).rate for way in WAYS}
    draws = {GOLD_PAIRS: tuple(drawn(style, seats, WAYS, dice) for _ in range(PANEL_DRAWS))}
    for gold in MORE_GOLD:
        if 2 * gold <= len(style.cases):
            draws[gold] = tuple(drawn(style, seats, ["gold_log_odds"], dice, gold) for _ in range(PANEL_DRAWS))
    return Panel(equal, draws)


def correct_together(style: Style) -> float | None:
    """Independent judges that these are worth by how their right and wrong verdicts go together."""
    votes = [
        {
            number: sign(lead("mean", case, [judge], {}, {}))
            for number, case in enumerate(style.cases)
            if judge in case.blocks
        }
        for judge in style.judges
    ]
    found = []
    for one, other in combinations(votes, 2):
        both = sorted(one.keys() & other.keys())
        x, y = [one[number] for number in both], [other[number] for number in both]
        if len(set(x)) > 1 and len(set(y)) > 1:
            found.append(correlation(x, y))
    return effective_judges(len(style.judges), fmean(found)) if found else None
