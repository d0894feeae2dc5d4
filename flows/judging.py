"""How a round hears its jury: which judges are heard while answers still come, and which one model after the other.

The rule that must not break: who is heard when changes no row. What a judge says of a shard depends on the shard alone, but
for a cascade's later judges, who go on from how widely the first ones score over the whole run: those wait for that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from factory import shards
from factory.client.breaker import Breaker
from factory.client.gate import Gate
from factory.engine import Engine
from factory.judging.cascade import waves
from factory.judging.hearing import Court, Seat
from factory.judging.spreads import PooledSpread
from factory.judging.verifying import CheckPool
from factory.ledger.identity import Stage
from factory.opening import Opened
from factory.rollouts import slots
from factory.serving.engines import EngineRoom
from factory.shards import Free
from factory.work import Work
from flows.phases import Phases
from flows.plain import Step
from schemas.recipe import JudgeRef, ModelRef, Recipe

HEARINGS = "judging"  # the part of the verdicts that engines answer
Panel = list[JudgeRef]


class Runner(Protocol):
    """Who runs the shards of a stage: plainly, or as the tasks of a scheduler."""

    async def each(self, steps: Sequence[Step], shards: Sequence[int]) -> None:
        """Take every shard through every step.

        The first error is raised when the others in flight have ended or were cancelled; Halted when they have ended.
        """


@dataclass
class Judging:
    """The jury of a round at work."""

    opened: Opened
    room: EngineRoom
    runner: Runner
    gate: Gate
    phases: Phases
    beside: list[Panel] = field(default_factory=list)  # the panels that were heard while answers came
    begun: bool = False
    heard: set[str] = field(default_factory=set)  # the judges of a cascade that the whole run has heard
    sigmas: dict[str, float] = field(default_factory=dict)  # of those among them that tell answers apart
    breakers: dict[str, Breaker] = field(default_factory=dict)

    @property
    def work(self) -> Work:
        return self.opened.work

    @property
    def recipe(self) -> Recipe:
        return self.opened.work.recipe

    async def engine(self, model: ModelRef) -> Engine:
        """Started and probed if it is not there yet. Raises Fixable, Transient or Halted."""
        return await self.gate.unless_closed(self.room.engine(model))

    async def reach(self) -> None:
        """Probe every judge that runs already, before the first answer is paid for."""
        for seat in self.recipe.jury.judges:
            if (model := model_of(seat, self.recipe)).urls:
                await self.engine(model)

    async def beside_rollouts(self, checkers: CheckPool) -> list[Step]:
        """What follows on a shard's rollouts while those of other shards still come; nothing where that cannot be."""
        self.beside = beside_policy(self.recipe)
        if not self.beside:
            return []
        with self.phases.timed("judge server"):
            seats = [seat for panel in self.beside for seat in await self._seats(panel)]
        self._begin(self.work.pending(Stage.VERDICTS))
        early = self._early(checkers)

        async def hear(shard: int, free: Free) -> None:
            await shards.hear_judges(self.work, shard, seats, self._court(), early, free)

        async def close(shard: int, free: Free) -> None:
            await shards.hear_judges_again(self.work, shard, seats, self._court(), early, free)
            await shards.write_verdicts(self.work, shard, self._court(), checkers)

        whole = len(seats) == len(self.recipe.jury.judges)
        return [Step(HEARINGS, hear), *([Step(Stage.VERDICTS, close)] if whole else [])]

    def _begin(self, pending: Sequence[int]) -> None:
        if not self.begun:
            self.begun = True
            to_judge = sum(self._to_judge(shard) for shard in pending)
            self.work.progress.begin(Stage.VERDICTS, to_judge * len(self.opened.judges))

    def _to_judge(self, shard: int) -> int:
        """Answers of a shard that are judged; every planned one where they are not there yet."""
        record = self.work.finished(Stage.ROLLOUTS, shard)
        return self.planned(shard) if record is None else int(record.notes["to_judge"])

    def planned(self, shard: int) -> int:
        return self.work.record(Stage.PROMPTS, 0).outputs[shard].rows * len(slots(self.recipe.rollouts))

    def answered(self, shard: int) -> None:
        """The rollouts of a shard are there, and it is known how many of them are judged."""
        if self.begun:
            more = (self._to_judge(shard) - self.planned(shard)) * len(self.opened.judges)
            self.work.progress.expect(Stage.VERDICTS, more)

    async def rest(self) -> None:
        """All that was not heard beside the rollouts, and the verdicts of the shards that are not closed."""
        pending = self.work.pending(Stage.VERDICTS)
        if not pending:
            return
        self._begin(pending)
        async with shards.check_pool() as checkers:
            early = self._early(checkers)
            *first, last = waves(self.recipe.jury)
            for wave in (*first, last):
                for panel in panels(self.recipe, wave):
                    if panel not in self.beside:
                        await self._hear(panel, pending, early)
                if early is not None and wave is not last:
                    await self._pool_spreads(wave, early)
            await self._hear_again(pending, early)
            await self.room.stop_local()
            with self.phases.timed("verifiers"):
                await self._close(pending, checkers)

    def _early(self, checkers: CheckPool) -> CheckPool | None:
        """Only a cascade wants the verifiers' word before the judges': what they bar, nobody is asked about."""
        return checkers if self.recipe.jury.cascade else None

    async def _hear(self, panel: Panel, pending: Sequence[int], checkers: CheckPool | None) -> None:
        with self.phases.timed("judge server"):
            seats = await self._seats(panel)
        court = self._court()

        async def hear(shard: int, free: Free) -> None:
            await shards.hear_judges(self.work, shard, seats, court, checkers, free)

        with self.phases.timed(HEARINGS):
            await self.runner.each([Step(HEARINGS, hear)], pending)

    async def _pool_spreads(self, wave: Sequence[str], checkers: CheckPool) -> None:
        """The judges of a wave were heard by the whole run: the next wave goes on from how widely they score."""
        spread = PooledSpread()
        for shard in self.work.shards():
            for case, verdicts in await shards.heard_so_far(self.work, shard, self._court(), checkers):
                spread.add(case.rollouts, [one for one in verdicts if one.judge in wave], self.recipe.jury)
        self.sigmas |= spread.sigmas()
        self.heard |= set(wave)

    async def _hear_again(self, pending: Sequence[int], checkers: CheckPool | None) -> None:
        """Where the whole jury is short of a quorum; a server is started again only for judges that are asked."""
        court = self._court()
        wanted = {shard: await shards.asked_again(self.work, shard, court, checkers) for shard in pending}
        for panel in panels(self.recipe, self.recipe.jury.seats):
            names = {one.seat for one in panel}
            if short := [shard for shard in pending if wanted[shard] & names]:
                await self.runner.each([self._asking_again(await self._seats(panel), court, checkers)], short)

    def _asking_again(self, seats: Sequence[Seat], court: Court, checkers: CheckPool | None) -> Step:
        async def ask(shard: int, free: Free) -> None:
            await shards.hear_judges_again(self.work, shard, seats, court, checkers, free)

        return Step(f"{HEARINGS} again", ask)

    async def _close(self, pending: Sequence[int], checkers: CheckPool) -> None:
        court = self._court()

        async def close(shard: int, _: Free) -> None:
            await shards.write_verdicts(self.work, shard, court, checkers)

        await self.runner.each([Step(Stage.VERDICTS, close)], pending)

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

    async def _seats(self, panel: Panel) -> list[Seat]:
        return [
            Seat(
                self.opened.judges[one.seat],
                await self.engine(model_of(one, self.recipe)),
                self.breakers.setdefault(one.seat, Breaker()),
            )
            for one in panel
        ]


def model_of(seat: JudgeRef, recipe: Recipe) -> ModelRef:
    return seat.model or recipe.policy


def panels(recipe: Recipe, seats: Sequence[str]) -> list[Panel]:
    """Of these seats the ones that can be heard together: behind running servers, and those of each local model.

    The policy's own model comes first, since its server is up already.
    """
    found: dict[str, Panel] = {}
    for seat in recipe.jury.judges:
        if seat.seat in seats:
            model = model_of(seat, recipe)
            found.setdefault("running" if model.urls else model.model_dump_json(), []).append(seat)
    return sorted(found.values(), key=lambda panel: model_of(panel[0], recipe) != recipe.policy)


def beside_policy(recipe: Recipe) -> list[Panel]:
    """The panels of the first judges whose servers can be up while the policy's is.

    Those are all that run already, and one local model: the policy's own where that is local, else the first.
    """
    if recipe.machine.judging == "after":
        return []
    found, local = list[Panel](), None if recipe.policy.urls else recipe.policy
    for panel in panels(recipe, waves(recipe.jury)[0]):
        model = model_of(panel[0], recipe)
        if model.urls:
            found.append(panel)
        elif local in (None, model):
            found.append(panel)
            local = model
    return found
