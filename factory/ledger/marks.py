"""The marks that people put on pairs: `human.jsonl` of a run, one JSON line a mark.

Marks are written while nothing runs and while a run is at work, so that no run's lock is taken. The rule that must not break: a
line is added whole or not at all, by one writer at a time, and what is there is never touched. A line that a kill has cut costs
itself alone.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from factory import store
from factory.files import make_folder, sync
from factory.objects.holding import beside
from factory.run import RunFolder
from schemas.errors import Fixable, SchemaError
from schemas.marks import HumanMark, Mark, PairKey
from schemas.rows import Loop

LONGEST = 2000  # characters of a note that are kept
_mark = TypeAdapter(HumanMark)


def write_mark(run: RunFolder, mark: HumanMark, rejected: Loop | None) -> None:
    """`rejected`: what the detector says of the pair's rejected answer. On the disk when this returns.

    Raises Fixable where a loop would become the chosen answer, StorageError where it cannot be written.
    """
    if mark.mark is Mark.FLIPPED and rejected is Loop.HARD:
        raise Fixable(
            f"{run.human_path}: {mark.rejected_id}: flipped: it is a hard loop, and one is never chosen; "
            "mark the pair `both_bad`"
        )
    try:
        with beside(run.root):
            _append(run.human_path, _line(mark))
    except OSError as error:
        raise store.storage_error(run.human_path, error) from error


def _line(mark: HumanMark) -> bytes:
    """In ASCII alone, so that no cut leaves half a character."""
    whole = asdict(mark) | {"why": harmless_note(mark.why), "marked_at": mark.marked_at.isoformat()}
    return json.dumps(whole).encode() + b"\n"


def harmless_note(why: str) -> str:
    """What prints of a note, and line ends; no longer than a note may be."""
    return "".join(sign for sign in why.strip() if sign.isprintable() or sign == "\n")[:LONGEST]


def _append(path: Path, line: bytes) -> None:
    new = not path.exists()
    make_folder(path.parent)
    with _own(path) as handle:
        end = os.fstat(handle).st_size
        if end and os.pread(handle, 1, end - 1) != b"\n":
            line = b"\n" + line  # behind half a line a new one begins
        while line:
            line = line[os.write(handle, line) :]
        os.fsync(handle)
    if new:
        sync(path.parent)


@contextmanager
def _own(path: Path) -> Iterator[int]:
    """The open file, for one writer. A link is not followed: it would lead out of the run folder."""
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


def read_marks(run: RunFolder) -> list[HumanMark]:
    """Every mark of every round, in the order in which they were made. Raises SchemaError where the file cannot be read."""
    try:
        lines = run.human_path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SchemaError(f"{run.human_path}: cannot be read ({error.strerror})") from error
    return [mark for line in lines if (mark := _read(line)) is not None]


def _read(line: bytes) -> HumanMark | None:
    try:
        return _mark.validate_json(line)
    except ValidationError:
        return None


def standing_marks(run: RunFolder) -> dict[PairKey, HumanMark]:
    """The mark that counts of each pair of this round. Raises SchemaError."""
    return _standing(mark for mark in read_marks(run) if mark.round == run.round)


def standing_when(run: RunFolder, digest: str) -> dict[PairKey, HumanMark] | None:
    """What stood of this round's marks when `digest_of_marks` was this; None where the file never said so.

    That can be known since marks are only ever added.
    """
    own = [mark for mark in read_marks(run) if mark.round == run.round]
    for count in range(len(own), -1, -1):  # of the latest ones first: most often nothing was added since
        stood = _standing(own[:count])
        if digest_of_marks(stood.values()) == digest:
            return stood
    return None


def _standing(marks: Iterable[HumanMark]) -> dict[PairKey, HumanMark]:
    """In the order in which they were made."""
    last: dict[tuple[int, str, frozenset[str]], HumanMark] = {}
    for mark in marks:
        pair = (mark.round, mark.prompt_id, mark.sides)
        last.pop(pair, None)
        last[pair] = mark
    return {mark.key: mark for mark in last.values() if mark.mark is not Mark.WITHDRAWN}


def digest_of_marks(marks: Iterable[HumanMark]) -> str:
    """Of what they say, in whatever order, and not of who said it, when, or why."""
    said = sorted((mark.prompt_id, mark.round, mark.chosen_id, mark.rejected_id, mark.mark.value) for mark in marks)
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()
