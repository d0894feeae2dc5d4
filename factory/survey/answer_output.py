"""Writes rows again with the columns that the detector found: lines as lines, typed columns as Parquet.

The rule that must not break: but for those columns a row stays what it was, byte by byte where it is a line, and the
file appears whole or not at all.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from factory import store
from factory.gathering.sources import shown_path
from factory.survey.answer_files import AnswerFile, ArrowRows, JsonRows, Kind, Rows, codec, column_types, data_kind
from schemas.errors import SourceError
from schemas.tables import LOOPS

Write = Callable[[Rows, pa.RecordBatch], None]
_MEND = "make room or rights there, or name another file with --out"


def check_output(target: Path, source: Path, files: Sequence[AnswerFile]) -> None:
    """Raises SourceError where the rows of these files cannot go to `target`, before any work is done."""
    kinds = {Kind.LINES if file.kind is Kind.LINES else Kind.PARQUET for file in files}
    if len(kinds) > 1:
        raise SourceError(f"{shown_path(source)}: holds Parquet and lines; with --out give one of the two at a time")
    if data_kind(target) not in kinds:
        suffix = ".jsonl" if kinds == {Kind.LINES} else ".parquet"
        raise SourceError(f"--out {shown_path(target)}: the rows go out as they came in; write a name in {suffix}")
    if target.is_dir():
        raise SourceError(f"--out {shown_path(target)}: is a folder; name a file")
    inputs = {source.resolve(), *(file.path.resolve() for file in files)}
    if inputs & {target.resolve(), *target.resolve().parents}:
        raise SourceError(f"--out {shown_path(target)}: is the input, or inside it; name a file somewhere else")


@contextmanager
def writing_rows(target: Path, files: Sequence[AnswerFile]) -> Iterator[Write]:
    """What to call for each batch of rows, in order. Raises StorageError, and SourceError for files of other columns."""
    with store.writing(target, _MEND) as temporary:
        if files[0].kind is Kind.LINES:
            with pa.output_stream(str(temporary), compression=codec(target)) as stream:
                yield lambda rows, found: _write_lines(stream, rows, found)
            return
        schema = _with_loop_columns(_schema(files[0]))
        with store.foreign_writer(temporary, schema) as write:
            yield lambda rows, found: write(_typed(rows, found, schema))


def replaced_columns(files: Sequence[AnswerFile]) -> list[str]:
    """The columns of the first file that are written over."""
    return [name for name in LOOPS.names if name in column_types(files[0])]


def _schema(file: AnswerFile) -> pa.Schema:
    if file.kind is Kind.PARQUET:
        return store.foreign_schema(file.path)
    return pa.schema(list(column_types(file).items()))


def _with_loop_columns(schema: pa.Schema) -> pa.Schema:
    for field in LOOPS:
        at = schema.get_field_index(field.name)
        schema = schema.append(field) if at < 0 else schema.set(at, field)
    return schema


def _typed(rows: Rows, found: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    assert isinstance(rows, ArrowRows), "one kind of file at a time"
    ours = dict(zip(found.schema.names, found.columns, strict=True))
    theirs = dict(zip(rows.batch.schema.names, rows.batch.columns, strict=True))
    columns = {**theirs, **{name: ours[name] for name in LOOPS.names}}
    if list(columns) != schema.names or any(columns[field.name].type != field.type for field in schema):
        differing = set(columns) ^ set(schema.names) or {
            field.name for field in schema if columns[field.name].type != field.type
        }
        names = ", ".join(sorted(differing)) or "their order"
        raise SourceError(f"{rows.file}: its columns differ from the first file's: {names}; give one file at a time")
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def _write_lines(stream: pa.NativeFile, rows: Rows, found: pa.RecordBatch) -> None:
    assert isinstance(rows, JsonRows), "one kind of file at a time"
    evidence = found.select(LOOPS.names).to_pylist()
    for line, row, loop in zip(rows.lines, rows.rows, evidence, strict=True):
        stream.write(_with_loop(line, row, loop) + b"\n")


def _with_loop(line: bytes, row: dict[str, object], loop: dict[str, object]) -> bytes:
    """The line itself, with the evidence before its last brace; made anew only where it has such fields already."""
    if any(name in row for name in loop):
        merged = row | loop
        try:
            return json.dumps(merged, ensure_ascii=False).encode()
        except UnicodeEncodeError:  # half a character, which JSON can write and UTF-8 cannot
            return json.dumps(merged).encode()
    return line[:-1].rstrip() + (b", " if row else b"") + json.dumps(loop).encode()[1:]
