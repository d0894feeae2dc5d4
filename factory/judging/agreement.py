"""How far judges agree: Krippendorff's alpha, Kendall's tau-b, and how many independent judges a jury is worth.

Pure and streaming: one prompt at a time, sums of integers, so that neither the order of prompts nor their number changes
a figure. Scores are kept in units of 2**-20.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final

from factory.judging.aggregation import Block, sign

_GRID: Final = 2**20


def on_grid(value: float) -> int:
    return round(value * _GRID)


@dataclass(slots=True)
class Alpha:
    """Krippendorff's alpha for interval data, in closed form (Krippendorff, Content Analysis, 4th ed., chapter 12).

        alpha = 1 - D_o / D_e
        D_o = 1/n Σ over units of (2 m Σx² - 2 (Σx)²) / (m - 1)        within a unit of m ratings
        D_e = (2 n Σx² - 2 (Σx)²) / (n (n - 1))                       over all n ratings

    A unit with one rating says nothing and is left out. No table of value pairs is kept: with real-valued scores that table
    grows with the square of the number of ratings.
    """

    n: int = 0
    total: int = 0
    squares: int = 0
    within: dict[int, int] = field(default_factory=dict)  # by m - 1

    def add(self, ratings: Sequence[float]) -> None:
        """One unit: what each judge that rated it said."""
        m = len(ratings)
        if m < 2:
            return
        on = [on_grid(rating) for rating in ratings]
        total, squares = sum(on), sum(x * x for x in on)
        self.n += m
        self.total += total
        self.squares += squares
        self.within[m - 1] = self.within.get(m - 1, 0) + 2 * m * squares - 2 * total * total

    def value(self) -> float | None:
        """None where nothing was rated twice, or every rating is the same."""
        expected = 2 * self.n * self.squares - 2 * self.total * self.total
        if self.n < 2 or expected == 0:
            return None
        observed = math.fsum(part / below for below, part in self.within.items())
        return 1.0 - observed * (self.n - 1) / expected


@dataclass(slots=True)
class Correlations:
    """Pearson's r of two judges' prompt-centred scores, pooled over prompts, for each two of them."""

    products: dict[tuple[str, str], int] = field(default_factory=dict)
    first: dict[tuple[str, str], int] = field(default_factory=dict)  # Σx² over what both scored
    second: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, centred: Mapping[str, Block]) -> None:
        """One prompt: each judge's centred scores."""
        for one, other in combinations(sorted(centred), 2):
            x, y = centred[one], centred[other]
            for rollout_id in x.keys() & y.keys():
                a, b = on_grid(x[rollout_id]), on_grid(y[rollout_id])
                key = (one, other)
                self.products[key] = self.products.get(key, 0) + a * b
                self.first[key] = self.first.get(key, 0) + a * a
                self.second[key] = self.second.get(key, 0) + b * b

    def mean(self) -> float | None:
        """The mean over all twos that have a correlation."""
        found = [
            product / math.sqrt(self.first[key] * self.second[key])
            for key, product in sorted(self.products.items())
            if self.first[key] and self.second[key]
        ]
        return math.fsum(found) / len(found) if found else None


def effective_judges(judges: int, mean_correlation: float) -> float:
    """n_eff = J / (1 + (J - 1) r): the number of independent judges whose mean is as good (Kish's design effect)."""
    below = 1 + (judges - 1) * max(mean_correlation, -1 / max(1, judges))
    return judges / below


def tau_b(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Kendall's tau-b (Kendall, Biometrika 33, 1945) of two sequences of equal length; None where one is all ties."""
    pro = con = only_x = only_y = 0
    for i, j in combinations(range(len(x)), 2):
        a, b = sign(x[i] - x[j]), sign(y[i] - y[j])
        if a and b:
            pro += a == b
            con += a != b
        else:
            only_x += bool(a)  # tied in y alone
            only_y += bool(b)
    whole = (pro + con + only_x) * (pro + con + only_y)
    return (pro - con) / math.sqrt(whole) if whole else None
