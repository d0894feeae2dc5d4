"""What is done with one shard of a round, in words that another process understands.

The rule that must not break: an errand and what lies in the run folder are all that its doer goes by. So it is done in the same
way here and on another machine, and can be done again by somebody else where its doer is lost.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

HEARINGS = "judging"  # the part of the verdicts that engines answer


class Kind(StrEnum):
    ANSWER = "rollouts"
    HEAR = HEARINGS
    HEAR_AGAIN = f"{HEARINGS} again"
    CLOSE = "verdicts"
    CONFIRM = "confirming"
    PAIR = "pairs"


@dataclass(frozen=True, slots=True)
class Errand:
    """One thing to do with whatever shard. `seats`: the judges that it asks; of answers: those who will judge them next.

    `heard` and `sigmas` are what a cascade goes on from, as in `Court`.
    """

    kind: Kind
    seats: tuple[str, ...] = ()
    heard: frozenset[str] = frozenset()
    sigmas: Mapping[str, float] = field(default_factory=dict)
