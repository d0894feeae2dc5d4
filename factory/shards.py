"""The stages, one shard at a time: read the parts before it, work, write its parts, and its record last.

Every function here can be called again at any moment: a finished shard is left alone, an unfinished one goes on from its
journal. None knows who calls it, in which order, or whether a scheduler stands behind.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from factory import identity
from factory.asking import Desk
from factory.hearing import Case, Seat, all_verdicts, cases, hear, hear_again, questions_again
from factory.identity import Stage
from factory.jury import PooledSpread, candidates, score_prompt
from factory.pairing import pair_prompt
from factory.progress import Progress
from factory.prompts import Collected
from factory.rollouts import Policy, plan, roll_out
from factory.run import RunFolder, versions
from factory.verifying import Check, CheckPool
from judges.base import Judge
from schemas.errors import Fixable
from schemas.manifest import PartFile, StageRecord
from schemas.recipe import Recipe
from schemas.rows import Dropped, Loop, Pair, Prompt, Rollout, Scorecard, Verdict
from schemas.tables import Table

CHECK_SECONDS = 20.0  # for one verifier on one answer


@dataclass(frozen=True, slots=True)
class Work:
    """What every stage of a run needs."""

    run: RunFolder
    recipe: Recipe
    identity: Mapping[str, str]
    progress: Progress

    def fingerprint(self, stage: Stage, shard: int) -> str:
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
            case Stage.PAIRS:
                return [
                    *self.inputs(Stage.VERDICTS, shard),
                    *self.record(Stage.VERDICTS, shard).outputs,
                    self._spreads(),
                ]
            case Stage.EXPORT:
                return [part for each in self.shards() for part in self.record(Stage.PAIRS, each).outputs]
            case Stage.PROMPTS:
                return []

    def _spreads(self) -> PartFile:
        """The record itself is the part: every verdict has a say in every pair, through the pooled spreads."""
        self.record(Stage.SPREADS, 0)
        return self.run.record_file(Stage.SPREADS, 0)

    def record(self, stage: Stage, shard: int) -> StageRecord:
        record = self.run.record(stage, shard)
        if record is None:
            raise Fixable(f"{self.run.root}: {stage} of shard {shard} are not there yet; `prefactory run` makes them")
        return record

    def shards(self) -> range:
        return range(self.run.shards())

    def finished(self, stage: Stage, shard: int) -> StageRecord | None:
        """The record of a shard that needs no more work; None too where what it is made from is not there."""
        try:
            return self.run.finished(stage, shard, self.fingerprint(stage, shard))
        except Fixable:
            return None

    def pending(self, stage: Stage) -> list[int]:
        return [shard for shard in self.shards() if self.finished(stage, shard) is None]

    def nothing_left(self) -> bool:
        """Whether every stage is finished, and the export is of these pairs and this split."""
        return len(self.shards()) > 0 and not self.pending(Stage.PAIRS) and self.exported()

    def exported(self) -> bool:
        record = self.finished(Stage.EXPORT, 0)
        return record is not None and record.notes["test_share"] == self.recipe.export.test_share

    def read_case(self, shard: int) -> tuple[Case, ...]:
        return cases(self.run.read_rows(Prompt, shard), self.run.read_rows(Rollout, shard))

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
        return record


def now() -> datetime:
    return datetime.now(UTC)


def write_prompts(work: Work, collect: Callable[[], Collected]) -> StageRecord:
    """Cut the collected prompts into shards. The number of shards is settled here, once."""
    if record := work.finished(Stage.PROMPTS, 0):
        return record
    began, collected = now(), collect()
    size = work.recipe.machine.shard_size
    outputs = [
        work.run.write_part(Table.PROMPTS, shard, list(prompts))
        for shard, prompts in enumerate(_batches(collected.prompts, size))
    ]
    return work.close(Stage.PROMPTS, 0, began, outputs, notes=_source_notes(collected))


def _source_notes(collected: Collected) -> dict[str, float]:
    """What became of each source's rows, as flat figures."""
    return {
        f"{counts.source}.{name}": float(value)
        for counts in collected.counts
        for name, value in asdict(counts).items()
        if name != "source"
    }


def _batches(prompts: Sequence[Prompt], size: int) -> list[Sequence[Prompt]]:
    return [prompts[start : start + size] for start in range(0, len(prompts), size)]


async def write_rollouts(work: Work, shard: int, policy: Policy) -> StageRecord:
    if record := work.finished(Stage.ROLLOUTS, shard):
        return record
    began = now()
    desk = _desk(work, Stage.ROLLOUTS, shard)
    recipe = work.recipe
    prompts = work.run.read_rows(Prompt, shard)
    planned = [one for prompt in prompts for one in plan(prompt, recipe.rollouts, recipe.seed, work.run.round)]
    rows = await roll_out(planned, policy, desk)
    part = work.run.write_part(Table.ROLLOUTS, shard, list(rows))
    judged = sum(len(candidates(case.rollouts).judged) for case in cases(prompts, rows))
    notes = {"hard_loops": sum(row.loop is Loop.HARD for row in rows), "to_judge": judged}
    return work.close(Stage.ROLLOUTS, shard, began, [part], requests=desk.sent, notes=notes)


