"""The journal of an unfinished shard: every answer that was paid for, before the shard's part can be written.

The rule that must not break: a line is a checksum and an answer, so that whatever a kill, a power cut or a bad disk does to one
costs that one alone.
"""

import os
import re
import weakref
import zlib
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from factory import store
from factory.files import make_folder, sync
from factory.ledger.syncing import SYNCER, Syncer
from schemas.chat import Completion

_ENDS = re.compile(rb"[\n\0]+")  # NULs: what a power cut leaves of a block that was not on the disk yet
_completion = TypeAdapter(Completion)


class Journal:
    """The finished answers of an unfinished shard: appended one by one, so that a kill costs no paid answer.

    A line is a checksum and an answer. One that is cut, overwritten, or has a hole costs itself alone. The last second's may
    not be on the disk yet: a power cut costs those.
    """

    def __init__(self, path: Path, syncer: Syncer = SYNCER) -> None:
        self.path = path
        self._syncer = syncer
        self._handle: int | None = None
        self._named = False  # on the disk, in its folder
        self._lost: OSError | None = None  # why something that was written is not on the disk
        self.unreadable = 0  # lines, the one that a kill has cut among them
        self.kept: dict[str, Completion] = {}
        if path.exists():
            self._replay()

    def _replay(self) -> None:
        for line in _ENDS.split(self.path.read_bytes()):
            if (completion := _read_line(line)) is not None:
                self.kept[completion.request_id] = completion
            elif line:
                self.unreadable += 1

    def append(self, completion: Completion) -> None:
        """Raises StorageError, also where an earlier answer could not be put on the disk."""
        line = _written_line(completion)
        try:
            handle = self._open() if self._handle is None else self._handle
            while line:
                line = line[os.write(handle, line) :]
            if self._lost is not None:
                raise self._lost
        except OSError as error:
            self._handle = None  # half a line may lie there now: whoever opens it again begins a new one
            raise store.storage_error(self.path, error) from error
        self.kept[completion.request_id] = completion
        self._syncer.soon(self)

    def put_on_disk(self) -> None:
        """What was appended so far; of a shard that was finished meanwhile nothing is left to keep."""
        handle = self._handle
        try:
            if handle is not None and os.fstat(handle).st_nlink:
                os.fdatasync(handle)
                if not self._named:
                    sync(self.path.parent)
                    self._named = True
        except OSError as error:
            self._lost = error

    def _open(self) -> int:
        """For as long as this journal lives. Behind half a line a new one begins."""
        make_folder(self.path.parent)
        handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        weakref.finalize(self, os.close, handle).atexit = False  # the last answers are put on the disk then
        end = os.fstat(handle).st_size
        if end and os.pread(handle, 1, end - 1) != b"\n":
            os.write(handle, b"\n")
        self._handle = handle
        return handle


def _written_line(completion: Completion) -> bytes:
    content = _completion.dump_json(completion)
    return b"%08x %s\n" % (zlib.crc32(content), content)


def _read_line(line: bytes) -> Completion | None:
    """The answer; None where the line is not, byte for byte, what was written."""
    content = line[9:]
    if line[:9] != b"%08x " % zlib.crc32(content):
        return None
    try:
        return _completion.validate_json(content)
    except ValidationError:
        return None
