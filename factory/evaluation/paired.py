"""Intervals for shares, and for the difference of two shares over the same questions. Pure.

The rule that must not break: two checkpoints are compared over pairs of answers to the same question, never as two
independent samples. Most questions are answered alike by both, and only the others say anything.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from factory.wilson import wilson


@dataclass(frozen=True, slots=True)
class Rate:
    """`hits` of `of`; hits may be halves where ties count half."""

    hits: float
    of: int

    @property
    def value(self) -> float | None:
        return self.hits / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95% score interval (Wilson, JASA 22, 1927, p. 209); (0, 1) of nothing.

        With halves it is a little too wide, since ties vary less than the binomial distribution does.
        """
        return wilson(self.hits, self.of)


@dataclass(frozen=True, slots=True)
class Paired:
    """What became of each question with the two checkpoints: how many were hits with both, one, or neither."""

    both: int
    before: int  # a hit only with the first
    after: int  # a hit only with the second
    neither: int

    @classmethod
    def of(cls, outcomes: Iterable[tuple[bool, bool]]) -> "Paired":
        """`outcomes`: (with the first, with the second) for each question."""
        found = list(outcomes)
        return cls(*(found.count(kind) for kind in ((True, True), (True, False), (False, True), (False, False))))

    @property
    def n(self) -> int:
        return self.both + self.before + self.after + self.neither

    @property
    def rates(self) -> tuple[Rate, Rate]:
        return Rate(self.both + self.before, self.n), Rate(self.both + self.after, self.n)

    @property
    def difference(self) -> float | None:
        """Rate with the second less rate with the first."""
        return (self.after - self.before) / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of the difference; (-1, 1) of nothing.

        Newcombe, Statistics in Medicine 17, 1998, p. 2635, method 10: Wilson's intervals of the two rates, squared and
        added, less what the two have in common. It keeps its width where no question, or every one, changed.
        """
        if (difference := self.difference) is None:
            return -1.0, 1.0
        (first, second), phi = self.rates, self._phi()
        (l1, u1), (l2, u2) = first.interval, second.interval
        p1, p2 = first.hits / self.n, second.hits / self.n
        down = _added(p2 - l2, u1 - p1, phi)
        up = _added(u2 - p2, p1 - l1, phi)
        return max(-1.0, difference - down), min(1.0, difference + up)

    def _phi(self) -> float:
        """Correlation of the two outcomes, with the continuity correction of method 10; 0 where a margin is empty."""
        margins = (
            (self.both + self.before)
            * (self.after + self.neither)
            * (self.both + self.after)
            * (self.before + self.neither)
        )
        if not margins:
            return 0.0
        crossed = float(self.both * self.neither - self.before * self.after)
        if crossed > 0:
            crossed = max(crossed - self.n / 2, 0.0)
        return crossed / math.sqrt(margins)

    @property
    def p_value(self) -> float:
        """McNemar's test, exact and two-sided: how likely so uneven a change is if both are equally good.

        McNemar, Psychometrika 12, 1947; the binomial form for few changes.
        """
        changed, fewer = self.before + self.after, min(self.before, self.after)
        tail = sum(math.comb(changed, k) for k in range(fewer + 1))
        return float(min(Fraction(1), Fraction(2 * tail, 2**changed)))  # neither is a float beyond a thousand changes


def _added(own: float, other: float, phi: float) -> float:
    return math.sqrt(max(0.0, own * own - 2 * phi * own * other + other * other))
