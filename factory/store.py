"""Parquet and DuckDB: the only module that imports `pyarrow.parquet` or `duckdb`.

A part appears whole or not at all: it is written under a temporary name, fsynced, checksummed and renamed. Rows go in
and come out as the dataclasses of `schemas.rows`; no caller sees an Arrow table or a dict. Only files of other makers, whose
columns nobody here knows, are read and written as Arrow batches (`foreign_*`).
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from factory.files import make_folder, sync, temporary_of
from schemas.errors import Fixable, SchemaError, StorageError
from schemas.rows import (
    Canary,
    Confirmation,
    Dropped,
    Pair,
    Prompt,
    Reasked,
    Rollout,
    Row,
    Scorecard,
    TrustFigure,
    Verdict,
)
from schemas.tables import SCHEMAS, Table

ROW_TYPES: Mapping[Table, type[Row]] = {
    Table.PROMPTS: Prompt,
    Table.ROLLOUTS: Rollout,
    Table.VERDICTS: Verdict,
    Table.CANARIES: Canary,
    Table.REASKED: Reasked,
    Table.SCORECARDS: Scorecard,
    Table.CONFIRMATIONS: Confirmation,
    Table.PAIRS: Pair,
    Table.DROPPED: Dropped,
    Table.TRUST: TrustFigure,
}
SORTING = "2GB"  # of memory that an export may take, whatever its size
_READING = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_EXPLAIN = re.compile(r"EXPLAIN\s+(?:ANALYZE\s+)?(.*)", re.IGNORECASE | re.DOTALL)
_ADAPTERS: Mapping[Table, TypeAdapter[Any]] = {
    table: TypeAdapter(list[row_type])  # type: ignore[valid-type]  # a type made from a value, as pydantic wants it
    for table, row_type in ROW_TYPES.items()
}
R = TypeVar("R", Prompt, Rollout, Verdict, Canary, Reasked, Scorecard, Confirmation, Pair, Dropped, TrustFigure)


@dataclass(frozen=True, slots=True)
class Written:
    """A part as it lies on disk."""

    sha256: str
    rows: int
    size: int  # in bytes


_RUN_MEND = (
    "make room or rights there, or name another folder as `machine.runs`. "
    "Everything finished so far is kept: the same command goes on from it"
)


@contextmanager
def writing(path: Path, mend: str = _RUN_MEND) -> Iterator[Path]:
    """A temporary neighbour of `path` that takes its place when the block ends well. Raises StorageError."""
    temporary = temporary_of(path)
    try:
        make_folder(path.parent)
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise storage_error(path, error, mend) from error
    finally:
        _remove(temporary)


def storage_error(path: Path, error: OSError, mend: str = _RUN_MEND) -> StorageError:
    return StorageError(f"{path}: cannot be written: {error.strerror or error}; {mend}")


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # the folder itself may be gone or read-only; the error above says so
        return


def write_text(path: Path, text: str) -> None:
    """A small file, whole or not at all. Raises StorageError."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_part(path: Path, table: Table, rows: Sequence[Row]) -> Written:
    """One part of `table`. Raises StorageError where it cannot be written, SchemaError where a row does not fit."""
    schema = SCHEMAS[table]
    try:
        arrow = pa.Table.from_pylist([_plain(row) for row in rows], schema=schema)
        arrow.validate(full=True)
    except (pa.ArrowException, TypeError, OverflowError, UnicodeError) as error:
        raise SchemaError(f"{path}: a row does not fit the table `{table}`: {error}") from error
    for column in schema:
        if not column.nullable and arrow[column.name].null_count:
            raise SchemaError(f"{path}: a row does not fit the table `{table}`: {column.name} is NULL")
    with writing(path) as temporary:
        pq.write_table(arrow, temporary, compression="zstd", write_page_checksum=True)
        return Written(sha256_of(temporary), len(rows), temporary.stat().st_size)


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return {part.name: _plain(getattr(value, part.name)) for part in fields(value)}
    if isinstance(value, tuple):
        return value if value and isinstance(value[0], int) else [_plain(entry) for entry in value]
    return value


