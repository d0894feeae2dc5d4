"""The servers of one model and who may send to which: places in their windows, in the order in which they were asked for.

A server that fails leaves the pool and is asked a canary after a while, again and again, until it answers: requests
go to the others meanwhile and lose nothing but time. Where all are out, and none of them answers `CANARIES` canaries,
everybody who waits gets EngineGone. The rule that must not break: only a canary brings a server back or gives it up, never
a request of the run, since that may be what the server dies of.
"""

import asyncio
from bisect import insort
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

from factory.client.transport import Busy, Unreached
from factory.client.window import Load, Window
from schemas.errors import EngineTimeout, EngineUnavailable, Fixable, Halted, Transient

STRIKES = 8  # failures with no answer between them, after which a server leaves the pool
CANARIES = 6  # failed ones after which a server is given up, where there is no other
LONGEST_REST = 60.0  # seconds between two canaries
DOUBLINGS = 6  # from a second, until it is reached
LONGEST_PAUSE = 600.0  # seconds that a server may ask to be left alone; more is taken for a mistake
LOOK = 2.0  # seconds between two looks at a server's load

Sleep = Callable[[float], Awaitable[None]]
Say = Callable[[str], None]


class EngineGone(EngineUnavailable):
    """No server of the engine is left."""


class State(StrEnum):
    SERVES = "serves"
    PAUSES = "pauses"  # it asked to be left alone for a while
    OUT = "out"


@dataclass(eq=False)
class Replica:
    """One server."""

    url: str
    window: Window
    state: State = State.SERVES
    in_flight: int = 0
    strikes: int = 0  # failures since the last answer
    missed: int = 0  # canaries, since it is out
    refusals: int = 0  # of requests, so far
    vouched: int = 0  # of these, by a canary that was answered later
    vouching: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def has_room(self) -> bool:
        return self.state is State.SERVES and self.in_flight < self.window.places

    @property
    def fullness(self) -> float:
        return self.in_flight / self.window.places


@dataclass(frozen=True, slots=True, order=True)
class _Waiting:
    ticket: int
    place: "asyncio.Future[Replica]" = field(compare=False)
    avoided: Collection[Replica] = field(compare=False)


@dataclass(frozen=True, slots=True)
class Care:
    """How the pool looks after its servers: what it asks them, and how it waits."""

    canary: Callable[[str], Awaitable[None]]  # raises Transient or Fixable where the server at the address is of no use
    load: Callable[[str], Awaitable[Load | None]] | None  # None: these servers do not say
    sleep: Sleep = asyncio.sleep
    look: Sleep = asyncio.sleep
    jitter: Random = field(default_factory=Random)
    say: Say = lambda _: None


