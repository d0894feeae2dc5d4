"""Whose turn it was last in a run folder, of the runs that a scheduler starts.

The rule that must not break: it is read and written by the holder of the folder's lock alone. So a turn that says of no end is
that of a process which was killed, and whoever reads it knows that for certain.
"""

from datetime import datetime

from pydantic import ValidationError

from factory import store
from factory.run import RunFolder
from schemas.manifest import Document


class Turn(Document):
    """`run`: by which the scheduler knows it; "" for one that it does not know."""

    run: str
    began: datetime
    ended: datetime | None = None


def last_turn(folder: RunFolder) -> Turn | None:
    """None where there was none, or none that can be read: nothing rests on it but what a page shows."""
    try:
        return Turn.model_validate_json(folder.turn_path.read_bytes())
    except (OSError, ValidationError):
        return None


def write_turn(folder: RunFolder, turn: Turn) -> None:
    store.write_text(folder.turn_path, turn.model_dump_json(indent=1))


def caught_up(turn: Turn | None, wanted: datetime | None) -> bool:
    """Whether what a schedule wanted at a time was begun after that: then the missed one has nothing left to say.

    `wanted` None: a person wants it now.
    """
    return turn is not None and wanted is not None and wanted <= turn.began
