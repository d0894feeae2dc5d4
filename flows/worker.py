"""What a process on another machine does for a run: errands for one shard after the other, on the run folder that all see.

The rule that must not break: the process that began the run holds the folder's lock, and a worker works under it. It takes none
but the shards that it was told, writes nothing but their parts, journals and records, and shows by a lock of its own that it
is still at it. Engines, verifiers and what a judge's breaker has counted are kept from one shard to the next.
"""

import asyncio
import json
import os
import platform
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from factory import shards
from factory.client.breaker import Breaker
from factory.client.gate import Gate
from factory.client.spending import Spending
from factory.judging.deciding import Bench
from factory.judging.verifying import CheckPool
from factory.keys import key_names
from factory.ledger.identity import Stage, model_field
from factory.ledger.lock import at_work
from factory.opening import Opened, cache_folder
from factory.run import RunFolder
from factory.serving.engines import EngineRoom, digest_of, model_refs
from factory.work import Work, versions
from flows.errands import Errand
from flows.hands import Hands
from judges.base import Judge
from schemas.errors import FactoryError, Fixable, Halted
from schemas.manifest import Spent, StageRecord
from schemas.recipe import Budget, ModelRef, Recipe

Stopping = Callable[[], Awaitable[Halted]]  # comes back when the run is to send nothing more, with the reason


@dataclass(frozen=True, slots=True)
class Brief:
    """All of an opened round that a worker needs."""

    run: RunFolder
    recipe: Recipe
    identity: Mapping[str, str]
    judges: Mapping[str, Judge]
    bench: Bench
    versions: Mapping[str, str]


def brief_of(opened: Opened) -> Brief:
    work = opened.work
    return Brief(work.run, work.recipe, dict(work.identity), dict(opened.judges), opened.bench, versions())


@dataclass(frozen=True, slots=True)
class Job:
    """A shard, what is to be done with it one after the other, and its attempts in vain so far."""

    shard: int
    errands: tuple[Errand, ...]
    vain: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a job. `error`: why it was not done to its end; what was done and paid for is told all the same."""

    records: Sequence[StageRecord]
    spent: Spent
    vain: Mapping[str, int]
    told: "Told"
    error: FactoryError | None


@dataclass
class Told:
    """The progress of one job, to be told where the run was begun."""

    said: list[str] = field(default_factory=list)
    advanced: Counter[str] = field(default_factory=Counter)
    expected: Counter[str] = field(default_factory=Counter)

    def say(self, line: str) -> None:
        self.said.append(line)

    def begin(self, phase: str, total: int) -> None:
        """Phases begin where the run was begun."""

    def advance(self, phase: str, steps: int = 1) -> None:
        self.advanced[phase] += steps

    def expect(self, phase: str, more: int) -> None:
        self.expected[phase] += more

    def taken(self) -> "Told":
        """All of it; from then on it begins anew."""
        whole = Told(self.said, self.advanced, self.expected)
        self.said, self.advanced, self.expected = [], Counter(), Counter()
        return whole


@dataclass
class Worker:
    """What a process keeps from one job of a round to the next. Enter it as a context."""

    brief: Brief
    told: Told = field(default_factory=Told)
    gate: Gate = field(init=False)
    breakers: dict[str, Breaker] = field(default_factory=dict)
    checkers: CheckPool = field(default_factory=lambda: CheckPool(1, shards.CHECK_SECONDS))
    room: EngineRoom = field(init=False)
    _unseen: Mapping[str, ModelRef] = field(init=False)  # models of which this node's weights were not looked at yet
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    def __post_init__(self) -> None:
        recipe = self.brief.recipe
        keys = key_names(recipe)
        self._unseen = model_refs(recipe)
        self.gate = Gate(Budget(prices=recipe.budget.prices), Spending(None))
        place = f"-{platform.node()}-{os.getpid()}"
        self.room = EngineRoom(self.brief.run, recipe.machine, cache_folder(), self.told, keys, self.gate, place)

    async def __aenter__(self) -> "Worker":
        self._stack.push_async_callback(self.room.close)  # not entered: it would say how the run fares, as others do
        await self._stack.enter_async_context(self.checkers)
        return self

    async def __aexit__(self, *details: object) -> None:
        await self._stack.aclose()

    async def do(self, job: Job, stopping: Stopping) -> Done:
        """Every errand of a job. Errors of the factory's own are told, not raised."""
        work = Work(self.brief.run, self.brief.recipe, self.brief.identity, self.told)  # looks at the folder anew
        work.vain[Stage.VERDICTS, job.shard] = Counter(job.vain)
        hands = Hands(
            Opened(work, self.brief.judges, self.brief.bench), self.room, self.gate, self.checkers, self.breakers
        )
        before, error = self._spent(), None
        listening = asyncio.create_task(self._listen(stopping))
        try:
            self._refuse_others()
            with at_work(self.brief.run.root):
                for errand in job.errands:
                    self.gate.check()
                    await hands.do(errand, job.shard, _nothing)
        except FactoryError as why:
            error = why
        finally:
            listening.cancel()
        vain = work.vain[Stage.VERDICTS, job.shard]
        return Done(_finished(work, job.shard), _less(self._spent(), before), vain, self.told.taken(), error)

    async def _listen(self, stopping: Stopping) -> None:
        self.gate.close(await stopping())

    def _refuse_others(self) -> None:
        """What a worker has must be what the run was begun with, or its rows would be called by a wrong name."""
        for name, here in versions().items():
            if (there := self.brief.versions[name]) != here:
                raise Fixable(
                    f"machine.cluster: a worker has {name} {here}, the run was begun with {there}; "
                    "give every node the same environment"
                )
        for role, ref in self._unseen.items():
            here, there = digest_of(ref, cache_folder(), self.told), json.loads(self.brief.identity[model_field(role)])
            if here != there:
                raise Fixable(
                    f"machine.cluster: {role} {ref.model}: a worker has weights {here[:16]}, the run was begun with "
                    f"{there[:16]}; give every node the same files"
                )
        self._unseen = {}

    def _spent(self) -> Spent:
        assert self.gate.spending is not None, "a worker counts"
        return self.gate.spending.so_far()


def _nothing() -> None:
    """Who has one shard at a time has no place to give to the next."""


def _less(after: Spent, before: Spent) -> Spent:
    return Spent(
        requests=after.requests - before.requests,
        prompt_tokens=after.prompt_tokens - before.prompt_tokens,
        completion_tokens=after.completion_tokens - before.completion_tokens,
        money=after.money - before.money,
    )


def _finished(work: Work, shard: int) -> list[StageRecord]:
    stages = (Stage.ROLLOUTS, Stage.VERDICTS, Stage.PAIRS)
    return [record for stage in stages if (record := work.finished(stage, shard)) is not None]
