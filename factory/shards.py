"""The stages, one shard at a time: read the parts before it, work, write its parts, and its record last.

Every function here can be called again at any moment: a finished shard is left alone, an unfinished one goes on from its
journal. None knows who calls it, in which order, or whether a scheduler stands behind.
"""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict

from factory import store
from factory.client.asking import Desk, attempt_notes
from factory.judging.canaries import least_lot
from factory.judging.hearing import (
    Case,
    Court,
    Seat,
    all_verdicts,
    answer_counts,
    by_prompt,
    cases,
    hear,
    hear_again,
    judged_verdicts,
    questions_again,
    watched_rows,
)
from factory.judging.verifying import Check, CheckPool
from factory.ledger.identity import Stage
from factory.ledger.salvage import salvaged
from factory.prompts import Collected
from factory.rollouts import Policy, plan, roll_out
from factory.work import Work, now
from schemas.chat import Completion
from schemas.errors import SchemaError
from schemas.manifest import StageRecord
from schemas.rows import Canary, Prompt, Reasked, Verdict
from schemas.tables import Table

CHECK_SECONDS = 20.0  # of CPU, for one verifier on one answer
COST = "cost."  # how these notes of the records of rollouts and verdicts begin
LOT = "least_lot."  # how these notes of the prompts' record begin
Free = Callable[[], None]


def _nothing() -> None: ...


def write_prompts(work: Work, collect: Callable[[], Collected]) -> StageRecord:
    """Cut the collected prompts into shards. The number of shards is settled here, once."""
    if record := work.finished(Stage.PROMPTS, 0):
        return record
    began, collected = now(), collect()
    size = _size_of_shards(work)
    outputs = [
        work.run.write_part(Table.PROMPTS, shard, list(prompts))
        for shard, prompts in enumerate(_batches(collected.prompts, size))
    ]
    work.run.drop_parts_behind(Table.PROMPTS, len(outputs))
    ids = [prompt.prompt_id for prompt in collected.prompts]
    lots = {f"{LOT}{purpose}": least_lot(ids, purpose) for purpose in ("canaries", "reasked")}
    return work.close(Stage.PROMPTS, 0, began, outputs, notes=_source_notes(collected) | lots)


def _size_of_shards(work: Work) -> int:
    """As the recipe says; where the record of the prompts was lost, as they were cut before: everything rests on it."""
    if not work.run.part_path(Table.PROMPTS, 1).exists():
        return work.recipe.machine.shard_size
    try:
        return store.rows_of(work.run.part_path(Table.PROMPTS, 0)) or work.recipe.machine.shard_size
    except SchemaError:
        return work.recipe.machine.shard_size


def lots(work: Work) -> dict[str, float]:
    """The least lot of the run for each purpose that prompts are drawn for."""
    notes = work.record(Stage.PROMPTS, 0).notes
    return {name.removeprefix(LOT): float(value) for name, value in notes.items() if name.startswith(LOT)}


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


def _done(work: Work, stage: Stage, shard: int) -> StageRecord | None:
    return work.finished(stage, shard) or salvaged(work, stage, shard)


async def write_rollouts(work: Work, shard: int, policy: Policy, free: Free = _nothing) -> StageRecord:
    """`free` is called when the last request is on its way, here and wherever it is given."""
    if record := _done(work, Stage.ROLLOUTS, shard):
        return record
    began = now()
    desk = desk_of(work, Stage.ROLLOUTS, shard, free=free)
    recipe = work.recipe
    prompts = work.run.read_rows(Prompt, shard)
    planned = [one for prompt in prompts for one in plan(prompt, recipe.rollouts, recipe.seed, work.run.round)]
    rows = await roll_out(planned, policy, desk)
    part = work.write_part(Stage.ROLLOUTS, Table.ROLLOUTS, shard, list(rows))
    notes = answer_counts(cases(prompts, rows))
    notes |= desk.attempts(one.rollout_id for one in planned) | policy_tokens(desk.journal.kept.values())
    return work.close(Stage.ROLLOUTS, shard, began, [part], requests=desk.sent, notes=notes)


async def hear_judges(
    work: Work, shard: int, seats: Sequence[Seat], court: Court, checks: CheckPool | None = None, free: Free = _nothing
) -> int:
    """Ask some of the judges about a shard; their replies lie in its journal afterwards. Returns the requests sent.

    A cascade wants `checks`: whom it still asks about depends on what the verifiers say.
    """
    foreseen = int(work.record(Stage.ROLLOUTS, shard).notes["to_judge"]) * len(seats)
    if _done(work, Stage.VERDICTS, shard):  # its rollouts were made again, and came out the same
        work.progress.expect(Stage.VERDICTS, -foreseen)
        return 0
    desk = desk_of(work, Stage.VERDICTS, shard, foreseen, free)
    with _vain_counted(work, shard, desk):
        await hear(await _cases(work, shard, checks), seats, court, desk)
    return desk.sent


async def hear_judges_again(
    work: Work, shard: int, seats: Sequence[Seat], court: Court, checks: CheckPool | None = None, free: Free = _nothing
) -> int:
    """Ask some of the judges once more where the whole jury is short of a quorum. Returns the requests sent."""
    if work.finished(Stage.VERDICTS, shard):
        return 0
    desk = desk_of(work, Stage.VERDICTS, shard, free=free)
    with _vain_counted(work, shard, desk):
        await hear_again(await _cases(work, shard, checks), seats, court, desk)
    return desk.sent