async def hear_judges(work: Work, shard: int, seats: Sequence[Seat]) -> int:
    """Ask some of the judges about a shard; their replies lie in its journal afterwards. Returns the requests sent."""
    desk = _desk(work, Stage.VERDICTS, shard)
    heard = work.read_case(shard)
    await hear(heard, seats, desk)
    return desk.sent


async def hear_judges_again(work: Work, shard: int, seats: Sequence[Seat], judges: Sequence[Judge]) -> int:
    """Ask some of the judges once more where the whole jury is short of a quorum. Returns the requests sent."""
    desk = _desk(work, Stage.VERDICTS, shard)
    await hear_again(work.read_case(shard), seats, judges, work.recipe.jury, desk)
    return desk.sent


def asked_again(work: Work, shard: int, judges: Sequence[Judge]) -> set[str]:
    """The judges that are worth asking once more about a shard."""
    kept = _desk(work, Stage.VERDICTS, shard).journal.kept
    return {judge.name for judge, _ in questions_again(work.read_case(shard), judges, work.recipe.jury, kept)}


async def write_verdicts(work: Work, shard: int, judges: Sequence[Judge], checkers: CheckPool) -> StageRecord:
    """Read every reply of a shard, run the verifiers, and close it."""
    if record := work.finished(Stage.VERDICTS, shard):
        return record
    began = now()
    kept = _desk(work, Stage.VERDICTS, shard).journal.kept
    heard = work.read_case(shard)
    verdicts = [verdict for case in heard for verdict in all_verdicts(case, judges, kept)]
    verdicts += await checkers.run(_checks(heard, work.recipe.jury.verifiers))
    part = work.run.write_part(Table.VERDICTS, shard, list(verdicts))
    return work.close(Stage.VERDICTS, shard, began, [part], requests=len(kept))


def check_pool() -> CheckPool:
    """The verifiers' processes, one for each core."""
    return CheckPool(os.cpu_count() or 1, CHECK_SECONDS)


def _checks(heard: Sequence[Case], verifiers: Sequence[str]) -> list[Check]:
    return [
        (name, case.prompt, rollout)
        for case in heard
        for rollout in case.rollouts
        for name in verifiers
        if rollout.text is not None
    ]


def write_spreads(work: Work) -> StageRecord:
    """Every judge's within-prompt spread over the whole run, one shard in memory at a time; kept in the record's notes."""
    if record := work.finished(Stage.SPREADS, 0):
        return record
    began, spread = now(), PooledSpread()
    for shard in work.shards():
        verdicts = _by_prompt(work.run.read_rows(Verdict, shard))
        for case in work.read_case(shard):
            spread.add(case.rollouts, verdicts.get(case.prompt.prompt_id, ()), work.recipe.jury)
    return work.close(Stage.SPREADS, 0, began, [], notes=dict(spread.sigmas()))


def write_pairs(work: Work, shard: int) -> StageRecord:
    """Scorecards, pairs and drops of a shard: exactly one pair or drop for each prompt."""
    if record := work.finished(Stage.PAIRS, shard):
        return record
    began, recipe = now(), work.recipe
    verdicts = _by_prompt(work.run.read_rows(Verdict, shard))
    sigmas = {judge: float(sigma) for judge, sigma in work.record(Stage.SPREADS, 0).notes.items()}
    cards: list[Scorecard] = []
    decided: list[Pair | Dropped] = []
    for case in work.read_case(shard):
        heard = verdicts.get(case.prompt.prompt_id, ())
        own = score_prompt(case.prompt.prompt_id, case.rollouts, heard, recipe.jury, sigmas, recipe.pairing)
        cards.extend(own)
        decided.append(pair_prompt(case.prompt, case.rollouts, heard, own, recipe.jury, recipe.pairing))
    outputs = [
        work.run.write_part(Table.SCORECARDS, shard, list(cards)),
        work.run.write_part(Table.PAIRS, shard, [row for row in decided if isinstance(row, Pair)]),
        work.run.write_part(Table.DROPPED, shard, [row for row in decided if isinstance(row, Dropped)]),
    ]
    return work.close(Stage.PAIRS, shard, began, outputs)


def _by_prompt(verdicts: Sequence[Verdict]) -> dict[str, tuple[Verdict, ...]]:
    found: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        found.setdefault(verdict.prompt_id, []).append(verdict)
    return {prompt_id: tuple(rows) for prompt_id, rows in found.items()}


def _desk(work: Work, stage: Stage, shard: int) -> Desk:
    journal = work.run.journal(stage, shard, work.fingerprint(stage, shard))
    return Desk(journal, lambda: work.progress.advance(stage))
