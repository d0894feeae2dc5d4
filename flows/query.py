"""The verbs `query` and `sql`: questions in SQL about a run, answered as a table, CSV, JSON or Parquet.

The rule that must not break: whatever is asked goes through `factory.looking.queries`, which only looks, and only at the run.
"""

import csv
import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TextIO

import pyarrow as pa
import typer
from rich.console import Console

from factory import store
from factory.looking import queries
from factory.run import RunFolder
from flows import show
from flows.places import RunPath
from schemas.errors import Fixable
from schemas.manifest import RunManifest

MEND = "name another file as --out"
PROMPT, MORE = "sql> ", "...> "
HELP = "SELECT … ; asks. SHOW TABLES; lists, DESCRIBE answers; explains. .quit or Ctrl-D leaves."


class Form(StrEnum):
    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def looked_at(run: Path) -> RunManifest:
    """What the run says of itself; its catalog is right again for other programs, wherever the folder lies by now.

    Raises Fixable where there is no run.
    """
    folder = RunFolder(run)
    manifest = folder.known()
    queries.keep_catalog(folder.catalog_path, folder.root)
    return manifest


def query(
    run: RunPath,
    sql: Annotated[str, typer.Argument(help='for example "SELECT cause, count(*) FROM pairs GROUP BY ALL"')],
    form: Annotated[Form, typer.Option("--format", help="how the answer is written")] = Form.TABLE,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="where; else on the terminal")] = None,
) -> None:
    """SQL over the tables and views of a run: SHOW TABLES lists them. Read-only."""
    looked_at(run)
    if form is Form.PARQUET:
        _parquet(run, sql, out)
        return
    with _sink(out) as sink:
        match form:
            case Form.TABLE:
                show.show_answer(Console(file=sink), queries.ask(run, sql))
            case Form.CSV:
                _csv(run, sql, sink)
            case Form.JSON:
                _json(run, sql, sink)


def sql(run: RunPath) -> None:
    """A shell for question after question: statements end with a semicolon. Read-only."""
    looked_at(run)
    console, asked_by_hand = Console(), sys.stdin.isatty()
    if asked_by_hand:
        import readline  # noqa: F401  # its import gives `input` a history and arrow keys

        console.print(HELP, markup=False, highlight=False)
    with queries.session(run) as ask:
        for statement in _statements(asked_by_hand=asked_by_hand):
            try:
                show.show_answer(console, ask(statement))
            except Fixable as error:
                if not asked_by_hand:
                    raise
                console.print(str(error), markup=False, highlight=False)


def _statements(*, asked_by_hand: bool) -> Iterator[str]:
    """What stands up to each semicolon at a line's end, and what is left at the end."""
    lines: list[str] = []
    while True:
        try:
            line = input((MORE if lines else PROMPT) if asked_by_hand else "")
        except EOFError:
            break
        if not lines and line.strip() in (".quit", ".exit"):
            return
        lines.append(line)
        if line.rstrip().endswith(";"):
            yield "\n".join(lines)
            lines = []
    if "".join(lines).strip():
        yield "\n".join(lines)


@contextmanager
def _sink(out: Path | None) -> Iterator[TextIO]:
    """Raises StorageError where the file cannot be written."""
    if out is None:
        yield sys.stdout
        return
    with store.writing(out, MEND) as temporary, temporary.open("w", encoding="utf-8", newline="") as sink:
        yield sink


def _csv(run: Path, sql: str, sink: TextIO) -> None:
    """Lists and structs as JSON in their cell; NULL as an empty one."""
    with queries.asked_in_batches(run, sql) as reader:
        writer = csv.writer(sink, lineterminator="\n")
        writer.writerow(reader.schema.names)
        for batch in reader:
            for row in batch.to_pylist():
                writer.writerow([_cell(value) for value in row.values()])


def _cell(value: object) -> object:
    return json.dumps(value, default=str, ensure_ascii=False) if isinstance(value, list | dict) else value


def _json(run: Path, sql: str, sink: TextIO) -> None:
    """One array of objects, a row a line."""
    with queries.asked_in_batches(run, sql) as reader:
        names, rows = reader.schema.names, (row for batch in reader for row in _rows(batch))
        before = "["
        for row in rows:
            values = {name: _json_value(value) for name, value in zip(names, row, strict=True)}
            sink.write(before + json.dumps(values, default=str))
            before = ",\n"
        sink.write("[]\n" if before == "[" else "]\n")


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[object, ...]]:
    yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _json_value(value: object) -> object:
    """JSON has no NaN and no infinity, at whatever depth."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case list():
            return [_json_value(one) for one in value]
        case dict():
            return {name: _json_value(one) for name, one in value.items()}
    return value


def _parquet(run: Path, sql: str, out: Path | None) -> None:
    if out is None:
        raise Fixable("query: --format parquet wants a file; name it as --out")
    with (
        queries.asked_in_batches(run, sql) as reader,
        store.writing(out, MEND) as temporary,
        store.foreign_writer(temporary, reader.schema) as write,
    ):
        for batch in reader:
            write(batch)
