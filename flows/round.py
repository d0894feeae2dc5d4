"""One round, from prompts to an exported dataset: which stage comes when, and which engine is up for it.

No state lives here. Each step looks at the run folder for what is still to be done, so that a round that was cut off, or
done, or half done by somebody else, is gone through in the same way.
"""

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from factory import deciding, shards, store
from factory.breaker import Breaker
from factory.cascade import waves
from factory.engines import EngineRoom, refuse_what_is_ignored
from factory.export import export
from factory.figures import figures
from factory.hearing import Court, Seat
from factory.identity import Stage
from factory.opening import Opened, cache_folder
from factory.prompts import collect
from factory.rollouts import Policy
from factory.shards import Work, now
from factory.spreads import PooledSpread
from factory.trust import write_trust
from factory.verifying import CheckPool
from judges.registry import find_verifier
from schemas.manifest import RunManifest
from schemas.recipe import JudgeRef, ModelRef, Recipe

HEARINGS = "judging"  # the part of the verdicts that engines answer


class Runner(Protocol):
    """Who runs the shards of a stage: plainly, or as the tasks of a scheduler."""

    async def each(self, stage: str, do: Callable[[int], Awaitable[object]], pending: Sequence[int]) -> None:
        """Do every pending shard. The first error is raised when the others in flight have ended or were cancelled."""


