"""One process at a time in a run folder, by a lock that the kernel holds for exactly as long as its owner lives.

The rule that must not break: what stands in the lock file is for people to read. Whether the folder is free is for the kernel
to say, so that a dead owner, killed in whatever way, holds nobody up.

Workers on other machines work under the lock of the process that began the run. Each of them shares a second lock while it
does, and whoever takes the folder next waits until none does any more: workers may outlive a run that was killed by seconds.
Across machines both locks are as good as the file system's: NFS from version 4 on, Lustre with `flock`, and their like.
"""

import fcntl
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psutil
from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from factory import store
from factory.files import make_folder
from factory.ledger.own_folder import LOCK
from schemas.errors import Busy, Fixable

AT_ONCE, FOR_EVER = 0.0, -1.0  # seconds of patience
LOOK = 0.2  # seconds between two tries of one that waits
OUTLIVED = 60.0  # seconds that workers may go on for when the run that they worked for is gone
_WORKERS = ".workers"


class Owner(BaseModel):
    """Who holds the lock."""

    pid: int
    host: str
    since: datetime
    command: str

    def text(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since:%Y-%m-%d %H:%M:%S} UTC: {self.command}"


@contextmanager
def held(root: Path, patience: float, say: Callable[[str], None]) -> Iterator[None]:
    """Hold `root`, made if it is not there; wait for its owner, `patience` seconds or for ever. Raises Busy, StorageError."""
    path = root / LOCK
    try:
        make_folder(root)
        lock = FileLock(path, fallback_to_soft=False, on_acquired=_sign)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if patience == AT_ONCE:
                raise
            say(f"{root}: waiting for the process that works on this run{_named(path)}")
            lock.acquire(timeout=patience, poll_interval=LOOK)
    except Timeout as error:
        raise Busy(
            f"{root}: another process works on this run{_named(path)}; wait for it (--wait), or stop it"
        ) from error
    except OSError as error:
        raise store.storage_error(root, error) from error
    try:
        _until_alone(root, say)
        yield
    finally:
        lock.release()


@contextmanager
def at_work(root: Path) -> Iterator[None]:
    """For a worker, around what it does in a folder whose lock somebody else holds. Raises StorageError."""
    try:
        handle = os.open(root / _WORKERS, os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(handle, fcntl.LOCK_SH)
    except OSError as error:
        raise store.storage_error(root / _WORKERS, error) from error
    try:
        yield
    finally:
        os.close(handle)


def _until_alone(root: Path, say: Callable[[str], None]) -> None:
    """Raises Fixable where workers of an earlier run do not end."""
    path, until = root / _WORKERS, time.monotonic() + OUTLIVED
    if not path.exists():
        return
    handle = os.open(path, os.O_RDWR)
    try:
        if not _locked(handle):
            say(f"{root}: waiting for the workers of the run before")
        while not _locked(handle):
            if time.monotonic() > until:
                raise Fixable(f"{root}: workers of an earlier run still work on it; end them on their machines")
            time.sleep(LOOK)
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def command_line() -> str:
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])


def _sign(handle: int) -> None:
    owner = Owner(pid=os.getpid(), host=socket.gethostname(), since=datetime.now(UTC), command=command_line())
    os.ftruncate(handle, 0)
    os.pwrite(handle, owner.model_dump_json().encode(), 0)


def _named(path: Path) -> str:
    owner = _owner(path)
    return "" if owner is None else f" ({owner.text()})"


def owner_of(root: Path) -> Owner | None:
    """Who works on a folder, as far as that can be told by looking; None: nobody."""
    return _owner(root / ".lock")


def _owner(path: Path) -> Owner | None:
    """As the lock file says; None where that is somebody who is no more, or nobody."""
    try:
        owner = Owner.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    gone = owner.host == socket.gethostname() and not psutil.pid_exists(owner.pid)
    return None if gone else owner
