"""Shards on the nodes of a Ray cluster: one Ray task for each shard. The only module that imports ray.

Ray says which node does a shard, and has it done again on another where a node or a process is lost; a loss costs the shards in
flight, and of those no answer that has reached its journal. The runner that would have done the steps itself, the plain one or
Prefect's, waits for the tasks instead, so that both look and end as they do on one machine.

The rule that must not break: this process holds the folder's lock, and no worker goes on when it has let go of it.
"""

import asyncio
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's coming default; else it warns about it

import ray  # reads its settings from the environment when it is imported
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from factory.client.gate import Gate
from factory.ledger.identity import Stage
from factory.opening import Opened
from factory.shards import Free
from factory.work import Work
from flows.errands import Errand
from flows.judging import Runner
from flows.plain import Step
from flows.worker import Brief, Done, Job, Worker, brief_of
from schemas.errors import Halted, WorkerLost
from schemas.recipe import Cluster, ModelRef

TAKEN_OVER = 3  # times that a shard goes to another worker; what kills four of them would kill the next
AHEAD = 2  # times as many shards as the nodes have room for are with Ray at once: no node waits for its next


# On the nodes


class _Bell:
    """Says to every worker that nothing more is to be sent."""

    def __init__(self) -> None:
        self._why: Halted | None = None
        self._rung = asyncio.Event()

    async def ring(self, why: Halted) -> None:
        self._why = why
        self._rung.set()

    async def rung(self) -> Halted:
        await self._rung.wait()
        assert self._why is not None
        return self._why

    async def why(self) -> Halted | None:
        return self._why


@dataclass
class _Kept:
    """The one worker of this process, in the event loop that its connections belong to."""

    loop: asyncio.Runner = field(default_factory=asyncio.Runner)
    worker: Worker | None = None

    async def for_round(self, brief: Brief) -> Worker:
        if self.worker is None or self.worker.brief != brief:
            if self.worker is not None:
                await self.worker.__aexit__()
            self.worker = await Worker(brief).__aenter__()
        return self.worker


@cache
def _kept() -> _Kept:
    return _Kept()


def _do(brief: Brief, job: Job, bell: "ray.actor.ActorHandle[_Bell]") -> Done:
    """The Ray task."""

    async def stopping() -> Halted:
        why: Halted = await bell.rung.remote()
        return why

    async def do() -> Done:
        worker = await _kept().for_round(brief)
        if (why := await bell.why.remote()) is not None:
            worker.gate.close(why)
        return await worker.do(job, stopping)

    return _kept().loop.run(do())


# Where the run was begun


@dataclass
class Crew:
    """The nodes of a cluster, at work on one opened round."""

    work: Work
    gate: Gate
    cluster: Cluster
    _brief: "ray.ObjectRef[Brief]"
    _bell: "ray.actor.ActorHandle[_Bell]"
    _task: "ray.remote_function.RemoteFunction" = field(init=False)
    _said: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._task = ray.remote(
            num_cpus=self.cluster.cpus,
            num_gpus=self.cluster.gpus,
            max_retries=TAKEN_OVER,
            max_calls=0,  # of one process: without end, since it keeps its server for the next shard
        )(_do)

    @property
    def places(self) -> int:
        """Shards that are given to Ray at once."""
        have, wanted = ray.cluster_resources(), {"CPU": self.cluster.cpus, "GPU": self.cluster.gpus}
        return AHEAD * max(1, min(int(have.get(name, 0) / each) for name, each in wanted.items() if each))

    def runner(self, inner: Runner) -> "ClusterRunner":
        return ClusterRunner(self, inner)

    async def do(self, shard: int, errands: tuple[Errand, ...]) -> None:
        """Raises what the worker met, or WorkerLost."""
        vain: Mapping[str, int] = self.work.vain.get((Stage.VERDICTS, shard), {})
        running = self._task.remote(self._brief, Job(shard, errands, dict(vain)), self._bell)
        try:
            done: Done = await running
        except asyncio.CancelledError:
            ray.cancel(running, force=True)
            raise
        except ray.exceptions.RayTaskError:
            raise
        except ray.exceptions.RayError as error:
            first = str(error).strip().splitlines()[0]
            raise WorkerLost(f"shard {shard}: {1 + TAKEN_OVER} workers were lost with it: {first}") from error
        self._learn(shard, done)

    def _learn(self, shard: int, done: Done) -> None:
        self.gate.add(done.spent)
        self.work.vain[Stage.VERDICTS, shard] = Counter(done.vain)
        for record in done.records:
            self.work.learn(record)
        progress = self.work.progress
        for line in done.told.said:
            if line not in self._said:  # every worker probes the same servers
                self._said.add(line)
                progress.say(line)
        for phase, more in done.told.expected.items():
            progress.expect(phase, more)
        for phase, steps in done.told.advanced.items():
            progress.advance(phase, steps)
        if done.error is not None:
            self.gate.check()
            raise done.error

    async def pass_on(self) -> None:
        """Until the gate closes: then every worker is told."""
        try:
            await self.gate.unless_closed(_for_ever())
        except Halted as why:
            await self._bell.ring.remote(why)


async def _for_ever() -> None:
    await asyncio.Event().wait()


@dataclass(frozen=True, slots=True)
class ClusterRunner:
    """Each shard goes through all steps on one node; `inner` waits for it. A step without an errand is done here."""

    crew: Crew
    inner: Runner

    def reaches(self, model: ModelRef) -> bool:
        """Those that run already. The others are started by the workers."""
        return bool(model.urls)

    async def each(self, steps: Sequence[Step], shards: Sequence[int]) -> None:
        errands = tuple(step.errand for step in steps if step.errand is not None)
        if len(errands) < len(steps):
            await self.inner.each(steps, shards)
            return

        async def do(shard: int, _: Free) -> None:
            await self.crew.do(shard, errands)

        await self.inner.each([Step(" + ".join(step.stage for step in steps), do)], shards)


@asynccontextmanager
async def crew_of(opened: Opened, gate: Gate) -> AsyncIterator[Crew]:
    """The nodes of the recipe's cluster, for as long as the block lasts. Raises WorkerLost."""
    work, cluster = opened.work, opened.work.recipe.machine.cluster
    assert cluster is not None, "the caller has looked"
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise WorkerLost(
            f"machine.cluster.address: no Ray cluster answers at {cluster.address}; `ray start --head` begins one"
        ) from error
    try:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        bell = ray.remote(_Bell).options(num_cpus=0, max_concurrency=10_000, scheduling_strategy=here).remote()
        crew = Crew(work, gate, cluster, ray.put(brief_of(opened)), bell)
        passing_on = asyncio.create_task(crew.pass_on())
        try:
            yield crew
        finally:
            passing_on.cancel()
            with suppress(asyncio.CancelledError):
                await passing_on
    finally:
        ray.shutdown()
