"""What differs between two runs: the difference of two rates with its interval.

The rule that must not break: the runs may have had other prompts. A difference says that their figures differ, and nothing
about why.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from factory.looking.report_figures import Rate, RunReport
from schemas.rows import Cause


@dataclass(frozen=True, slots=True)
class Difference:
    """Of a rate: the second run's less the first's, with its 95% interval."""

    what: str
    first: Rate
    second: Rate

    @property
    def value(self) -> float:
        return self.second.value - self.first.value

    @property
    def interval(self) -> tuple[float, float]:
        """Newcombe's hybrid score interval (Statistics in Medicine 17, 1998, method 10)."""
        (low_a, high_a), (low_b, high_b) = self.first.interval, self.second.interval
        a, b = self.first.value, self.second.value
        return (
            self.value - math.hypot(b - low_b, high_a - a),
            self.value + math.hypot(high_b - b, a - low_a),
        )

    @property
    def clear(self) -> bool:
        low, high = self.interval
        return low > 0 or high < 0


def differences(first: RunReport, second: RunReport) -> tuple[Difference, ...]:
    """Of every rate that both runs have."""
    marked = any(Cause.HUMAN in run.figures.causes for run in (first, second))  # people mark the pairs of few runs
    causes = [cause for cause in Cause if marked or cause is not Cause.HUMAN]
    mine, theirs = (dict(_rates(run, causes)) for run in (first, second))
    return tuple(Difference(what, mine[what], theirs[what]) for what in mine if what in theirs)


def _rates(run: RunReport, causes: Sequence[Cause]) -> Iterator[tuple[str, Rate]]:
    for decoding in ("greedy", "sampled"):
        if (rate := run.rate(decoding)) is not None:
            yield f"hard loops, {decoding}", rate
    counted = run.figures
    if counted.prompts:
        yield "prompts that made a pair", Rate("pairs", counted.pairs, counted.prompts)
    if counted.pairs:
        for cause in causes:
            yield f"pairs by {cause.value}", Rate(cause.value, counted.causes.get(cause.value, 0), counted.pairs)
