"""A run in an object store, held for work, for one mark, or looked at. For every other folder nothing of this does anything.

The rule that must not break: whoever sends holds the copy's own lock, so that of a machine one process does, and the lease is
between machines.
"""

import fcntl
import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from factory import store
from factory.files import make_folder
from factory.ledger.lock import AT_ONCE
from factory.ledger.own_folder import LOCK
from factory.objects.bucket import Objects
from factory.objects.copying import Copy, as_it_comes, everything, heads, is_part
from factory.objects.index import Index, changed
from factory.objects.lease import Lease, Pace
from factory.objects.place import url_of
from schemas.errors import Busy, FactoryError

PACE = Pace()
_TURN = "turn"


@contextmanager
def held(
    root: Path, patience: float, say: Callable[[str], None], wanted: Callable[[str], bool] = everything
) -> Iterator[None]:
    """Around work on a run: what is wanted of it is here, and what is made is sent as it comes. The caller has the copy's lock.

    Who leaves `wanted` as it is has the journals of others too. Raises Busy, StorageError, StoreUnavailable.
    """
    url = url_of(root)
    if url is None:
        yield
        return
    with _opened(root, url) as copy:
        lease = Lease(copy.objects, copy.index.id, PACE)
        lease.take(patience, say)
        with _released(lease):
            with _in_turn(root):
                copy.pull(wanted)
                if wanted is everything:
                    copy.gather()
            with _Sending(copy, lease, say):
                yield


@contextmanager
def beside(root: Path) -> Iterator[None]:
    """Around one small change that needs no lock of a run, such as a mark. Who works on the run here sends it too.

    Raises Busy where another machine works on the run, StorageError, StoreUnavailable.
    """
    url = url_of(root)
    if url is None:
        yield
        return
    with _alone(root) as alone:
        if not alone:
            yield
            return
        with _opened(root, url) as copy:
            lease = Lease(copy.objects, copy.index.id, PACE)
            lease.take(AT_ONCE, _nothing)
            with _released(lease):
                copy.pull(heads)
                yield
                copy.push(as_it_comes)


def look(root: Path, wanted: Callable[[str], bool]) -> None:
    """Bring what is wanted of a copy up to date. Raises StorageError, StoreUnavailable."""
    url = url_of(root)
    if url is None:
        return
    with _in_turn(root):
        if not _at_work(root):  # else it is more up to date than the store
            with _opened(root, url) as copy:
                copy.pull(wanted)


def send(root: Path, path: Path) -> None:
    """One file that was made from a run and is no part of it, such as a report. Raises StorageError, StoreUnavailable."""
    if (url := url_of(root)) is not None:
        Objects(url).put(str(path.relative_to(root)), path)


def away(root: Path) -> Mapping[str, int]:
    """Parts that are in the store and not here, with their sizes."""
    if url_of(root) is None:
        return {}
    return {path: size for path, size in _parts(root, changed(root)).items() if not (root / path).is_file()}


@lru_cache(maxsize=8)
def _parts(root: Path, _: int) -> Mapping[str, int]:
    """Of the store, with their sizes. What lies here changes without a word to the index, and is no part of this."""
    with _index(root) as index:
        return {path: one.size for path, one in index.entries.items() if is_part(path)}


@contextmanager
def _index(root: Path) -> Iterator[Index]:
    index = Index(root)
    try:
        yield index
    finally:
        index.close()


@contextmanager
def _opened(root: Path, url: str) -> Iterator[Copy]:
    with _index(root) as index:
        yield Copy(root, Objects(url), index)


@contextmanager
def _in_turn(root: Path) -> Iterator[None]:
    """One process of this machine at a time pulls; who looks is waited for, and holds nobody's lock."""
    root.mkdir(exist_ok=True)
    with (root.parent / _TURN).open("a") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield


def _at_work(root: Path) -> bool:
    """Whether somebody on this machine holds the run."""
    with _alone(root) as alone:
        return not alone


@contextmanager
def _alone(root: Path) -> Iterator[bool]:
    """Whether nobody else works on the copy; the lock is ours then. Raises StorageError."""
    try:
        make_folder(root)
        handle = os.open(root / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise store.storage_error(root, error) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


@contextmanager
def _released(lease: Lease) -> Iterator[None]:
    """A lease that cannot be given back runs out."""
    try:
        yield
    finally:
        with suppress(FactoryError):
            lease.release()


def _nothing(line: str) -> None:
    """To nobody."""


@dataclass
class _Sending:
    """What is made is sent, and the lease renewed, by two threads, for as long as the block lasts; the rest at its end.

    A store that does not answer stops nobody: what it did not get is sent when it answers again.
    """

    copy: Copy
    lease: Lease
    say: Callable[[str], None]
    _end: threading.Event = field(default_factory=threading.Event)
    _lost: Busy | None = None
    _silent: bool = False
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> "_Sending":
        self.copy.may_send = self._may_send
        for work in (self.lease.renew, self._send):
            thread = threading.Thread(target=self._again, args=(work,), daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()
        if self._lost is not None:
            raise self._lost from error
        try:
            self.lease.renew()
            self.copy.push()
        except FactoryError as why:
            if error is None:
                raise type(why)(f"{why}; all that was made is kept here, and the same command sends it") from why
            self.say(f"{why}; all that was made is kept here, and the same command sends it")

    def _again(self, work: Callable[[], None]) -> None:
        while not self._end.wait(self.lease.pace.every) and self._lost is None:
            try:
                work()
                self._silent = False
            except Busy as taken:
                self._lost = taken
                _stop_this_process()
            except (FactoryError, OSError, sqlite3.Error) as why:
                if not self._silent:
                    self.say(f"{why}; the run goes on, and what it makes is sent when the store answers again")
                self._silent = True

    def _may_send(self) -> None:
        """Raises Busy where another machine may have taken over, StorageError, StoreUnavailable."""
        if self._lost is not None:
            raise self._lost
        self.lease.check()

    def _send(self) -> None:
        self.copy.push(as_it_comes)


def _stop_this_process() -> None:
    """As the user would, where the command listens to that; else the end of the block says what happened."""
    if callable(signal.getsignal(signal.SIGTERM)):
        os.kill(os.getpid(), signal.SIGTERM)