@dataclass
class Round:
    """A round at work. `seconds` holds the wall time of each phase; `requests` what was sent for answers."""

    opened: Opened
    room: EngineRoom
    runner: Runner
    offline: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    heard: set[str] = field(default_factory=set)  # the judges of a cascade that the whole run has heard
    sigmas: dict[str, float] = field(default_factory=dict)  # of those among them that tell answers apart
    breakers: dict[str, Breaker] = field(default_factory=dict)

    @property
    def work(self) -> Work:
        return self.opened.work

    @property
    def recipe(self) -> Recipe:
        return self.opened.work.recipe

    async def go(self, last: Stage) -> RunManifest:
        """Every stage up to and including `last`. Raises Fixable or Transient; what is finished stays."""
        try:
            await self._prompts()
            if last not in (Stage.PROMPTS, Stage.ROLLOUTS) and self.work.pending(Stage.VERDICTS):
                await self._reach_judges()
            if last is not Stage.PROMPTS:
                await self._rollouts()
            if last not in (Stage.PROMPTS, Stage.ROLLOUTS):
                await self._verdicts()
            if last in (Stage.PAIRS, Stage.EXPORT):
                await self._pairs()
        finally:
            await self.room.stop_local()
            manifest = self._roll_up()
        if last is Stage.EXPORT:
            self._export(manifest)
            manifest = self._roll_up()
        return manifest

    async def _prompts(self) -> None:
        with self._timed("prompts"):
            if self.work.finished(Stage.PROMPTS, 0) is None:
                self.work.progress.say("reading prompts")
                await self.runner.each(Stage.PROMPTS, self._write_prompts, [0])

    async def _write_prompts(self, _: int) -> None:
        recipe = self.recipe
        verifiers = [find_verifier(name) for name in recipe.jury.verifiers]
        shards.write_prompts(self.work, lambda: collect(recipe.prompts, recipe.seed, self.work.progress, verifiers))

    async def _rollouts(self) -> None:
        pending = self.work.pending(Stage.ROLLOUTS)
        if not pending:
            return
        with self._timed("policy server"):
            engine = await self.room.engine(self.recipe.policy)
        refuse_what_is_ignored(self.recipe.rollouts, engine)
        policy = Policy(engine, self.recipe.policy.model, self._digest())
        slots = len(self.recipe.rollouts.slots) + (self.recipe.rollouts.greedy is not None)
        with self._timed("rollouts"):
            self.work.progress.begin(Stage.ROLLOUTS, sum(self._prompts_in(shard) for shard in pending) * slots)
            await self.runner.each(
                Stage.ROLLOUTS, lambda shard: shards.write_rollouts(self.work, shard, policy), pending
            )

    async def _reach_judges(self) -> None:
        """Probe every judge that runs already, before the first answer is paid for."""
        for seat in self.recipe.jury.judges:
            if (model := self._model(seat)).urls:
                await self.room.engine(model)

    def _digest(self) -> str:
        manifest = self.work.run.manifest()
        assert manifest is not None, "open_run has written it"
        return manifest.provenance.models["policy"]

    def _prompts_in(self, shard: int) -> int:
        return self.work.record(Stage.PROMPTS, 0).outputs[shard].rows

    async def _verdicts(self) -> None:
        pending = self.work.pending(Stage.VERDICTS)
        if not pending:
            return
        judged = sum(int(self.work.record(Stage.ROLLOUTS, shard).notes["to_judge"]) for shard in pending)
        self.work.progress.begin(Stage.VERDICTS, judged * len(self.opened.judges))
        async with shards.check_pool() as checkers:
            early = checkers if self.recipe.jury.cascade else None  # only a cascade wants them before the judges
            *first, last = waves(self.recipe.jury)
            for wave in (*first, last):
                for panel in panels(self.recipe, wave):
                    await self._hear(panel, pending, early)
                if early is not None and wave is not last:
                    await self._pool_spreads(wave, early)
            await self._hear_again(pending, early)
            await self.room.stop_local()
            with self._timed("verifiers"):
                await self._close_verdicts(pending, checkers)

    async def _pool_spreads(self, wave: Sequence[str], checkers: CheckPool) -> None:
        """The judges of a wave were heard by the whole run: the next wave goes on from how widely they score."""
        spread = PooledSpread()
        for shard in self.work.shards():
            for case, verdicts in await shards.heard_so_far(self.work, shard, self._court(), checkers):
                spread.add(case.rollouts, [one for one in verdicts if one.judge in wave], self.recipe.jury)
        self.sigmas |= spread.sigmas()
        self.heard |= set(wave)

    def _court(self) -> Court:
        stopped = {name: breaker.failed for name, breaker in self.breakers.items() if breaker.tripped}
        return Court(
            judges=self.opened.judges,
            jury=self.recipe.jury,
            pairing=self.recipe.pairing,
            weights=self.opened.bench.weights,
            heard=frozenset(self.heard),
            sigmas=self.sigmas,
            lots=shards.lots(self.work),
            stopped=stopped,
        )

    async def _close_verdicts(self, pending: Sequence[int], checkers: CheckPool) -> None:
        court = self._court()
        await self.runner.each(
            Stage.VERDICTS, lambda shard: shards.write_verdicts(self.work, shard, court, checkers), pending
        )

    async def _hear_again(self, pending: Sequence[int], checkers: CheckPool | None) -> None:
        """Where the whole jury is short of a quorum; a server is started again only for judges that are asked."""
        court = self._court()
        wanted = {shard: await shards.asked_again(self.work, shard, court, checkers) for shard in pending}
        for panel in panels(self.recipe, self.recipe.jury.seats):
            names = {one.seat for one in panel}
            if short := [shard for shard in pending if wanted[shard] & names]:
                seats = await self._seats(panel)
                ask = partial(shards.hear_judges_again, self.work, seats=seats, court=court, checks=checkers)
                await self.runner.each(f"{HEARINGS} again", ask, short)

    async def _seats(self, panel: Sequence[JudgeRef]) -> list[Seat]:
        return [
            Seat(
                self.opened.judges[one.seat],
                await self.room.engine(self._model(one)),
                self.breakers.setdefault(one.seat, Breaker()),
            )
            for one in panel
        ]

    async def _hear(self, panel: Sequence[JudgeRef], pending: Sequence[int], checkers: CheckPool | None) -> None:
        with self._timed("judge server"):
            seats = await self._seats(panel)
        court = self._court()
        with self._timed(HEARINGS):
            await self.runner.each(
                HEARINGS, lambda shard: shards.hear_judges(self.work, shard, seats, court, checkers), pending
            )

    def _model(self, seat: JudgeRef) -> ModelRef:
        return seat.model or self.recipe.policy

    async def _pairs(self) -> None:
        with self._timed("pairing"):
            deciding.write_spreads(self.work)
            deciding.write_balance(self.work, self.opened.bench)
        if self.recipe.jury.confirm:
            await self._confirm()
        with self._timed("pairing"):
            await self.runner.each(Stage.PAIRS, self._write_pairs, self.work.pending(Stage.PAIRS))
            write_trust(self.work)

    async def _confirm(self) -> None:
        """Show every final pair to the judges. Offline, only what was asked before counts."""
        bench = self.opened.bench
        pending = [shard for shard in self.work.shards() if deciding.unconfirmed(self.work, shard)]
        if not self.offline and pending:
            self.work.progress.begin(Stage.CONFIRMATIONS, 0)
            for panel in panels(self.recipe, tuple(bench.confirming)):
                with self._timed("judge server"):
                    engines = {one.seat: await self.room.engine(self._model(one)) for one in panel}
                ask = partial(deciding.ask_to_confirm, self.work, bench=bench, engines=engines)
                with self._timed("confirming"):
                    await self.runner.each("confirming", ask, pending)
            await self.room.stop_local()
        for shard in pending:
            deciding.write_confirmations(self.work, shard, bench, asked=not self.offline)

    async def _write_pairs(self, shard: int) -> None:
        deciding.write_pairs(self.work, shard, self.opened.bench)

    def _export(self, manifest: RunManifest) -> None:
        if self.work.exported():
            return
        began = now()
        with self._timed("export"):
            outputs = export(self.work.run, self.recipe, manifest)
        notes = {"test_share": self.recipe.export.test_share}
        self.work.close(Stage.EXPORT, 0, began, outputs, notes=notes)

    def _roll_up(self) -> RunManifest:
        """Bring manifest and catalog up to what lies on disk."""
        run, before = self.work.run, self.work.run.manifest()
        assert before is not None, "open_run has written it"
        counted = figures(run.root)
        seconds = dict(before.seconds)
        for phase, spent in self.seconds.items():
            seconds[phase] = round(seconds.get(phase, 0.0) + spent, 2)
        self.seconds.clear()
        manifest = before.model_copy(
            update={
                "updated": now(),
                "prompts": counted.prompts,
                "shards": run.shards(),
                "pairs": counted.pairs,
                "dropped": dict(counted.dropped),
                "seconds": seconds,
            }
        )
        run.write_manifest(manifest)
        store.write_catalog(run.catalog_path, run.root)
        return manifest

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.monotonic() - began


def panels(recipe: Recipe, seats: Sequence[str]) -> list[list[JudgeRef]]:
    """Of these seats the ones that can be heard together: behind running servers, and those of each local model.

    The policy's own model comes first, since its server is up already.
    """
    found: dict[str, list[JudgeRef]] = {}
    for seat in recipe.jury.judges:
        if seat.seat not in seats:
            continue
        model = seat.model or recipe.policy
        found.setdefault("running" if model.urls else model.model_dump_json(), []).append(seat)
    own = recipe.policy.model_dump_json()
    return sorted(found.values(), key=lambda panel: (panel[0].model or recipe.policy).model_dump_json() != own)


async def make_round(opened: Opened, runner: Runner, last: Stage, *, offline: bool = False) -> tuple[RunManifest, int]:
    """A round up to `last`; the manifest and the number of requests that were sent for it. `offline`: send none."""
    work = opened.work
    async with EngineRoom(work.run, work.recipe.machine, cache_folder(), work.progress) as room:
        manifest = await Round(opened, room, runner, offline=offline).go(last)
        return manifest, room.sent
