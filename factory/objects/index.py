"""What a copy knows of its store: of each object the version that lies here, in a small SQLite file beside the copy.

The rule that must not break: an entry is written after the file and after the object that it speaks of, never before. A kill
between the two costs a transfer and nothing else.
"""

import sqlite3
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from factory.objects.bucket import Item

_NAME = "index.sqlite"
_TABLES = """
CREATE TABLE IF NOT EXISTS entries (path TEXT PRIMARY KEY, version TEXT, md5 TEXT, size INTEGER, seen INTEGER);
CREATE TABLE IF NOT EXISTS sent (journal TEXT PRIMARY KEY, bytes INTEGER);
CREATE TABLE IF NOT EXISTS own (id TEXT);
"""


def changed(root: Path) -> int:
    """When anything of it was, in ns."""
    path = root.parent / _NAME
    return path.stat().st_mtime_ns if path.exists() else 0


@dataclass(frozen=True, slots=True)
class Entry:
    """An object, and its file here. `seen`: when the file was changed last, in ns; None: it is not here."""

    version: str | None
    md5: str | None
    size: int
    seen: int | None

    def is_of(self, item: Item) -> bool:
        if self.version is not None:
            return self.version == item.version
        return self.md5 is not None and (self.md5, self.size) == (item.md5, item.size)


class Index:
    """Of one copy. `id`: the copy's own name, another where the index was lost."""

    def __init__(self, root: Path) -> None:
        self._lock = Lock()
        self._rows = sqlite3.connect(root.parent / _NAME, check_same_thread=False, timeout=30)
        self._rows.executescript(_TABLES)
        self.id = self._own()
        self.entries: dict[str, Entry] = {
            path: Entry(*rest)
            for path, *rest in self._rows.execute("SELECT path, version, md5, size, seen FROM entries")
        }
        self.sent: dict[str, int] = dict(self._rows.execute("SELECT journal, bytes FROM sent"))

    def _own(self) -> str:
        with self._rows:
            self._rows.execute("INSERT INTO own SELECT ? WHERE NOT EXISTS (SELECT * FROM own)", [uuid.uuid4().hex[:12]])
        ((own,),) = self._rows.execute("SELECT id FROM own")
        return str(own)

    def close(self) -> None:
        self._rows.close()

    def note(self, entries: Mapping[str, Entry]) -> None:
        rows = [(path, one.version, one.md5, one.size, one.seen) for path, one in entries.items()]
        with self._lock, self._rows:
            self._rows.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?)", rows)
        self.entries.update(entries)

    def drop(self, paths: Iterable[str]) -> None:
        dropped = list(paths)
        with self._lock, self._rows:
            self._rows.executemany("DELETE FROM entries WHERE path = ?", [(path,) for path in dropped])
        for path in dropped:
            self.entries.pop(path, None)

    def note_sent(self, journal: str, size: int) -> None:
        """So much of a journal is in the store."""
        with self._lock, self._rows:
            self._rows.execute("INSERT OR REPLACE INTO sent VALUES (?, ?)", [journal, size])
        self.sent[journal] = size

    def forget_sent(self, journals: Iterable[str]) -> None:
        gone = list(journals)
        with self._lock, self._rows:
            self._rows.executemany("DELETE FROM sent WHERE journal = ?", [(journal,) for journal in gone])
        for journal in gone:
            self.sent.pop(journal, None)
