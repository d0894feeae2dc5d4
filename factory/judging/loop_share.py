"""Which of the forced loops make a pair where the recipe caps their share.

Pure. Every prompt has its lot, and the lots put prompts in a fixed order; of those whose pair a loop would make, the first
are kept, so many that loops make at most the wanted share of all pairs. The rule that must not break: who is kept
depends on the run's prompts and the recipe alone, never on shards or on the order of the work.
"""

import math
from array import array
from dataclasses import dataclass, field

from factory.judging.lots import lot
from schemas.rows import Cause, Dropped, Pair

EVERY = 1.0  # a bound behind every lot
_PURPOSE = "loop share"


def may_use_loop(prompt_id: str, bound: float) -> bool:
    return lot(prompt_id, _PURPOSE) < bound


@dataclass(slots=True)
class LoopCount:
    """What the run would come to if every loop were used: a lot for each pair that a loop makes, and the other pairs."""

    others: int = 0
    lots: "array[float]" = field(default_factory=lambda: array("d"))

    def add(self, decided: Pair | Dropped) -> None:
        if isinstance(decided, Pair):
            if decided.cause is Cause.LOOP:
                self.lots.append(lot(decided.prompt_id, _PURPOSE))
            else:
                self.others += 1

    def bound(self, share: float) -> float:
        """Loops with a lot below it are used: at most `share` of all pairs, from 0 to 1.

        A prompt whose loop is not used may still become a pair by opinion, so the share comes out at `share` or lower.
        """
        if share >= 1.0:
            return EVERY
        kept = math.floor(share / (1.0 - share) * self.others + 1e-9)
        return EVERY if kept >= len(self.lots) else sorted(self.lots)[kept]