def sha256_of(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def read_part(path: Path, row_type: type[R]) -> list[R]:
    """The rows of a part. Raises SchemaError where it is not a part of that table in this version's form."""
    table = next(name for name, kind in ROW_TYPES.items() if kind is row_type)
    try:
        arrow = pq.read_table(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise SchemaError(f"{path}: not a readable Parquet part: {error}") from error
    if not arrow.schema.equals(SCHEMAS[table]):
        raise SchemaError(f"{path}: not in the form of the table `{table}`; was it written by another version?")
    try:
        rows: list[R] = _ADAPTERS[table].validate_python(arrow.to_pylist())
        return rows
    except ValidationError as error:
        raise SchemaError(f"{path}: {error.errors(include_url=False)[0]}") from error


def rows_of(path: Path) -> int:
    """How many rows a part has, by its own word. Raises SchemaError where it is not readable."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise SchemaError(f"{path}: not a readable Parquet part: {error}") from error


def has_form_of(path: Path, table: Table) -> bool:
    """Whether a file's columns are exactly the table's. Raises SchemaError where it is not readable."""
    try:
        return bool(pq.read_schema(path).equals(SCHEMAS[table]))
    except (pa.ArrowException, OSError) as error:
        raise SchemaError(f"{path}: not a readable Parquet part: {error}") from error


def foreign_schema(path: Path) -> pa.Schema:
    """The columns of anybody's Parquet file. Raises ArrowException, OSError."""
    return pq.read_schema(path)


def foreign_batches(path: Path, columns: Sequence[str] | None, rows: int, size: int) -> Iterator[pa.RecordBatch]:
    """Anybody's Parquet file in batches of at most `rows` rows and about `size` bytes: whole row groups never lie in
    memory at once. Raises ArrowException, OSError.
    """
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as file:
        groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
        widest = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=1)
        yield from file.iter_batches(max(1, min(rows, int(size / max(widest, 1)))), columns=columns)


@contextmanager
def foreign_writer(path: Path, schema: pa.Schema) -> Iterator[Callable[[pa.RecordBatch], None]]:
    """Writes a Parquet file batch by batch; for `path` use what `writing` gives."""
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        yield writer.write_batch


def write_catalog(path: Path, root: Path) -> None:
    """`catalog.duckdb`: a view for each table over all rounds, with every column's comment. Replaced atomically."""
    with writing(path) as temporary:
        try:
            with duckdb.connect(str(temporary)) as connection:
                for statement in catalog_statements(root):
                    connection.execute(statement)
        except duckdb.Error as error:
            _remove(temporary.with_name(f"{temporary.name}.wal"))
            raise StorageError(f"{path}: cannot be written: {' '.join(str(error).split())}") from error


def catalog_statements(root: Path) -> list[str]:
    """Views over the Parquet parts under `root`. A table without parts is an empty view with the right columns."""
    comments = [
        f"COMMENT ON COLUMN {table}.{column.name} IS {_literal(column.metadata[b'comment'].decode())}"
        for table, schema in SCHEMAS.items()
        for column in schema
    ]
    return views(root) + comments


def views(root: Path) -> list[str]:
    return [f"CREATE OR REPLACE VIEW {table} AS {_select(root, table, schema)}" for table, schema in SCHEMAS.items()]


def _select(root: Path, table: Table, schema: pa.Schema) -> str:
    columns = ", ".join(schema.names)
    if any(root.glob(f"round=*/{table}/part-*.parquet")):
        pattern = _literal(f"{_escaped(root)}/round=*/{table}/part-*.parquet")
        return f"SELECT {columns}, round FROM read_parquet({pattern}, hive_partitioning = true)"
    return f"SELECT {empty_columns(schema)}, NULL::BIGINT AS round WHERE false"


def empty_columns(schema: pa.Schema) -> str:
    """The columns of a table without a row, for SQL."""
    return ", ".join(f"NULL::{_sql_type(column.type)} AS {column.name}" for column in schema)


def _escaped(root: Path) -> str:
    """The folder inside a glob pattern, where its own brackets and stars must mean themselves."""
    return re.sub(r"([\[*?])", r"[\1]", str(root.resolve()))


def _sql_type(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"{_sql_type(kind.value_type)}[]"
    if pa.types.is_struct(kind):
        return "STRUCT(" + ", ".join(f"{field.name} {_sql_type(field.type)}" for field in kind) + ")"
    return {"string": "VARCHAR", "double": "DOUBLE", "bool": "BOOLEAN", "int8": "TINYINT"}.get(
        str(kind), str(kind).upper()
    )


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a query: column names and rows of plain values."""

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]


def query(root: Path, sql: str, parameters: Sequence[object] = ()) -> Answer:
    """Read-only SQL over a run's tables; nothing outside the run folder can be reached. Raises Fixable."""
    with _tables(root) as connection:
        return _asked(connection, sql, parameters)


def queries(root: Path, statements: Sequence[str]) -> list[Answer]:
    """Several at once: to open the tables takes longer than most questions. Raises Fixable."""
    with _tables(root) as connection:
        return [_asked(connection, sql, ()) for sql in statements]


@contextmanager
def _tables(root: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        try:
            for statement in (*views(root), *_confinement(root)):
                connection.execute(statement)
            yield connection
        except duckdb.Error as error:
            raise Fixable(f"query: {' '.join(str(error).split())}") from error
        except RecursionError:
            raise Fixable("query: nested too deeply; write it flatter") from None


def _asked(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[object]) -> Answer:
    asked = connection.extract_statements(sql)
    if not asked:
        return Answer((), ())
    if not all(_only_looks(connection, statement.query) for statement in asked):
        raise Fixable("query: only SELECT and its like are run here: the tables of a run are never written by hand")
    cursor = connection.execute(sql, parameters)
    return Answer(tuple(column[0] for column in cursor.description or ()), tuple(cursor.fetchall()))


def _only_looks(connection: duckdb.DuckDBPyConnection, statement: str) -> bool:
    """Whether it is a SELECT throughout, or explains one.

    Its type is not enough: EXPLAIN ANALYZE does what it explains, and a SELECT may begin WITH a COPY that writes.
    """
    explained = _EXPLAIN.fullmatch(statement.strip())
    found = connection.execute("SELECT json_serialize_sql(?)", [explained[1] if explained else statement]).fetchone()
    tree = json.loads(found[0]) if found else {"error": True}
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


def copy_query(root: Path, sql: str, target: Path) -> int:
    """Write what a query gives as one Parquet file, in flat memory. Returns the rows. Raises Fixable, StorageError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    spill = target.with_name(f".{target.name}.spill")  # what does not fit into memory while it is sorted
    with duckdb.connect(config={"memory_limit": SORTING, "temp_directory": str(spill)}) as connection:
        for statement in views(root):
            connection.execute(statement)
        try:
            copied = connection.execute(f"COPY ({sql}) TO {_literal(str(target))} (FORMAT parquet, COMPRESSION zstd)")
        except duckdb.IOException as error:
            raise StorageError(f"{target}: cannot be written: {' '.join(str(error).split())}") from error
        row = copied.fetchone()
    return int(row[0]) if row else 0


def _confinement(root: Path) -> Iterable[str]:
    named = {f"{root.resolve()}/", f"{_escaped(root)}/"}  # the views' patterns are checked as they are written
    yield f"SET allowed_directories = [{', '.join(map(_literal, sorted(named)))}]"
    yield f"SET temp_directory = {_literal(f'{root.resolve()}/.query')}"  # else the working folder may be read too
    yield "SET enable_external_access = false"
    yield "SET python_enable_replacements = false"  # a table's name never means a variable of this program
    yield "SET lock_configuration = true"
