"""How a copy and its store are made the same: `pull` brings what the store has, `push` sends what was made here.

The rule that must not break: the store has a shard's parts before its record, and the records before the manifest, as a disk
has them. Whoever pushes holds the lease. Where both sides have changed a file, the store's is the one that counts.

Journals grow, and objects do not. Of a journal each copy puts what it appended since the last time as a segment of its own, and
whoever pulls appends the segments of others to its own file: a journal's lines count in whatever order.
"""

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from factory import store
from factory.files import make_folder
from factory.objects.bucket import Item, Objects
from factory.objects.index import Entry, Index
from schemas.errors import Fixable

AT_ONCE = 8  # transfers
LEASES = ".lease"
_MEND = "make room or rights there, or move the user's cache folder (XDG_CACHE_HOME)"
_OWN = frozenset({"catalog.duckdb", "live.json"})  # of this machine alone, as all whose name begins with a dot
_PART = re.compile(r"(?:.*/)?round=\d+/[a-z_]+/part-\d+\.parquet")
_SEGMENT = re.compile(r"((?:.*/)?round=\d+/_journal/[^/]+\.jsonl)/([0-9a-f]+)-(\d+)")
_JOURNAL = re.compile(r"(?:.*/)?round=\d+/_journal/[^/]+\.jsonl")
_WHOLE_ONES = re.compile(r"(?:.*/)?round=\d+/(?!_journal)[a-z_]+")  # folders whose files are replaced, never changed
_SETTLED = 1_000_000_000  # ns after which a folder's time says that nothing was renamed in it since


def is_part(path: str) -> bool:
    return _PART.fullmatch(path) is not None


def everything(path: str) -> bool:
    """What who works on a run has of it."""
    return True


def heads(path: str) -> bool:
    """What who only asks about a run has of it, however many shards it has; the rows are read where they are."""
    return path.count("/") == (1 if path.startswith("round=") else 0)


def with_records(path: str) -> bool:
    """What who wants to know how far a run is has of it."""
    return heads(path) or "/_records/" in path


def as_it_comes(path: str) -> bool:
    """What is sent while a run is at work. The rest is whole only when its maker is done with it."""
    return "/" not in path or path.startswith("round=") or "/round=" in path


