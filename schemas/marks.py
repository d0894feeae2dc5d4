"""What a person says of a pair.

The rule that must not break: marks are added and never changed. A pair is two answers, whichever of them was the chosen one
when it was marked. Of several marks on one pair the last counts, and a mark that was withdrawn counts as none.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Mark(StrEnum):
    RIGHT = "right"
    FLIPPED = "flipped"  # the rejected answer is the better one
    BOTH_BAD = "both_bad"  # neither should be learned from
    WITHDRAWN = "withdrawn"  # whatever was said of the pair before


class MarksUse(StrEnum):
    """What is made of them, as a recipe has it."""

    UNUSED = "unused"
    EXCLUDE = "exclude"  # a pair that is flipped or both bad is left out
    FLIP = "flip"  # the sides of a flipped one are exchanged; one that is both bad is left out


@dataclass(frozen=True, slots=True)
class PairKey:
    """A pair as it lay in the table when it was marked."""

    round: int
    prompt_id: str
    chosen_id: str
    rejected_id: str


@dataclass(frozen=True, slots=True)
class HumanMark:
    prompt_id: str
    round: int
    chosen_id: str
    rejected_id: str
    mark: Mark
    why: str
    marked_by: str
    marked_at: datetime

    @property
    def key(self) -> PairKey:
        return PairKey(self.round, self.prompt_id, self.chosen_id, self.rejected_id)

    @property
    def sides(self) -> frozenset[str]:
        """The rollout ids of both answers: the pair, however it lay."""
        return frozenset({self.chosen_id, self.rejected_id})

    @property
    def better(self) -> str | None:
        """rollout_id of the answer that the person would choose; None: of neither."""
        return {Mark.RIGHT: self.chosen_id, Mark.FLIPPED: self.rejected_id}.get(self.mark)

    @property
    def worse(self) -> str | None:
        return {Mark.RIGHT: self.rejected_id, Mark.FLIPPED: self.chosen_id}.get(self.mark)
