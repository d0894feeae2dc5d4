"""A run folder's layout, and nothing else knows it.

    <root>/recipe.yaml  manifest.json  spent.json  catalog.duckdb  logs/  export/
    <root>/round=0/<table>/part-00000.parquet
    <root>/round=0/_records/<stage>-00000.json      written last: where there is none, the part does not count
    <root>/round=0/_journal/<stage>-00000-<fingerprint>.jsonl   answers of a shard that is not finished yet

Progress is what lies on disk: a record that names its inputs and outputs by checksum is the only proof that a shard is
done, and a record made from something else than what is asked for now does not count.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from factory import store
from factory.own_folder import LOCK, refuse_foreign
from schemas.chat import Completion
from schemas.errors import DriftError, Fixable, SchemaError
from schemas.manifest import PartFile, RunManifest, StageRecord
from schemas.recipe import Recipe
from schemas.rows import Row
from schemas.tables import Table

SHOWN = 4  # changed fields that an error names
VERSIONED = ("prefactory", "pyarrow", "duckdb")
_completion = TypeAdapter(Completion)


def versions() -> dict[str, str]:
    return {name: version(name) for name in VERSIONED}


def run_folder(recipe: Recipe) -> Path:
    """Where a recipe's run lies."""
    return recipe.machine.runs / recipe.name


@dataclass(frozen=True, slots=True)
class RunFolder:
    root: Path
    round: int = 0

    @property
    def recipe_path(self) -> Path:
        return self.root / "recipe.yaml"

    @property
    def manifest_path(self) -> Path:
        return self.root / "manifest.json"

    @property
    def catalog_path(self) -> Path:
        return self.root / "catalog.duckdb"

    @property
    def spent_path(self) -> Path:
        return self.root / "spent.json"

    @property
    def _round(self) -> Path:
        return self.root / f"round={self.round}"

    def log_path(self, name: str) -> Path:
        return self.root / "logs" / f"{name}.log"

    def export_path(self, form: str) -> Path:
        return self.root / "export" / form

    def part_path(self, table: Table, shard: int) -> Path:
        return self._round / table.value / f"part-{shard:05d}.parquet"

    def record_path(self, stage: str, shard: int) -> Path:
        return self._round / "_records" / f"{stage}-{shard:05d}.json"

    def journal(self, stage: str, shard: int, wanted: str) -> "Journal":
        """Of one shard made from exactly what the fingerprint stands for: other answers are never mixed in."""
        return Journal(self._journals / f"{stage}-{shard:05d}-{wanted[:16]}.jsonl")

    @property
    def _journals(self) -> Path:
        return self._round / "_journal"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one process. The lock is the kernel's: a dead owner does not hold it. Raises Fixable."""
        refuse_foreign(self.root)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            held = FileLock(self.root / LOCK, timeout=0).acquire()
        except Timeout as error:
            raise Fixable(f"{self.root}: another process works on this run; wait for it, or stop it") from error
        except OSError as error:
            raise store.storage_error(self.root, error) from error
        with held:
            yield

    def write_part(self, table: Table, shard: int, rows: Sequence[Row]) -> PartFile:
        path = self.part_path(table, shard)
        written = store.write_part(path, table, rows)
        return self._named(path, written.sha256, written.rows)

    def file(self, path: Path, rows: int) -> PartFile:
        """A file of this run as the records name it."""
        return self._named(path, store.sha256_of(path), rows)

    def _named(self, path: Path, sha256: str, rows: int) -> PartFile:
        return PartFile(path=str(path.relative_to(self.root)), sha256=sha256, rows=rows)

    def read_rows(self, row_type: type[store.R], shard: int) -> list[store.R]:
        table = next(name for name, kind in store.ROW_TYPES.items() if kind is row_type)
        return store.read_part(self.part_path(table, shard), row_type)

    def write_record(self, record: StageRecord) -> None:
        store.write_text(self.record_path(record.stage, record.shard), record.model_dump_json(indent=1))
        for journal in self._journals.glob(f"{record.stage}-{record.shard:05d}-*.jsonl"):
            journal.unlink()

    def record(self, stage: str, shard: int) -> StageRecord | None:
        """The record of a finished shard, or None. Raises SchemaError where it is not readable as one."""
        path = self.record_path(stage, shard)
        try:
            return StageRecord.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise SchemaError(f"{path}: not a record; delete it to have the shard redone") from error

    def record_file(self, stage: str, shard: int) -> PartFile:
        """A record as an input of another stage."""
        return self.file(self.record_path(stage, shard), rows=0)

    def finished(self, stage: str, shard: int, wanted: str) -> StageRecord | None:
        """The record, if the shard was finished from exactly what `wanted` stands for and its parts are there."""
        record = self.record(stage, shard)
        if record is None or record.fingerprint != wanted:
            return None
        return record if all((self.root / part.path).exists() for part in record.outputs) else None

    def begun(self, stage: str) -> bool:
        """Whether any shard of the stage was ever finished."""
        return any((self._round / "_records").glob(f"{stage}-*.json"))

    def shards(self) -> int:
        """How many shards the prompts were cut into; 0 before that."""
        record = self.record("prompts", 0)
        return 0 if record is None else len(record.outputs)

    def manifest(self) -> RunManifest | None:
        try:
            return RunManifest.model_validate_json(self.manifest_path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise SchemaError(f"{self.manifest_path}: not a manifest of this version") from error

    def write_manifest(self, manifest: RunManifest) -> None:
        store.write_text(self.manifest_path, manifest.model_dump_json(indent=1))


def refuse_drift(path: Path, changed: list[str]) -> None:
    """Raises DriftError where a field that decides the data is not what it was; names the first few of many."""
    if changed:
        more = f"; and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        raise DriftError(
            f"{path}: this run was made with another recipe: {'; '.join(changed[:SHOWN])}{more}. "
            "Give the recipe another `name`, or set the field back"
        )


class Journal:
    """The finished answers of an unfinished shard: appended one by one, so that a kill costs no paid answer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.kept: dict[str, Completion] = {}
        if path.exists():
            self._replay()

    def _replay(self) -> None:
        """Whole lines only: the last one may have been cut by a kill, and what it held is asked for again."""
        content = self._path.read_bytes()
        whole = content.rfind(b"\n") + 1
        for line in content[:whole].splitlines():
            try:
                completion = _completion.validate_json(line)
            except ValidationError:
                continue
            self.kept[completion.request_id] = completion
        if whole < len(content):
            with self._path.open("r+b") as handle:
                handle.truncate(whole)

    def append(self, completion: Completion) -> None:
        """Raises StorageError."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as handle:
                handle.write(_completion.dump_json(completion) + b"\n")
        except OSError as error:
            raise store.storage_error(self._path, error) from error
        self.kept[completion.request_id] = completion
