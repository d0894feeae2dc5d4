"""A run folder's layout, and nothing else knows it.

    <root>/recipe.yaml  manifest.json  spent.json  live.json  turn.json  human.jsonl  catalog.duckdb
    <root>/logs/  export/  report/  grpo/  aside/
    <root>/round=1/recipe.yaml  manifest.json    of each later round its own: another policy, other prompts
    <root>/export/<format>/  export/round-1/<format>/    the pairs of one round each
    <root>/train/  train/round-0/  train/<name>/    checkpoints and what they were made from
    <root>/round=0/<table>/part-00000.parquet
    <root>/round=0/_records/<stage>-00000.json      written last: where there is none, the part does not count
    <root>/round=0/_journal/<stage>-00000-<fingerprint>.jsonl   answers of a shard that is not finished yet

Progress is what lies on disk: a record that names its inputs and outputs by checksum, and has one of its own, is the only
proof that a shard is done, and a record made from something else than what is asked for now does not count. A part is on the
disk before its record is, and the record before the journal goes, and a journal is put there about once a second: a kill costs
no answer, and a power cut those of the last second.
"""

import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from factory import store
from factory.files import is_spilling, is_temporary
from factory.ledger import lock
from factory.ledger.journal import Journal
from factory.ledger.own_folder import refuse_foreign
from factory.objects import holding
from factory.objects.copying import everything, heads
from factory.objects.place import copy_of
from factory.processes import clear_up
from schemas.errors import Fixable, SchemaError
from schemas.manifest import PartFile, RunManifest, StageRecord
from schemas.recipe import Recipe
from schemas.rows import Row
from schemas.tables import Table

# Folders in which files appear whole.
_INNER = ("export", "grpo", "train", "train/*", "train/*/*", "export/round-*", "report", "round=*", "round=*/*")
_ROUND = re.compile(r"round=(0|[1-9]\d*)")
_JOURNAL = re.compile(r"([a-z]+)-(\d+)-([0-9a-f]+)\.jsonl")


def run_folder(recipe: Recipe) -> Path:
    """Where a recipe's run lies; of one in an object store this machine's copy."""
    runs = recipe.machine.runs
    return copy_of(f"{runs.rstrip('/')}/{recipe.name}") if isinstance(runs, str) else runs / recipe.name


