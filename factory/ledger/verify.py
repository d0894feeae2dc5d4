"""Whether what lies of a round is what was written there, and holds together. Reads everything, changes nothing.

First whether recipe, provenance and identity agree. Then the ledger: each record, what it was made from, and each part's
checksum, size, rows and form. Then the rows, by the laws of `factory.ledger.laws`, a few shards in memory at a time. Last what
is there once: ids over the whole run, export, catalog, manifest.

The rule that must not break: a shard is looked at only where what it is made from is sound. One fault is one fault, and never
a row of others behind it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from factory import store
from factory.export import is_of, marks_use, rows_of, written_formats
from factory.formats import FORMATS
from factory.judging.heeding import Marks
from factory.ledger.found import Fault, Found, Kind
from factory.ledger.heeded_marks import marks_made_with
from factory.ledger.identity import Stage
from factory.ledger.laws import Broken, Law, broken, laws_of
from factory.ledger.marks import digest_of_marks, standing_marks
from factory.ledger.origin import wrong_origin
from factory.ledger.part_queries import Ask, Rows, catalog_counts, tables_over
from factory.ledger.rounds import taken
from factory.looking.sql import literal
from factory.objects.place import url_of
from factory.run import RunFolder
from factory.work import Work
from schemas.errors import SchemaError
from schemas.export import ExportFormat
from schemas.manifest import PartFile, RunManifest, StageRecord
from schemas.marks import MarksUse
from schemas.recipe import POLICY, Recipe
from schemas.tables import Table

AT_ONCE = 16  # shards whose rows are looked at together
TABLES: Mapping[Stage, tuple[Table, ...]] = {
    Stage.PROMPTS: (Table.PROMPTS,),
    Stage.ROLLOUTS: (Table.ROLLOUTS,),
    Stage.VERDICTS: (Table.VERDICTS, Table.CANARIES, Table.REASKED),
    Stage.CONFIRMATIONS: (Table.CONFIRMATIONS,),
    Stage.PAIRS: (Table.SCORECARDS, Table.PAIRS, Table.DROPPED),
    Stage.TRUST: (Table.TRUST,),
}
_ONCE = (Stage.PROMPTS, Stage.SPREADS, Stage.BALANCE, Stage.TRUST, Stage.EXPORT)


def verify(work: Work, manifest: RunManifest) -> Found:
    """Everything of a round. Raises SchemaError only where not even the number of shards can be known."""
    look = _Look(work, manifest)
    if wrong := wrong_origin(work, manifest):
        return Found([replace(wrong, round=work.run.round)])
    look.ledger(Stage.PROMPTS)
    if look.sound[Stage.PROMPTS]:
        for stage in _stages(work.recipe):
            look.ledger(stage)
        look.laws()
        look.whole_run()
    look.found.faults = [replace(fault, round=work.run.round) for fault in look.found.faults]
    return look.found


def _stages(recipe: Recipe) -> list[Stage]:
    """Those that rest on the prompts."""
    without = {Stage.PROMPTS} if recipe.jury.confirm else {Stage.PROMPTS, Stage.CONFIRMATIONS}
    return [stage for stage in Stage if stage not in without]


@dataclass
class _Look:
    work: Work
    manifest: RunManifest
    found: Found = field(default_factory=Found)
    sound: dict[Stage, set[int]] = field(default_factory=dict)

    @property
    def run(self) -> RunFolder:
        return self.work.run

    def ledger(self, stage: Stage) -> None:
        """The records and parts of a stage."""
        shards = range(1) if stage in _ONCE else self.work.shards()
        own = self.sound[stage] = set()
        for shard in shards:
            faults = list(self._faults_of(stage, shard))
            self.found.faults += faults
            if faults:
                continue
            if self.work.found(stage, shard) is None or self.work.wanted(stage, shard) is None:
                self.found.pending[stage.value] = self.found.pending.get(stage.value, 0) + 1
            else:
                own.add(shard)
        if stage is not Stage.PROMPTS or own:
            self._strangers(stage)

    def _faults_of(self, stage: Stage, shard: int) -> Iterator[Fault]:
        record = self.work.found(stage, shard)
        name = self._name(self.run.record_path(stage, shard))
        if record is None:
            if self.work.unreadable(stage, shard):
                yield Fault(Kind.RECORD, stage, shard, name, "is not a record")
            return
        wanted = self.work.wanted(stage, shard)
        if wanted is None:
            return  # what it is made from is at fault, and said so
        if record.fingerprint != wanted or record.inputs != self.work.inputs(stage, shard):
            yield Fault(Kind.ORIGIN, stage, shard, name, "was made from something else than what lies there now")
            return
        if why := self._wrong_outputs(stage, shard, record):
            yield Fault(Kind.RECORD, stage, shard, name, why)
            return
        for part in record.outputs:
            if why := self._wrong(part, stage):
                yield Fault(Kind.PART, stage, shard, part.path, why)

    def _wrong_outputs(self, stage: Stage, shard: int, record: StageRecord) -> str | None:
        """Whether the record names the parts that the stage writes."""
        if stage is Stage.EXPORT:
            return None
        shards = range(len(record.outputs)) if stage is Stage.PROMPTS else [shard]
        paths = [self._name(self.run.part_path(table, one)) for table in TABLES.get(stage, ()) for one in shards]
        named = [part.path for part in record.outputs]
        return None if named == paths else f"names {', '.join(named) or 'no part'}, not {', '.join(paths) or 'none'}"

    def _wrong(self, part: PartFile, stage: Stage) -> str | None:
        """What is wrong with a file, if anything; counts it else."""
        path = self.run.root / part.path
        try:
            size = path.stat().st_size
            if size != part.size:
                return f"has {size} bytes, not {part.size}"
            if store.sha256_of(path) != part.sha256:
                return "has not the checksum of its record"
            if path.suffix == ".parquet":
                if (rows := store.rows_of(path)) != part.rows:
                    return f"has {rows} rows, not {part.rows}"
                if stage is not Stage.EXPORT and not store.has_form_of(path, Table(path.parent.name)):
                    return f"is not in the form of the table `{path.parent.name}`"
        except FileNotFoundError:
            return "is not there"
        except (SchemaError, OSError) as error:
            return f"cannot be read ({error})"
        self.found.parts += 1
        self.found.rows += part.rows
        return None

    def _strangers(self, stage: Stage) -> None:
        """Files among the parts of a stage that are of no shard: the views would count them."""
        shards = range(1) if stage in _ONCE and stage is not Stage.PROMPTS else self.work.shards()
        for table in TABLES.get(stage, ()):
            known = {self.run.part_path(table, shard).name for shard in shards}
            folder = self.run.part_path(table, 0).parent
            for name in sorted({path.name for path in folder.glob("*.parquet")} - known if folder.is_dir() else ()):
                self.found.faults.append(
                    Fault(Kind.STRANGER, stage, -1, self._name(folder / name), "is of no shard of this run")
                )

    def laws(self) -> None:
        """The rows of every shard whose parts are sound, as far as each has come."""
        laws = laws_of(self.work.recipe, self.run.round, self.manifest.provenance.models.get(POLICY, ""), self._marks())
        for batch in _batches(self.work.shards(), AT_ONCE):
            for stage in (Stage.ROLLOUTS, Stage.VERDICTS, Stage.CONFIRMATIONS, Stage.PAIRS):
                shards = [shard for shard in batch if self._sound_up_to(stage, shard)]
                own = [law for law in laws if law.stage is stage]
                if shards and own:
                    self._hold(own, shards)

    def _marks(self) -> Marks | None:
        """That the pairs were made with; None where that cannot be known."""
        try:
            return marks_made_with(self.run, self.manifest)
        except SchemaError as error:
            name = self._name(self.run.human_path)
            self._rolled(name, str(error).removeprefix(f"{self.run.human_path}: "))
            return None

    def _sound_up_to(self, stage: Stage, shard: int) -> bool:
        before = [Stage.ROLLOUTS, Stage.VERDICTS, Stage.CONFIRMATIONS, Stage.PAIRS]
        needed = before[: before.index(stage) + 1]
        return all(shard in self.sound[one] for one in needed if one in self.sound)

    def _hold(self, laws: Sequence[Law], shards: Sequence[int]) -> None:
        """These laws in these shards; where one is broken, the stage is not sound there."""
        with tables_over(self.run.root, self._parts(shards)) as ask:
            for one in broken(ask, laws):
                self.sound[one.law.stage].discard(one.shard)
                self.found.faults.append(self._fault(one))

    def _fault(self, one: Broken) -> Fault:
        file = self._name(self.run.part_path(TABLES[one.law.stage][0], one.shard))
        more = "" if one.rows == 1 else f", and {one.rows - 1} more"
        return Fault(Kind.ROWS, one.law.stage, one.shard, file, f"{one.law.why} ({one.example}{more})")

    def _parts(self, shards: Sequence[int]) -> dict[Table, list[Path]]:
        return {
            table: [
                self.run.part_path(table, shard)
                for shard in shards
                if stage is Stage.PROMPTS or shard in self.sound[stage]
            ]
            for stage in (Stage.PROMPTS, Stage.ROLLOUTS, Stage.VERDICTS, Stage.CONFIRMATIONS, Stage.PAIRS)
            if stage in self.sound
            for table in TABLES[stage]
        }

    def whole_run(self) -> None:
        """What is there once."""
        with tables_over(self.run.root, self._parts(self.work.shards())) as ask:
            self._ids(ask)
            if self.found.finished and not self.found.faults:
                self._export(ask)
        if not self.found.faults:
            self._roll_up()

    def _ids(self, ask: Ask) -> None:
        """An answer's id begins with its prompt's: prompts that are there once make everything unique."""
        twice = ask(
            "SELECT prompt_id, min(shard), max(shard) FROM prompts GROUP BY 1 HAVING count(*) > 1 ORDER BY 1 LIMIT 9"
        )
        for prompt_id, first, last in twice:
            self._once_broken(Stage.PROMPTS, f"prompt {prompt_id} is in shard {first} and again in {last}")
        if self.work.recipe.prompts.used_up == "stop":
            before = taken(self.run)
            for (prompt_id,) in ask("SELECT prompt_id FROM prompts ORDER BY 1") if before else ():
                if prompt_id in before:
                    self._once_broken(Stage.PROMPTS, f"prompt {prompt_id} was taken by an earlier round")
                    break

    def _export(self, ask: Ask) -> None:
        """Each format has a row for each that it can hold, and nothing else."""
        record = self.work.record(Stage.EXPORT, 0)
        use, digest = marks_use(record.notes)
        if use is not MarksUse.UNUSED and digest != digest_of_marks(standing_marks(self.run).values()):
            return  # other pairs bear a mark now, and the next export is of these
        for name in written_formats(record.notes):
            files = [part for part in record.outputs if is_of(self.run, part, name)]
            rows, wanted = sum(part.rows for part in files), rows_of(self.run, FORMATS[name], use)
            missing = use is MarksUse.UNUSED and self._missing(
                ask, name, [self.run.root / part.path for part in files if part.rows]
            )
            if rows != wanted or missing:
                why = f"`{name}` has {rows} rows, and the tables hold {wanted} for it" + (
                    f", not that of {missing[0][0]}" if missing else ""
                )
                self._once_broken(Stage.EXPORT, why)

    def _missing(self, ask: Ask, name: ExportFormat, files: Sequence[Path]) -> Rows:
        """A pair whose prompt is not in the dataset; asked where nothing may be left out."""
        if FORMATS[name].reasons or not files:
            return []
        named = ", ".join(literal(str(path)) for path in files)
        return ask(f"(SELECT prompt_id FROM pairs) EXCEPT (SELECT prompt_id FROM read_parquet([{named}])) LIMIT 1")

    def _roll_up(self) -> None:
        """Manifest and catalog are made from the rest, and must say the same."""
        counts = self._counts()
        manifest = self.manifest
        said = (manifest.prompts, manifest.shards, manifest.pairs, sum(manifest.dropped.values()))
        wanted = (counts[Table.PROMPTS], len(self.work.shards()), counts[Table.PAIRS], counts[Table.DROPPED])
        if self.found.finished and said != wanted:
            self._rolled(
                self._name(self.run.manifest_path),
                f"says {said} prompts, shards, pairs and drops, and there are {wanted}",
            )
        if url_of(self.run.root) is not None:
            return  # a catalog has paths in it: each machine's copy has its own
        try:
            seen = catalog_counts(self.run.catalog_path, self.run.round)
        except SchemaError as error:
            self._rolled(self.run.catalog_path.name, f"cannot be used ({error})")
            return
        for table in Table:
            if seen.get(table.value) != counts[table] and self.found.finished:
                why = f"its view `{table}` has {seen.get(table.value, 'no')} rows, and there are {counts[table]}"
                self._rolled(self.run.catalog_path.name, why)

    def _counts(self) -> Counter[Table]:
        """Rows of each table, by the records."""
        counts: Counter[Table] = Counter()
        for stage in TABLES:
            for shard in self.sound.get(stage, ()):
                for part in self.work.record(stage, shard).outputs:
                    counts[Table(Path(part.path).parent.name)] += part.rows
        return Counter({table: counts[table] for table in Table})

    def _once_broken(self, stage: Stage, why: str) -> None:
        file = self._name(self.run.record_path(stage, 0))
        self.found.faults.append(Fault(Kind.ROWS, stage, 0, file, why))

    def _rolled(self, file: str, why: str) -> None:
        self.found.faults.append(Fault(Kind.ROLL_UP, Stage.EXPORT, 0, file, why))

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.run.root))


def _batches(shards: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(shards), size):
        yield shards[start : start + size]
