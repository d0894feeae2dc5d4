"""How a round hears its jury: which judges are heard while answers still come, and which one model after the other.

The rule that must not break: who is heard when changes no row. What a judge says of a shard depends on the shard alone, but
for a cascade's later judges, who go on from how widely the first ones score over the whole run: those wait for that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from factory import shards
from factory.engine import Engine
from factory.judging.cascade import waves
from factory.judging.spreads import PooledSpread
from factory.ledger.identity import Stage
from flows.errands import HEARINGS, Errand, Kind
from flows.hands import Hands, model_of, planned
from flows.phases import Phases
from flows.plain import Step
from schemas.recipe import JudgeRef, ModelRef, Recipe

Panel = list[JudgeRef]


class Runner(Protocol):
    """Who runs the shards of a stage: plainly, as the tasks of a scheduler, or on other machines."""

    def reaches(self, model: ModelRef) -> bool:
        """Whether a server of this model is reached from this process; one that a worker starts is the worker's own."""

    async def each(self, steps: Sequence[Step], shards: Sequence[int]) -> None:
        """Take every shard through every step.

        The first error is raised when the others in flight have ended or were cancelled; Halted when they have ended.
        """


@dataclass
class Judging:
    """The jury of a round at work."""

    hands: Hands
    runner: Runner
    phases: Phases
    beside: list[Panel] = field(default_factory=list)  # the panels that were heard while answers came
    begun: bool = False
    heard: set[str] = field(default_factory=set)  # the judges of a cascade that the whole run has heard
    sigmas: dict[str, float] = field(default_factory=dict)  # of those among them that tell answers apart

    async def open(self, *models: ModelRef) -> list[Engine]:
        """The engines of those that are reached from here, before the first shard wants them."""
        return [await self.hands.engine(model) for model in models if self.runner.reaches(model)]

    async def open_seats(self, names: Sequence[str]) -> None:
        await self.open(*map(self.hands.model_of, names))

    async def reach(self) -> None:
        """Probe every judge that runs already, before the first answer is paid for."""
        for seat in self.hands.recipe.jury.judges:
            if (model := model_of(seat, self.hands.recipe)).urls:
                await self.hands.engine(model)

    async def beside_rollouts(self, todo: Sequence[int]) -> list[Step]:
        """What follows on a shard's rollouts while those of other shards still come; nothing where that cannot be.

        `todo`: the shards that it will follow on.
        """
        self.beside = beside_policy(self.hands.recipe)
        if not self.beside:
            return []
        names = tuple(one.seat for panel in self.beside for one in panel)
        with self.phases.timed("judge server"):
            await self.open_seats(names)
        self._begin(todo)
        whole = len(names) == len(self.hands.recipe.jury.judges)
        hear, close = self._errand(Kind.HEAR, names), self._errand(Kind.CLOSE, names)
        return [self.hands.step(hear), *([self.hands.step(close)] if whole else [])]

    def _errand(self, kind: Kind, seats: Sequence[str] = ()) -> Errand:
        return Errand(kind, tuple(seats), frozenset(self.heard), dict(self.sigmas))

    def _begin(self, pending: Sequence[int]) -> None:
        if not self.begun:
            self.begun = True
            to_judge = sum(self._to_judge(shard) for shard in pending)
            self.hands.work.progress.begin(Stage.VERDICTS, to_judge * len(self.hands.opened.judges))

    def _to_judge(self, shard: int) -> int:
        """Answers of a shard that are judged; every planned one where they are not there yet."""
        record = self.hands.work.finished(Stage.ROLLOUTS, shard)
        return planned(self.hands.work, shard) if record is None else int(record.notes["to_judge"])

    async def rest(self) -> None:
        """All that was not heard beside the rollouts, and the verdicts of the shards that are not closed."""
        pending = self.hands.work.pending(Stage.VERDICTS)
        if not pending:
            return
        self._begin(pending)
        *first, last = waves(self.hands.recipe.jury)
        for wave in (*first, last):
            for panel in panels(self.hands.recipe, wave):
                if panel not in self.beside:
                    await self._hear(panel, pending)
            if self.hands.recipe.jury.cascade and wave is not last:
                await self._pool_spreads(wave)
        await self._hear_again(pending)
        await self.hands.room.stop_local()
        with self.phases.timed("verifiers"):
            await self.runner.each([self.hands.step(self._errand(Kind.CLOSE))], pending)

    async def _hear(self, panel: Panel, pending: Sequence[int]) -> None:
        names = tuple(one.seat for one in panel)
        with self.phases.timed("judge server"):
            await self.open_seats(names)
        with self.phases.timed(HEARINGS):
            await self.runner.each([self.hands.step(self._errand(Kind.HEAR, names))], pending)

    async def _pool_spreads(self, wave: Sequence[str]) -> None:
        """The judges of a wave were heard by the whole run: the next wave goes on from how widely they score."""
        spread = PooledSpread()
        court = self.hands.court(frozenset(self.heard), self.sigmas)
        for shard in self.hands.work.shards():
            for case, verdicts in await shards.heard_so_far(self.hands.work, shard, court, self.hands.checkers):
                spread.add(case.rollouts, [one for one in verdicts if one.judge in wave], self.hands.recipe.jury)
        self.sigmas |= spread.sigmas()
        self.heard |= set(wave)

    async def _hear_again(self, pending: Sequence[int]) -> None:
        """Where the whole jury is short of a quorum; a server is started again only for judges that are asked."""
        court = self.hands.court(frozenset(self.heard), self.sigmas)
        wanted = {shard: await shards.asked_again(self.hands.work, shard, court, self.hands.early) for shard in pending}
        for panel in panels(self.hands.recipe, self.hands.recipe.jury.seats):
            names = tuple(one.seat for one in panel)
            if short := [shard for shard in pending if wanted[shard] & set(names)]:
                await self.open_seats(names)
                await self.runner.each([self.hands.step(self._errand(Kind.HEAR_AGAIN, names))], short)


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
