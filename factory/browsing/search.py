"""Free text over the pairs of a run: prompt, chosen, rejected, whatever the case of the letters.

Texts of a million pairs take longer to read than anybody waits. So a search goes on by itself, block by block in the order of
the rows, and a page shows what was found so far. The rule that must not break: it says how far it came, and one search at a
time reads the disk.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from factory.browsing.index import Block, Index, Ready, rows_of
from factory.looking.sql import escaped, literal
from schemas.errors import SchemaError
from schemas.tables import Table

KEPT = 12  # searches whose findings are kept
PATIENCE = 0.6  # seconds that a page waits for one
ENOUGH = 50  # findings with which a page need not wait longer
_COLUMNS = "number, chosen, rejected, messages"


@dataclass(frozen=True, slots=True)
class Found:
    """Where the numbers of the pairs lie in which the text stands; how many of the blocks are done, and could not be read."""

    files: tuple[Path, ...]
    done: int
    of: int
    unread: int = 0

    @property
    def condition(self) -> str:
        if not self.files:
            return "false"
        named = ", ".join(literal(escaped(path)) for path in self.files)
        return f"number IN (SELECT number FROM read_parquet([{named}]))"


@dataclass
class _Search:
    words: str
    folder: Path
    done: dict[str, Path | None] = field(default_factory=dict)  # digest of a block -> its findings; None: unreadable
    rows: int = 0
    stopped: bool = False


class Searches:
    """Of one run, by what is searched for."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._folder = TemporaryDirectory(prefix="prefactory-browse-")
        self._known: dict[str, _Search] = {}
        self._moved = threading.Condition()
        self._count = 0

    def close(self) -> None:
        with self._moved:
            for search in self._known.values():
                search.stopped = True
        if self._thread:
            self._thread.join()
        self._folder.cleanup()

    def find(self, words: str, ready: Ready, patience: float = PATIENCE) -> Found:
        """What is known by now, or after `patience` seconds."""
        with self._moved:
            search = self._taken_up(words, ready)
            self._moved.wait_for(lambda: search.rows >= ENOUGH or self._whole(search, ready), patience)
            done = [search.done[block.digest] for block in ready.blocks if block.digest in search.done]
            files = tuple(path for path in done if path is not None)
            return Found(files, len(done), ready.of, len(done) - len(files))

    def _whole(self, search: _Search, ready: Ready) -> bool:
        return all(block.digest in search.done for block in ready.blocks)

    def _taken_up(self, words: str, ready: Ready) -> _Search:
        """The search, at work if there is anything left to read; any other one rests."""
        search = self._known.pop(words, None) or self._new(words)
        self._known[words] = search
        while len(self._known) > KEPT:
            self._known.pop(next(iter(self._known))).stopped = True
        if not self._whole(search, ready) and not (
            self._at_work is search and self._thread and self._thread.is_alive()
        ):
            if self._at_work:
                self._at_work.stopped = True
            self._at_work, search.stopped = search, False
            self._thread = threading.Thread(target=self._read, args=[search, ready.blocks], daemon=True)
            self._thread.start()
        return search

    _at_work: _Search | None = None
    _thread: threading.Thread | None = None

    def _new(self, words: str) -> _Search:
        self._count += 1
        folder = Path(self._folder.name) / str(self._count)
        folder.mkdir()
        return _Search(words, folder)

    def _read(self, search: _Search, blocks: Sequence[Block]) -> None:
        for block in blocks:
            if search.stopped:
                return
            if block.digest in search.done:
                continue
            target = search.folder / f"{block.digest}.parquet"
            rows = self._written(block, search.words, target)
            with self._moved:
                search.done[block.digest] = None if rows is None else target
                search.rows += rows or 0
                self._moved.notify_all()

    def _written(self, block: Block, words: str, target: Path) -> int | None:
        """How many were found; None where the block cannot be read, or the run has made another one of it."""
        try:
            self._index.run(f"COPY ({search_select(block, words)}) TO {literal(str(target))} (FORMAT parquet)")
            ((rows,),) = self._index.ask(f"SELECT count(*) FROM read_parquet({literal(escaped(target))})")
        except (duckdb.Error, SchemaError):
            return None
        return int(str(rows))


def search_select(block: Block, words: str) -> str:
    wanted = f"lower({literal(words)})"
    said = f"contains(lower(m.content), {wanted})"
    return (
        f"SELECT number FROM {rows_of(block, Table.PAIRS, _COLUMNS)} WHERE contains(lower(chosen), {wanted}) "
        f"OR contains(lower(rejected), {wanted}) OR len(list_filter(messages, lambda m: {said})) > 0"
    )
