"""What a look at a run folder finds: faults, each with what must be redone for it, and how far the run has come."""

from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What kind of thing is wrong, and so what mends it."""

    IDENTITY = "identity"  # the manifest's: it does not follow from recipe and provenance
    RECIPE = "recipe"  # or provenance: the records were made from another
    RECORD = "record"  # the record alone; the parts may be sound
    ORIGIN = "origin"  # the record, and the parts with it: made from something else than what lies there
    PART = "part"  # a part is not what its record says
    ROWS = "rows"  # the rows break a law
    STRANGER = "stranger"  # a file that no record knows, and that the views count
    ROLL_UP = "roll_up"  # manifest or catalog, which are made from the rest
    CHECKPOINT = "checkpoint"  # weights that are not those that were trained
    KEPT = "kept"  # a file of the whole run that cannot be read


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, and the shard of a stage that must be redone for it; -1: none of them."""

    kind: Kind
    stage: str
    shard: int
    file: str  # below the run folder
    why: str
    round: int = 0


@dataclass
class Found:
    """What a look at a run came to."""

    faults: list[Fault] = field(default_factory=list)
    pending: dict[str, int] = field(default_factory=dict)  # stage -> shards that are not finished yet
    parts: int = 0
    rows: int = 0

    @property
    def finished(self) -> bool:
        return not self.pending

    def add(self, other: "Found") -> None:
        """What was found of another round."""
        self.faults += other.faults
        self.parts += other.parts
        self.rows += other.rows
        for stage, shards in other.pending.items():
            self.pending[stage] = self.pending.get(stage, 0) + shards