@contextmanager
def _vain_counted(work: Work, shard: int, desk: Desk) -> Iterator[None]:
    """The desk goes, and the verdicts' record is written at another one: what was tried in vain here is told there."""
    try:
        yield
    finally:
        work.vain.setdefault((Stage.VERDICTS, shard), Counter()).update(desk.faults)


async def _cases(work: Work, shard: int, checks: CheckPool | None) -> tuple[Case, ...]:
    read = work.read_case(shard)
    return read if checks is None else await _checked(read, work.recipe.jury.verifiers, checks)


async def _checked(read: Sequence[Case], verifiers: Sequence[str], checks: CheckPool) -> tuple[Case, ...]:
    verdicts = await checks.run(_checks(read, verifiers))
    return cases([case.prompt for case in read], [one for case in read for one in case.rollouts], verdicts)


async def asked_again(work: Work, shard: int, court: Court, checks: CheckPool | None = None) -> set[str]:
    """The judges that are worth asking once more about a shard."""
    kept = desk_of(work, Stage.VERDICTS, shard).journal.kept
    read = await _cases(work, shard, checks)
    return {judge.name for case in read for judge, _ in questions_again(case, court, kept)}


async def heard_so_far(work: Work, shard: int, court: Court, checks: CheckPool) -> list[tuple[Case, list[Verdict]]]:
    """Each prompt with the verdicts that there are: stored ones of a finished shard, else those that its replies give."""
    if work.finished(Stage.VERDICTS, shard) is not None:
        stored = by_prompt(work.run.read_rows(Verdict, shard))
        return [(case, list(stored.get(case.prompt.prompt_id, ()))) for case in work.read_case(shard)]
    kept = desk_of(work, Stage.VERDICTS, shard).journal.kept
    return [(case, judged_verdicts(case, court, kept)) for case in await _cases(work, shard, checks)]


async def write_verdicts(work: Work, shard: int, court: Court, checkers: CheckPool) -> StageRecord:
    """Read every reply of a shard, run the verifiers, and close it."""
    if record := work.finished(Stage.VERDICTS, shard):
        return record
    began = now()
    kept = desk_of(work, Stage.VERDICTS, shard).journal.kept
    heard = await _checked(work.read_case(shard), work.recipe.jury.verifiers, checkers)
    verdicts = [verdict for case in heard for verdict in (*all_verdicts(case, court, kept), *case.checks)]
    watched = [watched_rows(case, court, kept) for case in heard]
    canaries: list[Canary] = [row for rows, _ in watched for row in rows]
    reasked: list[Reasked] = [row for _, rows in watched for row in rows]
    outputs = [
        work.write_part(Stage.VERDICTS, Table.VERDICTS, shard, verdicts),
        work.write_part(Stage.VERDICTS, Table.CANARIES, shard, canaries),
        work.write_part(Stage.VERDICTS, Table.REASKED, shard, reasked),
    ]
    met = Counter(kind for reply in kept.values() for kind in reply.faults)
    met.update(work.vain.get((Stage.VERDICTS, shard), ()))
    costs = cost_notes(kept, court) | attempt_notes(len(kept), met)
    return work.close(Stage.VERDICTS, shard, began, outputs, requests=len(kept), notes=costs)


def cost_notes(kept: Mapping[str, Completion], court: Court) -> dict[str, float]:
    """What each judge cost in a shard, all that was asked of it included: calls, tokens, seconds in flight."""
    notes: dict[str, float] = {}
    for request_id, reply in kept.items():
        judge = asked_judge(request_id, court)
        counted = {
            "calls": 1,
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "cached_tokens": reply.cached_tokens,
            "seconds": reply.seconds,
        }
        for name, value in counted.items():
            if value is not None:
                key = f"{COST}{judge}.{name}"
                notes[key] = round(notes.get(key, 0.0) + value, 4)
    return notes


def policy_tokens(replies: Collection[Completion]) -> dict[str, float]:
    """What the policy read and wrote in a shard, where the server counted it in every reply: not each one gives token ids."""
    counted = {
        "prompt_tokens": [reply.prompt_tokens for reply in replies],
        "completion_tokens": [reply.completion_tokens for reply in replies],
    }
    return {
        f"{COST}{name}": float(sum(known))
        for name, values in counted.items()
        if len(known := [value for value in values if value is not None]) == len(values) > 0
    }


def asked_judge(request_id: str, court: Court) -> str:
    """Whose question it was, by the part of the id that is a seat's name."""
    return next((part for part in reversed(request_id.split(":")) if part in court.judges), "")


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


def desk_of(work: Work, stage: Stage, shard: int, foreseen: int = 0, free: Free = _nothing) -> Desk:
    """`foreseen`: so many of the requests were in the phase's total when it began."""
    progress = work.progress
    journal = work.journal(stage, shard)
    return Desk(
        journal,
        lambda: progress.advance(stage),
        progress.say,
        lambda asked: progress.expect(stage, asked - foreseen),
        rank=shard,
        all_sent=free,
    )
