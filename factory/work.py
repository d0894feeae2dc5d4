"""What every stage of a run needs, and the one place that knows from which parts each stage is made.

The rule that must not break: whether a shard is done is read from the run folder's records, once in a process, and a
record that cannot be read is said so and counts as none. Only the holder of the folder's lock, and who works under it, may have
one of these at work.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version

from factory.judging.hearing import Case, cases
from factory.ledger import identity
from factory.ledger.identity import Stage
from factory.ledger.journal import Journal
from factory.ledger.marks import digest_of_marks, standing_marks
from factory.progress import Progress
from factory.run import RunFolder
from schemas.errors import Fixable, SchemaError
from schemas.manifest import PartFile, StageRecord
from schemas.marks import MarksUse
from schemas.recipe import Recipe
from schemas.rows import Prompt, Rollout, Row
from schemas.tables import Table

VERSIONED = ("prefactory", "pyarrow", "duckdb")
MARKS = "marks"  # note of an export's record: what it made of people's marks, and the digest of these


@dataclass(frozen=True, slots=True)
class Work:
    """A run folder at work on a recipe. `identity` is everything that decides its data.

    `vain` counts by shard what the attempts met whose requests got no answer at all. The journal has no line of those: a
    kill between asking and the record forgets them.
    """

    run: RunFolder
    recipe: Recipe
    identity: Mapping[str, str]
    progress: Progress
    _records: dict[tuple[Stage, int], StageRecord | None] = field(default_factory=dict, repr=False, compare=False)
    _unreadable: set[tuple[Stage, int]] = field(default_factory=set, repr=False, compare=False)
    vain: dict[tuple[Stage, int], Counter[str]] = field(default_factory=dict, repr=False, compare=False)
    _as_parts: dict[Stage, tuple[StageRecord, PartFile]] = field(default_factory=dict, repr=False, compare=False)

    def fingerprint(self, stage: Stage, shard: int) -> str:
        """Of what a shard would be made from now. Raises Fixable where the stage before it is not finished."""
        return identity.fingerprint(stage, self.identity, self.inputs(stage, shard))

    def inputs(self, stage: Stage, shard: int) -> list[PartFile]:
        """The parts that a shard is made from. Raises Fixable where the stage before it is not finished."""
        match stage:
            case Stage.ROLLOUTS:
                return [self.record(Stage.PROMPTS, 0).outputs[shard]]
            case Stage.VERDICTS:
                return [*self.inputs(Stage.ROLLOUTS, shard), *self.record(Stage.ROLLOUTS, shard).outputs]
            case Stage.SPREADS:
                return [part for each in self.shards() for part in self.record(Stage.VERDICTS, each).outputs]
            case Stage.BALANCE:
                return [*self.inputs(Stage.SPREADS, shard), self._found_by(Stage.SPREADS)]
            case Stage.CONFIRMATIONS:
                return [
                    *self.inputs(Stage.VERDICTS, shard),
                    *self.record(Stage.VERDICTS, shard).outputs,
                    self._found_by(Stage.SPREADS),
                    self._found_by(Stage.BALANCE),
                ]
            case Stage.PAIRS:
                confirmed = self.record(Stage.CONFIRMATIONS, shard).outputs if self.recipe.jury.confirm else []
                return [*self.inputs(Stage.CONFIRMATIONS, shard), *confirmed]
            case Stage.TRUST | Stage.EXPORT:
                return [part for each in self.shards() for part in self.record(Stage.PAIRS, each).outputs]
            case Stage.PROMPTS:
                return [part for earlier in self.run.earlier() for part in earlier.prompt_parts()]

    def _found_by(self, stage: Stage) -> PartFile:
        """The record itself is the part: every verdict has a say in every pair, through the pooled spreads.

        It names every part of the run, and every shard asks for its checksum: that is worked out once.
        """
        record = self.record(stage, 0)
        known = self._as_parts.get(stage)
        if known is None or known[0] is not record:
            known = self._as_parts[stage] = (record, self.run.record_file(record))
        return known[1]

    def found(self, stage: Stage, shard: int) -> StageRecord | None:
        """The record of a shard, whatever it was made from; None where there is none that can be read."""
        key = (stage, shard)
        if key not in self._records:
            try:
                self._records[key] = self.run.record(stage, shard)
            except SchemaError as error:
                self.progress.say(str(error))
                self._unreadable.add(key)
                self._records[key] = None
        return self._records[key]

    def unreadable(self, stage: Stage, shard: int) -> bool:
        """Whether a record lies there that cannot be read: the shard was finished once."""
        return self.found(stage, shard) is None and (stage, shard) in self._unreadable

    def learn(self, record: StageRecord) -> None:
        """Somebody who works under the same lock has finished a shard."""
        self._records[Stage(record.stage), record.shard] = record

    def record(self, stage: Stage, shard: int) -> StageRecord:
        record = self.found(stage, shard)
        if record is None:
            raise Fixable(f"{self.run.root}: {stage} of shard {shard} are not there yet; `prefactory run` makes them")
        return record

    def shards(self) -> range:
        prompts = self.found(Stage.PROMPTS, 0)
        return range(0 if prompts is None else len(prompts.outputs))

    def wanted(self, stage: Stage, shard: int) -> str | None:
        """The fingerprint; None where what the shard is made from is not there."""
        try:
            return self.fingerprint(stage, shard)
        except Fixable:
            return None

    def finished(self, stage: Stage, shard: int) -> StageRecord | None:
        """The record of a shard that needs no more work; None too where what it is made from is not there."""
        record = self.found(stage, shard)
        if record is None or record.fingerprint != self.wanted(stage, shard):
            return None
        return record if all(map(self.run.whole, record.outputs)) else None

    def pending(self, stage: Stage) -> list[int]:
        return [shard for shard in self.shards() if self.finished(stage, shard) is None]

    def nothing_left(self) -> bool:
        """Whether every stage is finished, and the exports are of these pairs and this split."""
        return (
            len(self.shards()) > 0
            and not any(self.pending(stage) for stage in (Stage.ROLLOUTS, Stage.VERDICTS, Stage.PAIRS))
            and self.exported().issuperset(self.recipe.export.formats)
        )

    @property
    def export_notes(self) -> dict[str, float | str]:
        """What of the recipe decides every format's files, as the stage's record has it."""
        export = self.recipe.export
        found: dict[str, float | str] = {
            "test_share": export.test_share,
            "licences": json.dumps(export.licences, sort_keys=True),
        }
        if export.marks is not MarksUse.UNUSED:
            found[MARKS] = f"{export.marks} {digest_of_marks(standing_marks(self.run).values())}"
        return found

    def exported(self) -> frozenset[str]:
        """The formats that lie there, of these pairs and this split."""
        record = self.finished(Stage.EXPORT, 0)
        if record is None:
            return frozenset()
        wanted = self.export_notes
        if any(record.notes.get(name) != wanted.get(name) for name in (MARKS, *wanted)):
            return frozenset()
        return frozenset(str(record.notes.get("formats", "")).split())

    def read_case(self, shard: int) -> tuple[Case, ...]:
        """Without token ids: what judges read, and what is counted of it."""
        rollouts = self.run.read_rows(Rollout, shard, without=("prompt_token_ids", "token_ids"))
        return cases(self.run.read_rows(Prompt, shard), rollouts)

    def read_case_to_pair(self, shard: int) -> tuple[Case, ...]:
        """With the token ids, which a pair keeps."""
        return cases(self.run.read_rows(Prompt, shard), self.run.read_rows(Rollout, shard))

    def journal(self, stage: Stage, shard: int) -> Journal:
        """The answers of a shard that is not finished."""
        journal = self.run.journal(stage, shard, self.fingerprint(stage, shard))
        if journal.unreadable:
            self.progress.say(
                f"{journal.path}: {journal.unreadable} lines cannot be read; their requests are sent again"
            )
        return journal

    def write_part(self, stage: Stage, table: Table, shard: int, rows: Sequence[Row]) -> PartFile:
        """A part that says what it was made from, so that it still counts where its record is lost."""
        return self.run.write_part(table, shard, rows, self.fingerprint(stage, shard))

    def close(self, stage: Stage, shard: int, began: datetime, outputs: list[PartFile], **more: object) -> StageRecord:
        """Write the record that makes a shard count. `more`: requests and notes."""
        record = StageRecord.model_validate(
            {
                "stage": stage,
                "shard": shard,
                "fingerprint": self.fingerprint(stage, shard),
                "inputs": self.inputs(stage, shard),
                "outputs": outputs,
                "started": began,
                "ended": now(),
                "versions": versions(),
                "requests": 0,
                "notes": {},
            }
            | more
        )
        self.run.write_record(record)
        self._records[stage, shard] = record
        return record


def versions() -> dict[str, str]:
    return {name: version(name) for name in VERSIONED}


def now() -> datetime:
    return datetime.now(UTC)
