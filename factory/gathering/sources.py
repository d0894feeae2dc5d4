"""Finds the files of a source of prompts, and reads its rows: JSONL, Parquet, saved datasets, the Hugging Face hub.

The rule that must not break: a row is read whole or refused, with its place. What a row means is for
`factory.gathering.raw_prompts` to say. Rows come in the order of the file, files in the order of their names.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn

import httpx
import pyarrow as pa

from factory.gathering.raw_prompts import RawPrompt, Row, read_row
from schemas.errors import SourceError
from schemas.recipe import Source

if TYPE_CHECKING:
    import datasets

LINES = frozenset({".jsonl", ".ndjson", ".json"})
PARQUET = frozenset({".parquet", ".pq"})
_SPLITS = {
    "train": "train training",
    "validation": "validation valid val dev",
    "test": "test testing eval evaluation",
}
MAX_LINE = 32 * 2**20  # bytes; more than any model reads at once
_BATCH = 1024  # rows held at a time

Placed = tuple[str, Row]


def read_source(source: Source) -> Iterator[RawPrompt]:
    """Every prompt of the source, in order. Raises SourceError, while it goes, at the first row that is not usable."""
    empty = True
    for place, row in rows_of(source):
        empty = False
        yield read_row(row, place, source.prompt_column, source.messages_column)
    if empty:
        raise SourceError(f"{shown(source)}: holds no prompts")


def source_files(source: Source) -> tuple[Path, ...]:
    """The files that a local source is read from. Raises SourceError where there are none; a hub dataset has none."""
    if source.path is None:
        return ()
    if not source.path.exists():
        raise SourceError(f"{shown(source)}: no such file or folder")
    if source.path.is_file():
        return (source.path,)
    if is_saved(source.path):
        return tuple(sorted(path for path in _saved_split(source).glob("*.arrow") if path.name[:6] != "cache-"))
    return _of_split(source, source.path)


def hub_dataset(source: Source) -> "datasets.Dataset":
    """The split of a dataset on the hub, downloaded at most once. Raises SourceError where it cannot be had."""
    import datasets  # takes seconds, which whoever reads files only need not wait for

    try:
        return datasets.load_dataset(source.dataset, source.config, split=source.split, revision=source.revision)
    except (OSError, ValueError, RuntimeError, httpx.HTTPError, datasets.exceptions.DatasetsError) as error:
        # A RuntimeError says that the dataset is a script, which would be a stranger's code: those are never run.
        reason = " ".join(str(error).split())
        raise SourceError(f"dataset {source.dataset}: split {source.split!r} cannot be loaded: {reason}") from error


def shown(source: Source) -> str:
    """The source's place as a person knows it."""
    return f"dataset {source.dataset}" if source.path is None else shown_path(source.path)


