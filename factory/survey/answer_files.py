"""Anybody's file of answers, some rows at a time: JSONL, Parquet, a saved dataset, or a folder of data files.

The rule that must not break: a file is never in memory as a whole, and a row keeps what it came as. A line of JSONL stays
the bytes that it is, because JSON knows numbers, and rows of different forms, that no Arrow column holds. Which column
is what, `factory.survey.answer_columns` says.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from factory import store
from factory.gathering.sources import LINES, PARQUET, bounded_lines, is_saved, json_row, shown_path
from schemas.errors import SourceError

if TYPE_CHECKING:
    import datasets

CODECS: Final = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4"}
_ROWS = 1024  # held at a time, at most
_BYTES = 4 * 2**20  # held at a time, about


class Kind(Enum):
    LINES = auto()
    PARQUET = auto()
    SAVED = auto()


@dataclass(frozen=True, slots=True)
class AnswerFile:
    """A file, or the folder of one split of a saved dataset."""

    path: Path
    kind: Kind

    @property
    def shown(self) -> str:
        return shown_path(self.path)

    @property
    def size(self) -> int:
        if self.kind is Kind.SAVED:
            return sum(path.stat().st_size for path in self.path.glob("*.arrow"))
        return self.path.stat().st_size


@dataclass(frozen=True, slots=True)
class JsonRows:
    """Rows that stand in lines; `numbers` are the lines'."""

    file: str
    numbers: Sequence[int]
    lines: Sequence[bytes]
    rows: Sequence[dict[str, object]]

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> list[object]:
        """NULL where a row lacks it."""
        return [row.get(name) for row in self.rows]

    def place(self, index: int) -> str:
        return f"{self.file}:{self.numbers[index]}"


@dataclass(frozen=True, slots=True)
class ArrowRows:
    """Rows of a file with typed columns; `first` is the number of the first one, from 1 on."""

    file: str
    first: int
    batch: pa.RecordBatch

    def __len__(self) -> int:
        return int(self.batch.num_rows)

    def column(self, name: str) -> pa.Array:
        """NULL throughout where the file lacks it."""
        return self.batch.column(name) if name in self.batch.schema.names else pa.nulls(len(self))

    def place(self, index: int) -> str:
        return f"{self.file}: row {self.first + index}"


Rows = JsonRows | ArrowRows


def answer_files(path: Path) -> tuple[AnswerFile, ...]:
    """The files that `path` is or holds, by name. Raises SourceError where there are none."""
    if not path.exists():
        raise SourceError(f"{shown_path(path)}: no such file or folder")
    if path.is_file():
        return (AnswerFile(path, _kind_of(path)),)
    if is_saved(path):
        splits = (
            [path] if (path / "state.json").is_file() else sorted(file.parent for file in path.glob("*/state.json"))
        )
        return tuple(AnswerFile(split, Kind.SAVED) for split in splits)
    inside = sorted(file for file in path.rglob("*") if file.is_file() and not _hidden(file.relative_to(path)))
    files = tuple(AnswerFile(file, kind) for file in inside if (kind := data_kind(file)) and file.suffix != ".json")
    if not files:
        there = ", ".join(sorted({file.suffix or file.name for file in inside})[:8]) or "nothing"
        raise SourceError(f"{shown_path(path)}: no data file in there that ends in {_known()}; there is {there}")
    return files


def data_kind(path: Path) -> Kind | None:
    """What the name says; None where it is none that is read."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PARQUET:
        return Kind.PARQUET
    if suffixes and suffixes[-1] in CODECS:
        suffixes.pop()
    return Kind.LINES if suffixes and suffixes[-1] in LINES else None


def codec(path: Path) -> str | None:
    return CODECS.get(path.suffix.lower())


def _kind_of(path: Path) -> Kind:
    kind = data_kind(path)
    if kind is None:
        raise SourceError(f"{shown_path(path)}: not a kind of file that is read; the name must end in {_known()}")
    return kind


def _known() -> str:
    return f"{', '.join(sorted(PARQUET | LINES))} (the lines also with {', '.join(CODECS)})"


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def column_types(file: AnswerFile) -> dict[str, pa.DataType | None]:
    """The columns by name; a line of JSON gives no types, and its first rows' names. Raises SourceError."""
    with _readable(file):
        if file.kind is Kind.LINES:
            first = next(_line_batches(file), None)
            return {name: None for row in (first.rows if first else ()) for name in row}
        schema = store.foreign_schema(file.path) if file.kind is Kind.PARQUET else _saved(file).features.arrow_schema
        return {column.name: column.type for column in schema}


def read_rows(file: AnswerFile, columns: Sequence[str] | None) -> Iterator[Rows]:
    """The rows in order; of typed columns only those named (None: all). Raises SourceError, while it goes."""
    with _readable(file):
        if file.kind is Kind.LINES:
            yield from _line_batches(file)
            return
        before = 0
        for batch in _arrow_batches(file, columns):
            yield ArrowRows(file.shown, before + 1, batch)
            before += batch.num_rows


@contextmanager
def _readable(file: AnswerFile) -> Iterator[None]:
    name = {Kind.LINES: "lines of JSON", Kind.PARQUET: "Parquet", Kind.SAVED: "a saved dataset"}[file.kind]
    try:
        yield
    except (pa.ArrowException, OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise SourceError(f"{file.shown}: not readable as {name} ({reason})") from error


def _line_batches(file: AnswerFile) -> Iterator[JsonRows]:
    numbers: list[int] = []
    lines: list[bytes] = []
    rows: list[dict[str, object]] = []
    held = 0
    with pa.input_stream(str(file.path), compression=codec(file.path)) as stream:
        for number, raw in bounded_lines(io.BufferedReader(stream, 2**20), file.shown):
            line = raw.strip()
            numbers.append(number)
            lines.append(line)
            rows.append(json_row(line, f"{file.shown}:{number}", constant=float))
            held += len(line)
            if len(rows) >= _ROWS or held >= _BYTES:
                yield JsonRows(file.shown, numbers, lines, rows)
                numbers, lines, rows, held = [], [], [], 0
    if rows:
        yield JsonRows(file.shown, numbers, lines, rows)


def _arrow_batches(file: AnswerFile, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    if file.kind is Kind.PARQUET:
        yield from store.foreign_batches(file.path, columns, _ROWS, _BYTES)
        return
    dataset = _saved(file)
    rows = max(1, min(_ROWS, _BYTES * len(dataset) // max(file.size, 1)))
    chosen = dataset if columns is None else dataset.select_columns(list(columns))
    for table in chosen.with_format("arrow").iter(batch_size=rows):
        yield from table.combine_chunks().to_batches()


def _saved(file: AnswerFile) -> "datasets.Dataset":
    import datasets  # takes seconds, which whoever reads other files need not wait for

    try:
        return datasets.load_from_disk(str(file.path))
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{file.shown}: not readable as a saved dataset ({error})") from error
