"""How widely each judge scores within a prompt, over a whole run: the unit in which judges are compared.

Pure, one pass, and equal for every order of the prompts. The rule that must not break: sums are sums of integers, so that
shards that are added apart and merged give the same bits.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from factory.judging.aggregation import centred
from factory.judging.candidates import candidates
from factory.jury import blocks
from schemas.recipe import Jury
from schemas.rows import Rollout, Verdict

_GRID = 2**40  # a block's sum of squares is kept in units of 2**-40, so that differences under 1e-6 are none


@dataclass(slots=True)
class PooledSpread:
    """Each judge's within-prompt SD over a run.

        sigma[j]² = Σ over prompts Σ over i of (s[j,i] - mean over i)² / Σ over prompts (n - 1)

    n: the judged rollouts of a prompt. Each prompt costs one degree of freedom, its mean; a prompt with one judged
    rollout, or that the judge did not score whole, has none to give. Shards are added apart and merged.
    """

    squares: dict[str, int] = field(default_factory=dict)  # in units of 1/_GRID: integers add up alike in any order
    degrees: dict[str, int] = field(default_factory=dict)

    def add(self, rollouts: Sequence[Rollout], verdicts: Sequence[Verdict], jury: Jury) -> None:
        """One prompt's rollouts and verdicts."""
        for judge, block in blocks(candidates(rollouts).judged, verdicts, jury.seats).items():
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