def shown_path(path: Path) -> str:
    """Relative to where the user stands, if it lies below."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def rows_of(source: Source) -> Iterator[Placed]:
    if source.path is None:
        yield from _dataset_rows(hub_dataset(source), source)
    elif source.path.is_dir() and is_saved(source.path):
        yield from _dataset_rows(_saved_dataset(source), source)
    else:
        for path in source_files(source):
            yield from _file_rows(path, source)


def _file_rows(path: Path, source: Source) -> Iterator[Placed]:
    suffix = path.suffix.lower()
    if suffix not in LINES | PARQUET:
        known = ", ".join(sorted(LINES | PARQUET))
        raise SourceError(f"{shown_path(path)}: not a kind of file that is read; the name must end in one of {known}")
    try:
        yield from _parquet_rows(path, source) if suffix in PARQUET else _json_rows(path)
    except OSError as error:
        raise SourceError(f"{shown_path(path)}: cannot be read ({error.strerror or error})") from error


def _json_rows(path: Path) -> Iterator[Placed]:
    with path.open("rb") as file:
        for number, line in bounded_lines(file, shown_path(path)):
            yield (place := f"{shown_path(path)}:{number}"), json_row(line, place)


def bounded_lines(file: BinaryIO, shown: str) -> Iterator[tuple[int, bytes]]:
    """The lines that hold anything, with their numbers. Raises SourceError for one that no memory should hold."""
    for number, raw in enumerate(iter(lambda: file.readline(MAX_LINE + 1), b""), start=1):
        if len(raw) > MAX_LINE:
            raise SourceError(f"{shown}:{number}: longer than {MAX_LINE // 2**20} MiB; write one object a line")
        line = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
        if line.strip():
            yield number, line


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON value")


def json_row(line: bytes, place: str, constant: Callable[[str], float] = _not_json) -> dict[str, object]:
    """The object in a line. `constant` is asked what NaN and Infinity are. Raises SourceError with the place."""
    try:
        row = json.loads(line.decode("utf-8"), parse_constant=constant)
    except UnicodeDecodeError as error:
        raise SourceError(f"{place}: byte {error.start + 1} is not UTF-8; save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        raise SourceError(f"{place}: not JSON ({error.msg} at column {error.colno}); write one object a line") from None
    except (ValueError, RecursionError) as error:  # NaN, a number of thousands of digits, thousands of brackets
        raise SourceError(f"{place}: not JSON ({error}); write one object a line") from None
    if not isinstance(row, dict):
        raise SourceError(f"{place}: got a JSON {type(row).__name__}; write one object a line")
    return row


def _parquet_rows(path: Path, source: Source) -> Iterator[Placed]:
    import pyarrow.dataset  # takes seconds where pandas is installed, and most runs read JSONL

    try:
        table = pyarrow.dataset.dataset(path, format="parquet")
        columns = _columns(table.schema.names, source, shown_path(path))
        yield from _arrow_rows(table.to_batches(columns=columns, batch_size=_BATCH), shown_path(path))
    except pa.ArrowException as error:
        raise SourceError(f"{shown_path(path)}: not readable as Parquet ({str(error).splitlines()[0]})") from error


def _dataset_rows(dataset: "datasets.Dataset", source: Source) -> Iterator[Placed]:
    columns = _columns(dataset.column_names, source, shown(source))
    batches = dataset.select_columns(columns).with_format("arrow").iter(batch_size=_BATCH)
    yield from _arrow_rows(batches, shown(source))


def _columns(present: list[str], source: Source, where: str) -> list[str]:
    """The columns to read. Raises SourceError where neither the prompt's nor the messages' is there."""
    if source.prompt_column not in present and source.messages_column not in present:
        raise SourceError(
            f"{where}: no column `{source.prompt_column}` or `{source.messages_column}`; "
            f"name one of {', '.join(present)} as `prompt_column` or `messages_column`"
        )
    optional = ("system", "tools", "answer", "constraints", "instruction_id_list", "kwargs", "language")
    return [name for name in present if name in (source.prompt_column, source.messages_column, *optional)]


def _arrow_rows(batches: Iterable[pa.RecordBatch], where: str) -> Iterator[Placed]:
    before = 0
    for batch in batches:
        try:
            rows: list[Row] = batch.to_pylist()
        except UnicodeDecodeError:
            last = before + batch.num_rows
            raise SourceError(f"{where}: rows {before + 1} to {last} hold bytes that are not UTF-8") from None
        for row in rows:
            before += 1
            yield f"{where}: row {before}", {name: _without_nulls(value) for name, value in row.items()}


def _without_nulls(value: object) -> object:
    """Arrow gives every struct all the fields of its column; those that a row did not set are not its own."""
    if isinstance(value, Mapping):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` made the folder."""
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()


def _saved_split(source: Source) -> Path:
    """The folder of the split in a saved dataset, which may have none."""
    folder = source.path or Path()
    if (folder / "state.json").is_file():
        return folder
    if not (folder / source.split / "state.json").is_file():
        there = ", ".join(sorted(path.parent.name for path in folder.glob("*/state.json")))
        raise SourceError(f"{shown_path(folder)}: no split {source.split!r}; write one of {there} as `split`")
    return folder / source.split


def _saved_dataset(source: Source) -> "datasets.Dataset":
    import datasets  # takes seconds, which whoever reads other files need not wait for

    folder = _saved_split(source)
    try:
        return datasets.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise SourceError(f"{shown_path(folder)}: not readable as a saved dataset ({error})") from error


def _of_split(source: Source, folder: Path) -> tuple[Path, ...]:
    """The data files of the split: those that name it, or all of them where no file names any split."""
    kinds = (LINES | PARQUET) - {".json"}  # there it describes the data
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in kinds and path.is_file())
    if not files:
        raise SourceError(f"{shown_path(folder)}: holds no file that ends in {', '.join(sorted(kinds))}")
    named = {path: _split_named(path.relative_to(folder)) for path in files}
    if not any(named.values()):
        return tuple(files)
    wanted = [path for path in files if named[path] == source.split]
    if not wanted:
        there = ", ".join(sorted({split for split in named.values() if split}))
        raise SourceError(f"{shown_path(folder)}: no split {source.split!r}; write one of {there} as `split`")
    return tuple(wanted)


def _split_named(path: Path) -> str | None:
    words = re.split(r"[^a-z0-9]+", path.as_posix().lower())
    return next((split for split, names in _SPLITS.items() if set(words) & set(names.split())), None)
