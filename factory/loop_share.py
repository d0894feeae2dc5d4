"""Which of the forced loops make a pair where the recipe caps their share.

Pure. Every prompt has a place in a fixed order, by a hash of its id; of the prompts whose pair a loop would make, the first
are kept, so many that loops make at most the wanted share of all pairs. The rule that must not break: who is kept
depends on the run's prompts and the recipe alone, never on shards or on the order of the work.
"""

import hashlib
import math
from array import array
from dataclasses import dataclass, field

from schemas.rows import Cause, Dropped, Pair

EVERY = 1.0  # a bound behind every place


def place(prompt_id: str) -> float:
    """From 0 to 1, and 1 not in it."""
    return int.from_bytes(hashlib.sha256(f"loop share:{prompt_id}".encode()).digest()[:6]) / 2**48


def may_use_loop(prompt_id: str, bound: float) -> bool:
    return place(prompt_id) < bound


@dataclass(slots=True)
class LoopCount:
    """What the run would come to if every loop were used: a place for each pair that a loop makes, and the other pairs."""

    others: int = 0
    places: "array[float]" = field(default_factory=lambda: array("d"))

    def add(self, decided: Pair | Dropped) -> None:
        if isinstance(decided, Pair):
            if decided.cause is Cause.LOOP:
                self.places.append(place(decided.prompt_id))
            else:
                self.others += 1

    def bound(self, share: float) -> float:
        """Loops with a place below it are used: at most `share` of all pairs, from 0 to 1.

        A prompt whose loop is not used may still become a pair by opinion, so the share comes out at `share` or lower.
        """
        if share >= 1.0:
            return EVERY
        kept = math.floor(share / (1.0 - share) * self.others + 1e-9)
        return EVERY if kept >= len(self.places) else sorted(self.places)[kept]
