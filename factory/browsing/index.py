"""What pairs are looked for by: a narrow table of a run's pairs, without their texts, so that a million are filtered at once.

It is made of blocks, each of the pairs of some shards of a round, which lie in the user's cache under the digest of what they
were made from. The rule that must not break: the run folder is only read, and a block is used for no other parts than its own.
Whatever is in the cache can be thrown away at any time.
"""

import hashlib
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import platformdirs

from factory import store
from factory.looking.sql import empty_columns, escaped, literal
from factory.run import RunFolder
from schemas.errors import FactoryError, SchemaError
from schemas.tables import SCHEMAS, Table

FORM = 1  # of a block; another one when its columns change
SHARDS = 64  # of a block
ROUND_BITS, SHARD_BITS = 40, 20  # of a pair's number: round, shard, place in the part
MEMORY = "1GB"
PATIENCE = 1.0  # seconds that a page waits for the first block, where none is there yet
_PART = re.compile(r"part-(\d+)\.parquet")
_COLUMNS = {
    "round": "BIGINT", "number": "BIGINT", "shard": "BIGINT", "prompt_id": "VARCHAR", "chosen_id": "VARCHAR",
    "rejected_id": "VARCHAR", "cause": "VARCHAR", "margin": "DOUBLE", "disagreement": "DOUBLE", "loop": "VARCHAR",
    "loop_rule": "VARCHAR", "source": "VARCHAR", "chosen_slot": "VARCHAR", "rejected_slot": "VARCHAR",
}  # fmt: skip
Rows = list[tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class Block:
    """The pairs of some shards of one round. `digest`: of what their parts are, by name, size and time."""

    run: RunFolder
    shards: tuple[int, ...]
    digest: str

    def parts(self, table: Table) -> list[Path]:
        paths = (self.run.part_path(table, shard) for shard in self.shards)
        return [path for path in paths if path.exists()]


@dataclass(frozen=True, slots=True)
class Ready:
    """The index as it is at one moment: blocks that can be asked, and how many there will be."""

    blocks: tuple[Block, ...]
    files: tuple[Path, ...]
    of: int

    @property
    def whole(self) -> bool:
        return len(self.blocks) == self.of

    @property
    def table(self) -> str:
        """What stands behind FROM."""
        if not self.files:
            return (
                "(SELECT " + ", ".join(f"NULL::{kind} AS {name}" for name, kind in _COLUMNS.items()) + " WHERE false)"
            )
        return f"read_parquet([{', '.join(literal(escaped(path)) for path in self.files)}], hive_partitioning = false)"


class Index:
    """Of one run. `ready` may be asked for at any time; `look` notices what the run has written since."""

    def __init__(self, root: Path, cache: Path | None = None) -> None:
        self.root = root
        self.trouble = ""  # why a block could not be made
        self.ready = Ready((), (), 0)
        own = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
        self._cache = (cache or platformdirs.user_cache_path("prefactory") / "browse") / own
        self._pages, self._behind = self._connected(), self._connected()
        self._behind.execute(f"SET threads = {max(1, (os.cpu_count() or 2) // 2)}")  # pages come first
        self._seen: tuple[object, ...] = ()
        self._lock, self._cursors = threading.Lock(), threading.Lock()
        self._maker: threading.Thread | None = None
        self._some = threading.Event()
        self._unreadable: set[str] = set()  # digests of blocks
        self._closing = False

    def _connected(self) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": str(self._cache / ".spill")})
        connection.execute("SET parquet_metadata_cache = true")
        connection.execute("SET preserve_insertion_order = false")
        return connection

    def look(self) -> None:
        """Take in what is in the cache at once, and have the rest made while pages are shown."""
        with self._lock:
            seen = tuple(_stamp(run.part_path(Table.PAIRS, 0).parent) for run in RunFolder(self.root).rounds())
            if seen == self._seen or (self._maker and self._maker.is_alive()):
                return
            self._seen = seen
            wanted = list(blocks(self.root))
            self._publish(wanted)
            if not self.ready.whole:
                self._maker = threading.Thread(target=self._make_all, args=[wanted], daemon=True)
                self._maker.start()
        if self.ready.of and not self.ready.blocks:
            self._some.wait(PATIENCE)

    def finish(self) -> None:
        """Wait until all that was there when `look` was called can be asked."""
        if self._maker:
            self._maker.join()

    def _make_all(self, wanted: Sequence[Block]) -> None:
        self.trouble = ""
        self._unreadable.clear()
        for block in wanted:
            if self._closing:
                return
            if not self._file(block).exists():
                try:
                    self._make(block)
                except (duckdb.Error, FactoryError) as error:
                    self._unreadable.add(block.digest)
                    self.trouble = (
                        f"round {block.run.round}, shards {block.shards[0]} to {block.shards[-1]}: {_line(error)}"
                    )
                self._publish(wanted)
                self._some.set()
        self._clear(wanted)

    def _publish(self, wanted: Sequence[Block]) -> None:
        there = tuple(block for block in wanted if self._file(block).exists())
        readable = sum(block.digest not in self._unreadable for block in wanted)
        self.ready = Ready(there, tuple(map(self._file, there)), readable)

    def _file(self, block: Block) -> Path:
        return self._cache / f"{block.digest}.parquet"

    def _make(self, block: Block) -> None:
        with store.writing(self._file(block)) as unfinished:
            self.run(f"COPY ({_block_select(block)}) TO {literal(str(unfinished))} (FORMAT parquet)")

    def _clear(self, wanted: Sequence[Block]) -> None:
        """Blocks of parts that are no more."""
        kept = {self._file(block).name for block in wanted}
        for path in self._cache.glob("*.parquet"):
            if path.name not in kept:
                path.unlink(missing_ok=True)

    def run(self, sql: str) -> None:
        """Behind the pages, on half of the cores. Raises duckdb.Error."""
        with self._cursor(self._behind) as cursor:
            cursor.execute(sql)

    def ask(self, sql: str, parameters: Sequence[object] = ()) -> Rows:
        """Raises SchemaError where a file of the run, or of the cache, cannot be read."""
        with self._cursor(self._pages) as cursor, _explained(self.root):
            return cursor.execute(sql, parameters).fetchall()

    def _cursor(self, connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
        """Each call has its own; the connection itself is never asked two things at once."""
        with self._cursors:
            return connection.cursor()

    def close(self) -> None:
        """After what is being made, which is a part of a second's work."""
        self._closing = True
        self.finish()
        self._pages.close()
        self._behind.close()


@contextmanager
def _explained(root: Path) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise SchemaError(f"{root}: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _stamp(folder: Path) -> object:
    """Changes whenever a part comes, goes, or takes another's place."""
    try:
        return str(folder), folder.stat().st_mtime_ns
    except OSError:
        return str(folder), 0


def blocks(root: Path) -> Iterator[Block]:
    """Of all pairs that lie there, in the order of rounds and shards."""
    for run in RunFolder(root).rounds():
        parts = sorted(_parts(run.part_path(Table.PAIRS, 0).parent))
        for number in sorted({shard // SHARDS for shard, _, _ in parts}):
            own = [part for part in parts if part[0] // SHARDS == number]
            said = f"{FORM} {root.resolve()} {run.round} {own}"
            yield Block(run, tuple(shard for shard, _, _ in own), hashlib.sha256(said.encode()).hexdigest()[:32])


def _parts(folder: Path) -> Iterator[tuple[int, int, int]]:
    """Shard, size and time of each part of a table."""
    for entry in os.scandir(folder) if folder.is_dir() else ():
        if named := _PART.fullmatch(entry.name):
            found = entry.stat()
            yield int(named[1]), found.st_size, found.st_mtime_ns


def rows_of(block: Block, table: Table, columns: str) -> str:
    """A subquery over the parts of a block; `number` is the place of each row. Empty where there are none."""
    parts = block.parts(table)
    if not parts:
        return f"(SELECT {columns} FROM (SELECT {empty_columns(SCHEMAS[table])}, 0 AS number, 0 AS shard) WHERE false)"
    named = ", ".join(literal(escaped(path)) for path in parts)
    shard = r"regexp_extract(filename, 'part-(\d+)\.parquet$', 1)::BIGINT"
    number = f"({block.run.round}::BIGINT << {ROUND_BITS}) + (shard << {SHARD_BITS}) + file_row_number"
    read = f"read_parquet([{named}], file_row_number = true, filename = true, hive_partitioning = false)"
    return f"(SELECT {columns} FROM (SELECT *, {shard} AS shard, {number} AS number FROM {read}))"


def _block_select(block: Block) -> str:
    pairs = rows_of(
        block,
        Table.PAIRS,
        "number, shard, prompt_id, chosen_id, rejected_id, cause, margin, 1 - agreement AS disagreement",
    )
    rollouts = rows_of(block, Table.ROLLOUTS, "rollout_id, slot, loop, loop_rule")
    prompts = rows_of(block, Table.PROMPTS, "prompt_id, source")
    made = {"round": f"{block.run.round}::BIGINT", "chosen_slot": "c.slot", "rejected_slot": "r.slot"}
    columns = ", ".join(
        f"{made.get(name, name)} AS {name}" for name in _COLUMNS if name not in ("loop", "loop_rule", "prompt_id")
    )
    return (
        f"SELECT {columns}, p.prompt_id, r.loop, r.loop_rule FROM {pairs} p "
        f"LEFT JOIN {rollouts} r ON r.rollout_id = p.rejected_id "
        f"LEFT JOIN {rollouts} c ON c.rollout_id = p.chosen_id LEFT JOIN {prompts} q ON q.prompt_id = p.prompt_id "
        "ORDER BY number"
    )