class Pool:
    """Places are taken with `place` and given back with `release`; what came of a request is told with the others."""

    def __init__(self, replicas: Sequence[Replica], care: Care) -> None:
        self.replicas = tuple(replicas)
        self._care = care
        self._waiting: list[_Waiting] = []  # by ticket
        self._asking = 0  # those who wait for a place or have one
        self._tending: dict[Replica, asyncio.Task[None]] = {}  # canaries for those that are out
        self._pausing: set[asyncio.Task[None]] = set()
        self._watching: set[asyncio.Task[None]] = set()

    # Places

    @property
    def places(self) -> int:
        """Of the servers that are asked now."""
        return sum(one.window.places for one in self.replicas if one.state is State.SERVES)

    async def place(self, ticket: int, avoided: Collection[Replica] = ()) -> Replica:
        """A server with room, as soon as all with a lower ticket have one; none of `avoided` while there are others.

        Raises EngineGone, and Halted where the wait for a server is ended.
        """
        self._asking += 1
        if self._asking == 1:
            self._tend()
        if not self._waiting and (replica := self._choose(avoided)) is not None:
            return self._take(replica)
        waiting = _Waiting(ticket, asyncio.get_running_loop().create_future(), avoided)
        insort(self._waiting, waiting)
        self._tend()
        self._hand_out()
        try:
            return await waiting.place
        except (EngineGone, Halted):
            self._leave()
            raise
        except asyncio.CancelledError:
            if waiting.place.cancelled() or waiting.place.exception() is not None:
                self._leave()
            else:  # it came in the same step
                self.release(waiting.place.result())
            raise

    def release(self, replica: Replica) -> None:
        replica.in_flight -= 1
        self._hand_out()
        self._leave()

    def _leave(self) -> None:
        """One less who asks. Where nobody does, nothing goes on in the background."""
        self._asking -= 1
        if self._asking:
            return
        self._waiting.clear()
        for task in (*self._tending.values(), *self._watching):
            task.cancel()
        self._tending.clear()
        self._watching.clear()

    def _take(self, replica: Replica) -> Replica:
        replica.in_flight += 1
        if self._care.load is not None and not self._watching:
            for one in self.replicas:
                self._start(self._watch(one, self._care.load), self._watching)
        return replica

    def _choose(self, avoided: Collection[Replica]) -> Replica | None:
        wanted = [one for one in self.replicas if one not in avoided] if avoided else self.replicas
        if not any(one.state is State.SERVES for one in wanted):
            wanted = self.replicas
        free = [one for one in wanted if one.has_room]
        return min(free, key=lambda one: one.fullness) if free else None

    def _hand_out(self) -> None:
        """Every place that there is to those who wait, the lowest ticket first."""
        at = 0
        while at < len(self._waiting) and any(one.has_room for one in self.replicas):
            waiting = self._waiting[at]
            if waiting.place.done():  # cancelled
                del self._waiting[at]
            elif (replica := self._choose(waiting.avoided)) is not None:
                del self._waiting[at]
                waiting.place.set_result(self._take(replica))
            else:
                at += 1

    # What came of it

    def answered(self, replica: Replica, tokens: int, epoch: int, now: float) -> None:
        """To be told before the place is given back."""
        replica.strikes = 0
        replica.window.answered(tokens, epoch, replica.in_flight >= replica.window.places, now)

    def failed(self, replica: Replica, error: Transient, epoch: int) -> None:
        """To be told before the place is given back."""
        if isinstance(error, Busy):
            replica.window.turned_away(epoch)
            if error.seconds and replica.state is State.SERVES:
                replica.state = State.PAUSES
                self._start(self._pause(replica, min(error.seconds, LONGEST_PAUSE)), self._pausing)
            return
        if isinstance(error, EngineTimeout):
            replica.window.timed_out(epoch)
        replica.strikes += 1
        if isinstance(error, Unreached) or replica.strikes >= STRIKES:
            self.put_out(replica, error)

    def put_out(self, replica: Replica, error: Exception) -> None:
        if replica.state is State.OUT:
            return
        replica.state, replica.strikes, replica.missed = State.OUT, 0, 0
        left = sum(one.state is not State.OUT for one in self.replicas)
        self._care.say(f"{replica.url}: out of the pool, {left} of {len(self.replicas)} servers left: {error}")
        self._tend()

    async def answers(self, replica: Replica) -> bool:
        """Whether a server answers a canary now; one that does not is put out."""
        try:
            await self._care.canary(replica.url)
        except (Transient, Fixable) as error:
            self.put_out(replica, error)
            return False
        return True

    async def vouch(self, replica: Replica) -> None:
        """A server that has just refused a request is asked a canary: one for all refusals that came before it.

        Raises Fixable where it refuses that too, and Transient where it does not answer.
        """
        replica.refusals += 1
        mine = replica.refusals
        async with replica.vouching:
            if replica.vouched < mine:
                before = replica.refusals
                await self._care.canary(replica.url)
                replica.vouched = before

    # In the background

    def _start(self, work: Coroutine[object, None, None], among: "set[asyncio.Task[None]]") -> None:
        task = asyncio.create_task(work)
        among.add(task)
        task.add_done_callback(among.discard)

    def _tend(self) -> None:
        """Whoever is out is tried again, as long as anybody asks for anything."""
        for replica in self.replicas:
            if replica.state is State.OUT and replica not in self._tending:
                self._tending[replica] = asyncio.create_task(self._bring_back(replica))

    async def _bring_back(self, replica: Replica) -> None:
        replica.missed = 0
        while True:
            longest = min(LONGEST_REST, 2.0 ** min(replica.missed, DOUBLINGS))
            try:
                await self._care.sleep(self._care.jitter.uniform(longest / 2, longest))
                await self._care.canary(replica.url)
                break
            except (Transient, Fixable) as error:
                replica.missed += 1
                if self._all_lost():
                    self._give_up(EngineGone(f"no server answers any more; the last one said: {error}"))
                    return
            except Halted as why:
                self._give_up(why)
                return
        del self._tending[replica]
        replica.state = State.SERVES
        self._care.say(f"{replica.url}: answers, and is in the pool")
        self._hand_out()

    def _all_lost(self) -> bool:
        return all(one.state is State.OUT and one.missed >= CANARIES for one in self.replicas)

    def _give_up(self, why: EngineGone | Halted) -> None:
        """Tell all who wait that there is nothing to wait for. Whoever asks next starts the canaries anew."""
        me = asyncio.current_task()
        for task in self._tending.values():
            if task is not me:
                task.cancel()
        self._tending.clear()
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.place.done():
                one.place.set_exception(copy(why))  # each is raised in a place of its own

    async def _pause(self, replica: Replica, seconds: float) -> None:
        with suppress(Halted):  # then the gate tells those who get a place
            await self._care.sleep(seconds)
        if replica.state is State.PAUSES:
            replica.state = State.SERVES
            self._hand_out()

    async def _watch(self, replica: Replica, look_at: Callable[[str], Awaitable[Load | None]]) -> None:
        while True:
            await self._care.look(LOOK)
            try:
                load = await look_at(replica.url)
            except (Transient, Fixable):
                continue  # a server that does not even say how it fares is found out by what is asked of it
            if load is not None:
                replica.window.told(load, replica.in_flight)
                self._hand_out()