def _of_records(folder: str) -> bool:
    """Whether what lies there speaks of what lies elsewhere."""
    name = folder.rpartition("/")[2]
    return name in ("", "_records") or name.startswith("round=")


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as it was when it was looked at."""

    size: int
    changed: int  # in ns


@dataclass
class Copy:
    root: Path
    objects: Objects
    index: Index
    clock: Callable[[], int] = time.time_ns
    may_send: Callable[[], None] = lambda: None  # raises where it may not, before anything is sent
    _folders: dict[str, tuple[int, dict[str, Seen]]] = field(default_factory=dict)
    _there: dict[str, Item] = field(default_factory=dict)

    def pull(self, wanted: Callable[[str], bool]) -> None:
        """In one listing. Raises Fixable where the store holds what is no run's, StorageError, StoreUnavailable."""
        self._there = {path: item for path, item in self.objects.list().items() if not path.startswith(f"{LEASES}/")}
        for path in self._there:
            _refuse_strange(self.objects.url, path)
        there = {path: item for path, item in self._there.items() if not _SEGMENT.fullmatch(path)}
        gone = [path for path in self.index.entries if path not in self._there]
        for path in gone:
            self._take_away(path)
        self.index.drop(gone)
        settled = {path: self._settled(path, item) for path, item in there.items()}
        self.index.note({path: entry for path, entry in settled.items() if entry != self.index.entries.get(path)})
        missing = [path for path, one in self.index.entries.items() if one.seen is None and wanted(path)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for path, entry in pool.map(self._fetch, missing):
                self.index.note({path: entry})

    def _settled(self, path: str, item: Item) -> Entry:
        """What the store has now. A file here that is of an earlier version goes, whatever became of it since."""
        entry = self.index.entries.get(path)
        if entry is not None and entry.is_of(item):
            here = (self.root / path).is_file()
            return Entry(item.version, item.md5, item.size, entry.seen if here else None)
        (self.root / path).unlink(missing_ok=True)
        return Entry(item.version, item.md5, item.size, None)

    def _take_away(self, path: str) -> None:
        """Of a file that is in the store no more: unless it was changed here since."""
        here, entry = _look(self.root / path), self.index.entries[path]
        if here is not None and entry.seen == here.changed:
            (self.root / path).unlink(missing_ok=True)

    def _fetch(self, path: str) -> tuple[str, Entry]:
        entry = self.index.entries[path]
        with store.writing(self.root / path, _MEND) as temporary:
            self.objects.fetch(path, entry.size, temporary)
        here = _look(self.root / path)
        return path, Entry(entry.version, entry.md5, entry.size, None if here is None else here.changed)

    def gather(self) -> None:
        """What others have put of the journals, behind what is here. After `pull`."""
        for journal, segments in _by_journal(self._there).items():
            path = self.root / journal
            here = path.is_file()
            self._send_segment(journal)
            for segment, copy in segments:
                if segment not in self.index.entries and not (here and copy == self.index.id):
                    _append(path, self.objects.read(segment, self._there[segment].size))
            self.index.note({segment: Entry(self._there[segment].version, None, 0, 0) for segment, _ in segments})
            if path.is_file():
                self.index.note_sent(journal, path.stat().st_size)

    def push(self, wanted: Callable[[str], bool] = everything) -> None:
        """What was made, changed and taken away here. Raises StorageError, StoreUnavailable."""
        found = self._scan(_of_records) | self._scan(lambda folder: not _of_records(folder))
        # In this order: what a record speaks of was there before it, and is found after it.
        journals = [path for path in found if _JOURNAL.fullmatch(path)]
        files = {path: seen for path, seen in found.items() if path not in journals and wanted(path)}
        changed = [path for path, seen in files.items() if self._changed(path, seen)]
        gone = [path for path, one in self.index.entries.items() if self._gone(path, one, found) and wanted(path)]
        for journal in journals:
            self._send_segment(journal)
        self._put([path for path in changed if _rank(path) == 0], files)
        self._delete([path for path in gone if not _SEGMENT.fullmatch(path)])
        self._put([path for path in changed if _rank(path) == 1], files)
        self._put([path for path in changed if _rank(path) == 2], files)
        self._delete([path for path in gone if _SEGMENT.fullmatch(path)])
        self.index.forget_sent([journal for journal in self.index.sent if journal not in found])

    def _changed(self, path: str, seen: Seen) -> bool:
        entry = self.index.entries.get(path)
        return entry is None or (entry.seen, entry.size) != (seen.changed, seen.size)

    def _gone(self, path: str, entry: Entry, found: Mapping[str, Seen]) -> bool:
        """What was here and is no more. A segment goes with its journal."""
        segment = _SEGMENT.fullmatch(path)
        return (segment[1] not in found) if segment else (entry.seen is not None and path not in found)

    def _put(self, paths: Sequence[str], found: Mapping[str, Seen]) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for path, entry in pool.map(lambda path: (path, self._put_one(path, found[path])), paths):
                if entry is not None:
                    self.index.note({path: entry})

    def _put_one(self, path: str, seen: Seen) -> Entry | None:
        self.may_send()
        try:
            done = self.objects.put(path, self.root / path)
        except FileNotFoundError:  # taken away since; the next time finds it so
            return None
        return Entry(done.version, done.md5, done.size, seen.changed)

    def _delete(self, paths: Sequence[str]) -> None:
        self.may_send()
        self.objects.delete(paths)
        self.index.drop(paths)

    def _send_segment(self, journal: str) -> None:
        """Whole lines, behind what was sent before."""
        sent = self.index.sent.get(journal, 0)
        try:
            with (self.root / journal).open("rb") as file:
                file.seek(sent)
                more = file.read()
        except FileNotFoundError:
            return
        if more := more[: more.rfind(b"\n") + 1]:
            self.may_send()
            segment = f"{journal}/{self.index.id}-{sent:015d}"
            done = self.objects.write(segment, more)
            self.index.note({segment: Entry(done.version, None, 0, 0)})
            self.index.note_sent(journal, sent + len(more))

    def _scan(self, wanted: Callable[[str], bool]) -> dict[str, Seen]:
        """Every file here that is the run's."""
        found: dict[str, Seen] = {}
        folders = [""]
        while folders:
            folder = folders.pop()
            files, inner = self._look_into(folder)
            if wanted(folder):
                found |= files
            folders += inner
        return found

    def _look_into(self, folder: str) -> tuple[dict[str, Seen], list[str]]:
        """A folder in which files are only ever replaced is not read again until its own time has changed."""
        itself = _look(self.root / folder)
        if itself is None:
            return {}, []
        known = self._folders.get(folder)
        if known is not None and known[0] == itself.changed:
            return known[1], []
        files, inner = _entries(self.root, folder)
        if _WHOLE_ONES.fullmatch(folder) and self.clock() - itself.changed > _SETTLED and not inner:
            self._folders[folder] = (itself.changed, files)
        return files, inner


def _entries(root: Path, folder: str) -> tuple[dict[str, Seen], list[str]]:
    files: dict[str, Seen] = {}
    inner: list[str] = []
    try:
        with os.scandir(root / folder) as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.name.startswith(".") or path in _OWN:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    inner.append(path)
                elif entry.is_file(follow_symlinks=False) and (seen := _look(Path(entry.path))) is not None:
                    files[path] = seen
    except FileNotFoundError:
        return {}, []
    return files, inner


def _look(path: Path) -> Seen | None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Seen(status.st_size, status.st_mtime_ns)


def _rank(path: str) -> int:
    parts = PurePosixPath(path)
    return 2 if parts.name == "manifest.json" else 1 if parts.parent.name == "_records" else 0


def _by_journal(there: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
    """The segments of each journal, with the copy that each is of."""
    found: dict[str, list[tuple[str, str]]] = {}
    for path in sorted(there):
        if segment := _SEGMENT.fullmatch(path):
            found.setdefault(segment[1], []).append((path, segment[2]))
    return found


def _append(journal: Path, lines: bytes) -> None:
    """Behind half a line a new one begins."""
    try:
        make_folder(journal.parent)
        with journal.open("a+b") as file:
            if file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
                file.write(b"\n")
            file.write(lines)
    except OSError as error:
        raise store.storage_error(journal, error, _MEND) from error


def _refuse_strange(url: str, path: str) -> None:
    """A bucket may be a stranger's: no name leads out of the copy. Raises Fixable."""
    if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in path.split("/")):
        raise Fixable(f"{url}: holds {path!r}, which is no run's; take it away")