@dataclass(frozen=True, slots=True)
class RunFolder:
    root: Path
    round: int = 0

    def rounds(self) -> tuple["RunFolder", ...]:
        """Every round that was begun, in their order."""
        named = (_ROUND.fullmatch(path.name) for path in self.root.glob("round=*"))
        return tuple(RunFolder(self.root, number) for number in sorted(int(one[1]) for one in named if one))

    def earlier(self) -> tuple["RunFolder", ...]:
        """The rounds before this one."""
        return tuple(RunFolder(self.root, number) for number in range(self.round))

    @property
    def _own(self) -> Path:
        """Where what is said of this round alone lies: of the first at the top, as of a run that has no other."""
        return self._round if self.round else self.root

    @property
    def recipe_path(self) -> Path:
        return self._own / "recipe.yaml"

    @property
    def manifest_path(self) -> Path:
        return self._own / "manifest.json"

    @property
    def catalog_path(self) -> Path:
        return self.root / "catalog.duckdb"

    @property
    def story_path(self) -> Path:
        """What became of the rounds."""
        return self.root / "semi_online.json"

    @property
    def turn_path(self) -> Path:
        """Whose turn it was last, of the runs that a scheduler starts."""
        return self.root / "turn.json"

    @property
    def human_path(self) -> Path:
        """What people say of its pairs."""
        return self.root / "human.jsonl"

    @property
    def spent_path(self) -> Path:
        return self.root / "spent.json"

    @property
    def _round(self) -> Path:
        return self.root / f"round={self.round}"

    @property
    def live_path(self) -> Path:
        """What the process at work says of its servers, for whoever watches."""
        return self.root / "live.json"

    def log_path(self, name: str) -> Path:
        return self.root / "logs" / f"{name}.log"

    def export_path(self, form: str) -> Path:
        exports = self.root / "export"
        return (exports / f"round-{self.round}" if self.round else exports) / form

    def report_path(self, beside: str | None = None) -> Path:
        """What a person looks at; `beside`: the name of the run that this one is compared with."""
        return self.root / "report" / ("index.html" if beside is None else f"beside-{beside}.html")

    @property
    def grpo_path(self) -> Path:
        return self.root / "grpo"

    def measured_path(self, name: str) -> Path:
        """Of a checkpoint's evaluation: what was worked out from its answers."""
        return self.root / "measured" / name

    def evaluation_path(self) -> Path:
        """Where the evaluations of this run's checkpoints lie, each a run folder of its own."""
        return self.root / "evaluation"

    def train_path(self, round_: int | None = None, name: str | None = None) -> Path:
        """Of one training: the run's own, that of a round, or one that was given a name of its own."""
        folder = self.root / "train" if round_ is None else self.root / "train" / f"round-{round_}"
        return folder if name is None else folder / name

    def aside_path(self, at: datetime) -> Path:
        """Where what no longer counts and was paid for is put."""
        return self.root / "aside" / f"{at:%Y%m%dT%H%M%S.%fZ}"

    def put_aside(self, path: Path, at: datetime) -> Path:
        """A file or folder of the run; where it lies then. Nothing where it is not there. Raises OSError."""
        target = self.aside_path(at) / path.relative_to(self.root)
        if path.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        return target

    def part_path(self, table: Table, shard: int) -> Path:
        return self._round / table.value / f"part-{shard:05d}.parquet"

    def record_path(self, stage: str, shard: int) -> Path:
        return self._round / "_records" / f"{stage}-{shard:05d}.json"

    def journal(self, stage: str, shard: int, wanted: str) -> Journal:
        """Of one shard made from exactly what the fingerprint stands for: other answers are never mixed in."""
        return Journal(self._journals / f"{stage}-{shard:05d}-{wanted[:16]}.jsonl")

    @property
    def _journals(self) -> Path:
        return self._round / "_journal"

    @contextmanager
    def locked(
        self,
        patience: float = lock.AT_ONCE,
        say: Callable[[str], None] = lambda _: None,
        wanted: Callable[[str], bool] = everything,
    ) -> Iterator[None]:
        """Hold the folder for one process, and clear up what dead ones left. As `factory.ledger.lock.held`; raises Fixable.

        `wanted`: what the work needs of a run that lies in an object store.
        """
        refuse_foreign(self.root)
        with lock.held(self.root, patience, say), holding.held(self.root, patience, say, wanted):
            self._sweep()
            yield

    def look(self, wanted: Callable[[str], bool] = heads) -> "RunFolder":
        """Itself, with what is wanted of it as an object store has it now. Raises StorageError, StoreUnavailable."""
        holding.look(self.root, wanted)
        return self

    def _sweep(self) -> None:
        """Whoever held the lock before is gone: what is unfinished by its name is nobody's, and a journal whose shard
        was finished has nothing left to say.
        """
        clear_up()
        inner = (path for pattern in _INNER for path in self.root.glob(pattern))
        for folder in (self.root, *inner):
            for entry in os.scandir(folder) if folder.is_dir() else ():
                if is_temporary(entry.name) and not is_spilling(entry.name):
                    shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else Path(entry.path).unlink()
        for journal in self.root.glob("round=*/_journal/*.jsonl"):
            if (named := _JOURNAL.fullmatch(journal.name)) and self._spent(journal, named[1], int(named[2]), named[3]):
                journal.unlink()

    def _spent(self, journal: Path, stage: str, shard: int, made_from: str) -> bool:
        round_ = int(journal.parent.parent.name.removeprefix("round="))
        try:
            record = RunFolder(self.root, round_).record(stage, shard)
        except SchemaError:
            return False
        return record is not None and record.closed and record.fingerprint.startswith(made_from)

    def write_part(self, table: Table, shard: int, rows: Sequence[Row], made_from: str | None = None) -> PartFile:
        path = self.part_path(table, shard)
        written = store.write_part(path, table, rows, made_from)
        return PartFile(path=self._named(path), sha256=written.sha256, rows=written.rows, size=written.size)

    def made_from(self, table: Table, shard: int) -> str | None:
        """What a part says that it was made from; None where it says nothing, or cannot be read."""
        try:
            return store.made_from(self.part_path(table, shard))
        except SchemaError:
            return None

    def file(self, path: Path, rows: int) -> PartFile:
        """A file of this run as the records name it."""
        return PartFile(path=self._named(path), sha256=store.sha256_of(path), rows=rows, size=path.stat().st_size)

    def _named(self, path: Path) -> str:
        return str(path.relative_to(self.root))

    def read_rows(self, row_type: type[store.R], shard: int, without: Collection[str] = ()) -> list[store.R]:
        """As `store.read_part`; raises SchemaError."""
        table = next(name for name, kind in store.ROW_TYPES.items() if kind is row_type)
        return store.read_part(self.part_path(table, shard), row_type, without)

    def drop_parts_behind(self, table: Table, shards: int) -> None:
        """What an earlier cut into more shards has left: the views would count it."""
        while (path := self.part_path(table, shards)).exists():
            path.unlink()
            shards += 1

    def write_record(self, record: StageRecord) -> None:
        """What makes a shard count. Its parts are on the disk; now its journals may go."""
        store.write_text(self.record_path(record.stage, record.shard), record.sealed())
        own = f"{record.stage}-{record.shard:05d}-"
        for entry in os.scandir(self._journals) if self._journals.is_dir() else ():
            if entry.name.startswith(own):
                Path(entry.path).unlink()

    def record(self, stage: str, shard: int) -> StageRecord | None:
        """The record of a finished shard, or None. Raises SchemaError where it is not readable as one."""
        path = self.record_path(stage, shard)
        try:
            record = StageRecord.unsealed(path.read_bytes())
        except FileNotFoundError:
            return None
        except (ValueError, OSError) as error:
            raise SchemaError(f"{path}: not a record; its shard counts as not done, and is done again") from error
        if (record.stage, record.shard) != (stage, shard):
            raise SchemaError(f"{path}: the record of {record.stage} {record.shard}; its shard is done again")
        return record

    def record_file(self, record: StageRecord) -> PartFile:
        """A record as an input of another stage."""
        path = self.record_path(record.stage, record.shard)
        return PartFile(path=self._named(path), sha256=record.digest, rows=0, size=0)

    def whole(self, part: PartFile) -> bool:
        """Whether a file is there and as long as it was. What it holds is for `prefactory verify` to look at."""
        try:
            return (self.root / part.path).stat().st_size == part.size
        except OSError:
            return holding.away(self.root).get(part.path) == part.size

    def begun(self, stage: str) -> bool:
        """Whether any shard of the stage was ever finished."""
        return any((self._round / "_records").glob(f"{stage}-*.json"))

    def give_up(self) -> None:
        """A round that took no prompts is none."""
        for path in (self.manifest_path, self.recipe_path):
            path.unlink(missing_ok=True)
        if self.round and self._round.is_dir() and not any(self._round.iterdir()):
            self._round.rmdir()

    def journalled(self, stage: str, shard: int) -> int:
        """Answers of an unfinished shard that lie on disk: lines of its journals, which a process at work may write on."""
        journals = self._journals.glob(f"{stage}-{shard:05d}-*.jsonl")
        return sum(path.read_bytes().count(b"\n") for path in journals)

    def shards(self) -> int:
        """How many shards the prompts were cut into; 0 before that."""
        record = self.record("prompts", 0)
        return 0 if record is None else len(record.outputs)

    def prompt_parts(self) -> list[PartFile]:
        """The prompts that this round took. Raises Fixable where it has not taken them yet."""
        record = self.record("prompts", 0)
        if record is None:
            raise Fixable(f"{self.root}: round {self.round} has no prompts yet, and a later round takes others")
        return record.outputs

    def manifest(self) -> RunManifest | None:
        try:
            return RunManifest.model_validate_json(self.manifest_path.read_bytes())
        except FileNotFoundError:
            return None
        except (ValidationError, OSError) as error:
            raise SchemaError(
                f"{self.manifest_path}: not a manifest; `prefactory run RECIPE` makes a new one"
            ) from error

    def known(self) -> RunManifest:
        """Raises Fixable where the folder is no run."""
        manifest = self.manifest()
        if manifest is None:
            verb = "semi-online" if self.round else "run"
            raise Fixable(
                f"{self.manifest_path.parent}: no run there (no manifest.json); `prefactory {verb} RECIPE` makes one"
            )
        return manifest

    def write_manifest(self, manifest: RunManifest) -> None:
        store.write_text(self.manifest_path, manifest.model_dump_json(indent=1))
