"""SQL over a run's tables, through DuckDB: the catalog that a run leaves, questions that can only look, and copies.

The rule that must not break: what a stranger may ask goes through `ask`, where nothing is written and nothing outside the run
folder is reached. `copy` is for SQL of our own.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import duckdb
import pyarrow as pa

from factory import store
from factory.files import spill_of
from factory.looking.human import human_select
from factory.looking.lasting import lasting, written_for
from factory.looking.lineage import LINEAGE_SELECT, policy_tokens_select, prices_select, rounds_select
from factory.looking.sql import empty_columns, escaped, literal
from factory.looking.views import VIEWS
from factory.objects.holding import away
from factory.objects.place import url_of
from factory.objects.reading import stored_parts
from factory.run import RunFolder
from schemas.errors import Fixable, StorageError
from schemas.tables import OF_ROUNDS, SCHEMAS, Table

ROUND = "the round that the row is of: the part of the path"
BATCH = 10_000  # rows in memory where an answer goes into a file
SORTING = "2GB"  # of memory that an export may take, whatever its size
_COPIED_AS = {".parquet": "FORMAT parquet, COMPRESSION zstd", ".jsonl": "FORMAT json"}
_READING = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_PART = re.compile(r"/part-\d+\.parquet")
_EXPLAIN = re.compile(r"EXPLAIN\s+(?:ANALYZE\s+)?(.*)", re.IGNORECASE | re.DOTALL)


def write_catalog(path: Path, root: Path) -> None:
    """`catalog.duckdb`: a view for each table over all rounds, and those of `factory.looking.views`, with comments.

    Replaced atomically. Of a run in an object store only where all its parts are here: a file of DuckDB's holds their paths.
    """
    if away(root):
        return
    with store.writing(path) as temporary:
        try:
            with duckdb.connect(str(temporary)) as connection:
                connection.begin()  # two hundred small ones, of which each would be put on disk by itself
                for statement in catalog_statements(root):
                    connection.execute(statement)
                connection.commit()
        except duckdb.Error as error:
            temporary.with_name(f"{temporary.name}.wal").unlink(missing_ok=True)
            raise StorageError(f"{path}: cannot be written: {' '.join(str(error).split())}") from error


def keep_catalog(path: Path, root: Path) -> None:
    """Anew where it is not there, or was written where the run lay before. Nothing of ours reads it: it may stay as it is."""
    with suppress(StorageError):
        if not _is_of(path, root):
            write_catalog(path, root)


def _is_of(path: Path, root: Path) -> bool:
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            made = connection.execute("SELECT sql FROM duckdb_views() WHERE view_name = 'prompts'").fetchall()
    except duckdb.Error:
        return False
    return any(written_for(str(sql), root) for (sql,) in made)


def catalog_statements(root: Path) -> list[str]:
    """Views over the Parquet parts under `root`. A table without parts is an empty view with the right columns."""
    columns = {
        **{
            str(name): {"round": ROUND} | {column.name: column.metadata[b"comment"].decode() for column in schema}
            for name, schema in [*SCHEMAS.items(), *OF_ROUNDS.items()]
        },
        **{view.name: view.columns for view in VIEWS},
    }
    comments = [
        f"COMMENT ON COLUMN {name}.{column} IS {literal(comment)}"
        for name, own in columns.items()
        for column, comment in own.items()
    ]
    made = lasting(root, views(root), {str(name): schema for name, schema in SCHEMAS.items()})
    return [*made, *comments, *(f"COMMENT ON VIEW {view.name} IS {literal(view.comment)}" for view in VIEWS)]


def views(root: Path, round_: int | None = None) -> list[str]:
    """Of tables and marks; `round_`: the rows of that round alone. Over all rounds, what is made of them too."""
    selects = {table.value: _select(root, table, schema, round_) for table, schema in SCHEMAS.items()}
    selects["human"] = human_select(RunFolder(root), round_)
    if round_ is None:
        selects |= {"rounds": rounds_select(RunFolder(root)), "lineage": LINEAGE_SELECT}
        selects |= {"prices": prices_select(RunFolder(root)), "policy_tokens": policy_tokens_select(RunFolder(root))}
        selects |= {view.name: view.sql for view in VIEWS}
    return [f"CREATE OR REPLACE VIEW {name} AS {select}" for name, select in selects.items()]


def _select(root: Path, table: Table, schema: pa.Schema, round_: int | None) -> str:
    columns, parts = ", ".join(schema.names), f"round={'*' if round_ is None else round_}/{table}/part-*.parquet"
    places = [f"{url_of(root)}/{path}" for path in sorted(away(root)) if fnmatchcase(path, parts)]
    if any(root.glob(parts)):
        places.append(f"{escaped(root.resolve())}/{parts}")
    if places:
        named = ", ".join(map(literal, places))
        return f"SELECT {columns}, round FROM read_parquet([{named}], hive_partitioning = true)"
    return f"SELECT {empty_columns(schema)}, NULL::BIGINT AS round WHERE false"


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a query: column names and rows of plain values."""

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]


def ask(root: Path, sql: str, parameters: Sequence[object] = (), round_: int | None = None) -> Answer:
    """Read-only SQL over a run's tables; nothing outside the run folder can be reached. Raises Fixable.

    `round_`: over the rows of that round alone.
    """
    with _tables(root, round_) as connection:
        return _asked(connection, sql, parameters)


