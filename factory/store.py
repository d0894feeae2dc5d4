"""Parquet parts: the only module that imports `pyarrow.parquet`. SQL over them is in `factory.looking.queries`.

A part appears whole or not at all: it is written under a temporary name, fsynced, checksummed and renamed. Rows go in
and come out as the dataclasses of `schemas.rows`; no caller sees an Arrow table or a dict. Only files of other makers, whose
columns nobody here knows, are read and written as Arrow batches (`foreign_*`).
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from factory.files import make_folder, sync, temporary_of
from schemas.errors import SchemaError, StorageError
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
_ADAPTERS: Mapping[Table, TypeAdapter[Any]] = {
    table: TypeAdapter(list[row_type])  # type: ignore[valid-type]  # a type made from a value, as pydantic wants it
    for table, row_type in ROW_TYPES.items()
}
_MADE_FROM = b"made_from"  # in a part's footer
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


def write_part(path: Path, table: Table, rows: Sequence[Row], made_from: str | None = None) -> Written:
    """One part of `table`; `made_from`: the fingerprint of what it was made from, which it then says itself.

    Raises StorageError where it cannot be written, SchemaError where a row does not fit.
    """
    schema = SCHEMAS[table]
    try:
        arrow = pa.Table.from_pylist([_plain(row) for row in rows], schema=schema)
        arrow.validate(full=True)
    except (pa.ArrowException, TypeError, OverflowError, UnicodeError) as error:
        raise SchemaError(f"{path}: a row does not fit the table `{table}`: {error}") from error
    for column in schema:
        if not column.nullable and arrow[column.name].null_count:
            raise SchemaError(f"{path}: a row does not fit the table `{table}`: {column.name} is NULL")
    if made_from is not None:
        arrow = arrow.replace_schema_metadata({_MADE_FROM: made_from.encode()})
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


def read_part(path: Path, row_type: type[R], without: Collection[str] = ()) -> list[R]:
    """The rows of a part. Raises SchemaError where it is not a part of that table in this version's form.

    Columns in `without` are not read, and are None in every row: most of a rollout's bytes are its token ids.
    """
    table = next(name for name, kind in ROW_TYPES.items() if kind is row_type)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            its_form = file.schema_arrow
            arrow = file.read([name for name in SCHEMAS[table].names if name not in without])
    except (pa.ArrowException, OSError) as error:
        raise SchemaError(f"{path}: not a readable Parquet part: {error}") from error
    if not its_form.equals(SCHEMAS[table]):
        raise SchemaError(f"{path}: not in the form of the table `{table}`; was it written by another version?")
    unread = dict.fromkeys(without)
    try:
        rows: list[R] = _ADAPTERS[table].validate_python([row | unread for row in arrow.to_pylist()])
        return rows
    except ValidationError as error:
        raise SchemaError(f"{path}: {error.errors(include_url=False)[0]}") from error


def rows_of(path: Path) -> int:
    """How many rows a part has, by its own word. Raises SchemaError where it is not readable."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise SchemaError(f"{path}: not a readable Parquet part: {error}") from error


def made_from(path: Path) -> str | None:
    """What a part says that it was made from. Raises SchemaError where it is not readable."""
    try:
        said = pq.read_schema(path).metadata
    except (pa.ArrowException, OSError) as error:
        raise SchemaError(f"{path}: not a readable Parquet part: {error}") from error
    return said[_MADE_FROM].decode() if said and _MADE_FROM in said else None


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
