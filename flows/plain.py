"""A round without a scheduler: shards run in this process, a few at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from factory.asking import together


@dataclass(frozen=True, slots=True)
class PlainRunner:
    """`in_flight` shards at once: the next one starts while the last answers of the one before still come in."""

    in_flight: int

    async def each(self, stage: str, do: Callable[[int], Awaitable[object]], pending: Sequence[int]) -> None:
        places = asyncio.Semaphore(self.in_flight)

        async def one(shard: int) -> None:
            async with places:
                await do(shard)

        await together([one(shard) for shard in pending])
