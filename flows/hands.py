"""Who does errands in this process: the engines, the verifiers' processes and the judges' breakers that it does them with.

The rule that must not break: it does not know whether it stands in the process that began the run or on another machine.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from factory import shards
from factory.client.breaker import Breaker
from factory.client.gate import Gate
from factory.engine import Engine
from factory.judging import deciding
from factory.judging.hearing import Court, Seat
from factory.judging.verifying import CheckPool
from factory.ledger.identity import Stage, model_field
from factory.opening import Opened
from factory.rollouts import Policy, slots
from factory.serving.engines import EngineRoom
from factory.shards import Free
from factory.work import Work
from flows.errands import Errand, Kind
from flows.plain import Step
from schemas.recipe import POLICY, JudgeRef, ModelRef, Recipe


@dataclass
class Hands:
    """Does errands on one opened round."""

    opened: Opened
    room: EngineRoom
    gate: Gate
    checkers: CheckPool
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

    def step(self, errand: Errand) -> Step:
        """The errand as a runner takes it."""

        async def do(shard: int, free: Free) -> None:
            await self.do(errand, shard, free)

        return Step(errand.kind, do, errand)

    async def do(self, errand: Errand, shard: int, free: Free) -> None:
        """What is done of it already is left alone. Raises Fixable, Transient or Halted."""
        court = self.court(errand.heard, errand.sigmas)
        match errand.kind:
            case Kind.ANSWER:
                await self._answer(errand, shard, free)
            case Kind.HEAR:
                seats = await self.seats(errand.seats)
                await shards.hear_judges(self.work, shard, seats, court, self.early, free)
            case Kind.HEAR_AGAIN:
                await self._hear_again(errand, shard, court, free)
            case Kind.CLOSE:
                await self._hear_again(errand, shard, court, free)
                await shards.write_verdicts(self.work, shard, self.court(errand.heard, errand.sigmas), self.checkers)
            case Kind.CONFIRM:
                engines = {name: await self.engine(self.model_of(name)) for name in errand.seats}
                await deciding.ask_to_confirm(self.work, shard, self.opened.bench, engines, free)
            case Kind.PAIR:
                deciding.write_pairs(self.work, shard, self.opened.bench)

    async def _answer(self, errand: Errand, shard: int, free: Free) -> None:
        """Once the answers are there, it is known how many of them are judged."""
        new = self.work.finished(Stage.ROLLOUTS, shard) is None
        digest = str(json.loads(self.work.identity[model_field(POLICY)]))
        policy = Policy(await self.engine(self.recipe.policy), self.recipe.policy.model, digest)
        record = await shards.write_rollouts(self.work, shard, policy, free)
        if new and errand.seats:
            more = int(record.notes["to_judge"]) - planned(self.work, shard)
            self.work.progress.expect(Stage.VERDICTS, more * len(errand.seats))

    async def _hear_again(self, errand: Errand, shard: int, court: Court, free: Free) -> None:
        if errand.seats:
            seats = await self.seats(errand.seats)
            await shards.hear_judges_again(self.work, shard, seats, court, self.early, free)

    @property
    def early(self) -> CheckPool | None:
        """Only a cascade wants the verifiers' word before the judges': what they bar, nobody is asked about."""
        return self.checkers if self.recipe.jury.cascade else None

    def court(self, heard: frozenset[str], sigmas: Mapping[str, float]) -> Court:
        stopped = {name: breaker.failed for name, breaker in self.breakers.items() if breaker.tripped}
        return Court(
            judges=self.opened.judges,
            jury=self.recipe.jury,
            pairing=self.recipe.pairing,
            weights=self.opened.bench.weights,
            heard=heard,
            sigmas=sigmas,
            lots=shards.lots(self.work),
            stopped=stopped,
        )

    async def seats(self, names: tuple[str, ...]) -> list[Seat]:
        return [
            Seat(
                self.opened.judges[name],
                await self.engine(self.model_of(name)),
                self.breakers.setdefault(name, Breaker()),
            )
            for name in names
        ]

    def model_of(self, seat: str) -> ModelRef:
        return next(model_of(one, self.recipe) for one in self.recipe.jury.judges if one.seat == seat)


def model_of(seat: JudgeRef, recipe: Recipe) -> ModelRef:
    return seat.model or recipe.policy


def planned(work: Work, shard: int) -> int:
    """Answers that a shard is to have."""
    return work.record(Stage.PROMPTS, 0).outputs[shard].rows * len(slots(work.recipe.rollouts))