def ask_all(root: Path, statements: Sequence[str], round_: int | None = None) -> list[Answer]:
    """Several at once: to open the tables takes longer than most questions. Raises Fixable."""
    with _tables(root, round_) as connection:
        return [_asked(connection, sql, ()) for sql in statements]


@contextmanager
def asked_in_batches(root: Path, sql: str) -> Iterator[pa.RecordBatchReader]:
    """The rows of the last statement as Arrow, a part of them in memory at a time. As `ask`; raises Fixable."""
    with _tables(root) as connection:
        _refuse_all_but_looks(connection, sql)
        yield connection.sql(sql).to_arrow_reader(BATCH)


@contextmanager
def session(root: Path, round_: int | None = None) -> Iterator[Callable[[str], Answer]]:
    """For question after question over the same tables. What it yields is as `ask`, and raises Fixable."""
    with _tables(root, round_) as connection:

        def one(sql: str) -> Answer:
            with _explained():
                return _asked(connection, sql, ())

        yield one


@contextmanager
def _tables(root: Path, round_: int | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    with _mendable(root), duckdb.connect() as connection, _explained():
        _read_from_store(connection, root)
        for statement in (*views(root, round_), *_confinement(root)):
            connection.execute(statement)
        yield connection


def _read_from_store(connection: duckdb.DuckDBPyConnection, root: Path) -> None:
    if (files := stored_parts(root)) is not None:
        connection.register_filesystem(files)
        connection.execute("SET parquet_metadata_cache = true")  # each footer once, whatever is asked


@contextmanager
def _explained() -> Iterator[None]:
    """Errors of DuckDB as one line. Raises Fixable."""
    try:
        yield
    except duckdb.Error as error:
        raise Fixable(f"query: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise Fixable("query: nested too deeply; write it flatter") from None


@contextmanager
def _mendable(root: Path) -> Iterator[None]:
    """Where a part cannot be read, what mends it is said too. Raises Fixable."""
    try:
        yield
    except Fixable as error:
        if not _PART.search(str(error)):
            raise
        raise Fixable(f"{error}; `prefactory verify {root} --repair` takes out what is damaged") from error


def _asked(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[object]) -> Answer:
    _refuse_all_but_looks(connection, sql)
    cursor = connection.execute(sql, parameters)
    return Answer(tuple(column[0] for column in cursor.description or ()), tuple(cursor.fetchall()))


def _refuse_all_but_looks(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    asked = connection.extract_statements(sql)
    if not asked:
        raise Fixable('query: nothing is asked; for example "SELECT * FROM funnel"')
    if not all(_only_looks(connection, statement.query) for statement in asked):
        raise Fixable("query: only SELECT and its like are run here: the tables of a run are never written by hand")


def _only_looks(connection: duckdb.DuckDBPyConnection, statement: str) -> bool:
    """Whether it is a SELECT throughout, or explains one.

    Its type is not enough: EXPLAIN ANALYZE does what it explains, and a SELECT may begin WITH a COPY that writes.
    """
    explained = _EXPLAIN.fullmatch(statement.strip())
    serialized = connection.execute("SELECT json_serialize_sql(?)", [explained[1] if explained else statement])
    ((found,),) = serialized.fetchall()
    tree = json.loads(found)
    return not tree["error"] and {kind for kind in _kinds(tree) if kind.endswith("_NODE")} <= _READING


def _kinds(tree: object) -> Iterator[str]:
    """Every `type` in a parsed statement."""
    if isinstance(tree, dict):
        if isinstance(tree.get("type"), str):
            yield tree["type"]
        tree = list(tree.values())
    if isinstance(tree, list):
        for part in tree:
            yield from _kinds(part)


def copy(root: Path, sql: str, target: Path, round_: int | None = None) -> int:
    """Write what a query gives as one file, Parquet or `.jsonl`, in flat memory. Returns the rows.

    Raises Fixable, StorageError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    spill = str(spill_of(target.parent))  # what does not fit into memory while it is sorted
    with duckdb.connect(config={"memory_limit": SORTING, "temp_directory": spill}) as connection:
        _read_from_store(connection, root)
        for statement in views(root, round_):
            connection.execute(statement)
        try:
            copied = connection.execute(f"COPY ({sql}) TO {literal(str(target))} ({_COPIED_AS[target.suffix]})")
        except duckdb.IOException as error:
            raise StorageError(f"{target}: cannot be written: {' '.join(str(error).split())}") from error
        row = copied.fetchone()
    return int(row[0]) if row else 0


def _confinement(root: Path) -> Iterable[str]:
    named = {f"{root.resolve()}/", f"{escaped(root.resolve())}/"}  # the views' patterns are checked as they are written
    named |= {f"{url_of(root)}/"} if away(root) else set()
    yield f"SET allowed_directories = [{', '.join(map(literal, sorted(named)))}]"
    yield f"SET temp_directory = {literal(str(spill_of(root.resolve())))}"  # else the working folder may be read too
    yield "SET enable_external_access = false"
    yield "SET python_enable_replacements = false"  # a table's name never means a variable of this program
    yield "SET lock_configuration = true"
