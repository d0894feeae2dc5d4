"""A round without a scheduler: shards run in this process, a few at a time, each through its steps one after the other.

A shard holds a place in a step until the last of its requests there is on its way. So the next shard's requests are in line
before the engine runs dry, however small the shards are, and no more shards are open than that takes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from factory.client.asking import together
from factory.client.gate import Gate
from factory.shards import Free
from flows.errands import Errand
from schemas.errors import Halted
from schemas.recipe import ModelRef


@dataclass(frozen=True, slots=True)
class Step:
    """What a stage does with one shard. `do` is called with the shard, and with what gives its place to the next one.

    `errand` is the same in words for another machine; None: it is done here alone.
    """

    stage: str
    do: Callable[[int, Free], Awaitable[object]]
    errand: Errand | None = None


@dataclass(slots=True)
class _Place:
    """A place of a semaphore that can be given back early, and is given back once."""

    places: asyncio.Semaphore
    held: bool = False

    async def __aenter__(self) -> "_Place":
        await self.places.acquire()
        self.held = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.free()

    def free(self) -> None:
        if self.held:
            self.held = False
            self.places.release()


@dataclass(frozen=True, slots=True)
class PlainRunner:
    """`in_flight` shards at once have something left to send in each step."""

    in_flight: int
    gate: Gate = field(default_factory=Gate)

    def reaches(self, _: ModelRef) -> bool:
        """All of them."""
        return True

    async def each(self, steps: Sequence[Step], shards: Sequence[int]) -> None:
        """Take every shard through every step. An error cancels the others; a halt lets them come to their own.

        Raises the first error, or else Halted where some step was not done.
        """
        places = [asyncio.Semaphore(self.in_flight) for _ in steps]
        halts: list[Halted] = []

        async def one(shard: int) -> None:
            try:
                for step, free in zip(steps, places, strict=True):
                    async with _Place(free) as place:
                        self.gate.check()
                        await step.do(shard, place.free)
            except Halted as why:
                halts.append(why)

        await together([one(shard) for shard in shards])
        if halts:
            raise halts[0]
