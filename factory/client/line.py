"""Where the requests of all shards wait for one engine: the earliest shard's first, and of a shard in the order given.

The rule that must not break: as many are let through at once as the engine takes, and no more. So the engine never waits for
the stragglers of a shard while another has something to send, and a shard that began earlier is not overtaken.
"""

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count


@dataclass
class Line:
    """`places`: how many the engine takes now; looked at again whenever somebody comes or goes."""

    places: Callable[[], int]
    taken: int = 0
    _waiting: list[tuple[int, int, asyncio.Future[None]]] = field(default_factory=list)
    _numbers: "count[int]" = field(default_factory=count)

    @asynccontextmanager
    async def place(self, rank: int) -> AsyncIterator[None]:
        """Hold a place for as long as the block lasts. Of all who wait the lowest rank comes first."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (rank, next(self._numbers), turn))
        self._admit()
        try:
            await turn
            yield
        finally:
            if turn.done() and not turn.cancelled():  # also where it was cancelled in the moment of its turn
                self.taken -= 1
                self._admit()

    def _admit(self) -> None:
        while self._waiting and self.taken < max(1, self.places()):
            *_, turn = heapq.heappop(self._waiting)
            if not turn.done():
                self.taken += 1
                turn.set_result(None)
