"""The client of one model: asks its servers for answers, and is the only place that tries a request again.

A stage may ask for thousands of answers at once: they wait for a place in the windows of the servers (`factory.client.pool`,
`factory.client.window`), in the order in which they were asked for. What a single attempt can come to is said in
`factory.client.transport`. The rule that must not break: a request is given up only for faults of its own. While a server
asks to be left alone, or is gone, its requests wait or go to the others, and are not to blame; and what a server refuses is
the request's own fault only where the server answers a canary all the same.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import count
from random import Random

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, retry_if_not_exception_type

from factory.client.backoff import SHORTEST_WAIT, full_jitter
from factory.client.gate import Gate
from factory.client.line import Line
from factory.client.pool import LONGEST_PAUSE, Care, EngineGone, Pool, Replica, State
from factory.client.protocol import Ability, Useless, Wire, WrongModel, canary, is_doubtful, read_reply
from factory.client.replicas import Join
from factory.client.server_load import metrics_address, read_load
from factory.client.transport import Busy, CutOff, Link, ServerFault, TooLong, Unreached
from factory.client.window import FeltWindow, Load, ToldWindow
from schemas.chat import Completion, Request
from schemas.errors import EngineRefused, EngineTimeout, RequestRejected, Transient
from schemas.price import Price

TRIES = 6  # of a request that meets faults
PATIENCE = 3600.0  # seconds that a request waits for servers which ask to be left alone, and answer none of the others
RESERVE = 4  # at least so many requests wait for the places of the engine's windows; the others wait in its line
CANARY_TIME = 120.0  # seconds within which a server answers with one token, or is of no use

Sleep = Callable[[float], Awaitable[None]]


class Fault(StrEnum):
    """Why an attempt came to nothing, as it is counted."""

    UNREACHED = "unreached"
    CUT_OFF = "cut_off"
    TIMEOUT = "timeout"
    BUSY = "busy"
    SERVER = "server"  # it said that it broke
    UNREADABLE = "unreadable"  # what it said was no answer


def fault_of(error: BaseException | None) -> Fault:
    match error:
        case Unreached():
            return Fault.UNREACHED
        case CutOff():
            return Fault.CUT_OFF
        case EngineTimeout():
            return Fault.TIMEOUT
        case Busy():
            return Fault.BUSY
        case ServerFault():
            return Fault.SERVER
    return Fault.UNREADABLE


class RequestFailed(Transient):
    """This request came to nothing at every try, with an engine that answers. `faults`: what each try met."""

    def __init__(self, message: str, faults: tuple[str, ...]) -> None:
        super().__init__(message)
        self.faults = faults


class Doubtful(Useless):
    """An answer without a text, where one was due. The server works, and the next answer may be one."""


@dataclass
class _Course:
    """What became of one request so far."""

    jitter: Random
    ticket: int  # its turn: the lowest has the next place
    before: int  # answers of the engine, when it was asked for
    faults: list[Fault] = field(default_factory=list)
    blamed: int = 0  # tries that met a fault which may be the request's own
    renamed: int = 0  # of these, by another model than was asked
    waited: float = 0.0  # seconds, because servers asked for it, since they last answered anybody
    answers: int = 0  # of the engine, when it last asked for a wait
    avoided: set[Replica] = field(default_factory=set)

    def note(self, replica: Replica, error: Transient, answers: int) -> None:
        """`answers`: that the engine has given so far, to whomever."""
        self.faults.append(fault_of(error))
        if isinstance(error, Busy):
            if answers > self.answers:
                self.waited, self.answers = 0.0, answers
            self.waited += max(SHORTEST_WAIT, min(error.seconds or 0.0, LONGEST_PAUSE))
        elif not isinstance(error, Unreached):
            self.blamed += 1
            self.renamed += isinstance(error, WrongModel)
            self.avoided.add(replica)

    @property
    def is_last(self) -> bool:
        return self.blamed == TRIES - 1

    @property
    def is_out_of_patience(self) -> bool:
        return self.waited >= PATIENCE

    def is_over(self, _: RetryCallState) -> bool:
        return self.blamed >= TRIES or self.is_out_of_patience

    def wait(self, state: RetryCallState) -> float:
        """None where the server said how long, or works and has nothing to recover from."""
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, Unreached | Doubtful) or (isinstance(error, Busy) and error.seconds):
            return 0.0
        seconds = full_jitter(self.jitter, len(self.faults))
        self.waited += seconds if isinstance(error, Busy) else 0.0
        return seconds


@dataclass
class Engine:
    """A model behind one or more equal servers. `sent` counts every HTTP attempt for an answer, `faults` the vain ones,
    `answers` the others.

    Every attempt goes through `gate`. `line` is where whole shards wait for a place, the earliest first: it lets as many
    through as the windows have places now, a few more, so that none of these stays empty, and one for each that rests
    between two tries.
    """

    client: Link
    urls: tuple[str, ...]
    wire: Wire
    concurrency: int
    sleep: Sleep = asyncio.sleep
    jitter: Random = field(default_factory=Random)
    clock: Callable[[], float] = time.monotonic
    look: Sleep = asyncio.sleep  # between two looks at a server's load
    say: Callable[[str], None] = lambda _: None
    gate: Gate = field(default_factory=Gate)
    price: Price | None = None  # None: its tokens are not paid for, or not known to be
    absent: Mapping[str, Join] = field(default_factory=dict)  # servers that start outside of the pool, until they join
    line: Line = field(init=False)
    sent: int = 0
    answers: int = 0
    faults: Counter[Fault] = field(default_factory=Counter)
    _resting: int = 0
    _pool: Pool = field(init=False)
    _tickets: "count[int]" = field(init=False, default_factory=count)

    def __post_init__(self) -> None:
        tells = Ability.LOAD in self.wire.abilities
        window = ToldWindow if tells else FeltWindow
        care = Care(self._canary, self._load if tells else None, self._pause, self.look, self.jitter, self.say)
        states = [State.OUT if url in self.absent else State.SERVES for url in self.urls]
        servers = zip(self.urls, states, strict=True)
        self._pool = Pool([Replica(url, window(self.concurrency), state) for url, state in servers], care)
        self.line = Line(self._wanted)

    def _wanted(self) -> int:
        places = self._pool.places
        return places + max(RESERVE, places // 4) + self._resting

    @property
    def capacity(self) -> int:
        """The most requests that may be in flight, over all servers."""
        return self.concurrency * len(self.urls)

    @property
    def replicas(self) -> tuple[Replica, ...]:
        """Its servers, for whoever looks on."""
        return self._pool.replicas

    async def complete(self, request: Request) -> Completion:
        """One answer. Raises RequestRejected, RequestFailed, EngineRefused or EngineGone; Halted by the gate."""
        course = _Course(self.jitter, next(self._tickets), self.answers)
        while True:
            try:
                return await self._tried(request, course)
            except EngineGone:
                raise
            except Transient as error:
                if course.renamed == TRIES:
                    raise EngineRefused(f"{error}: the server has another model now than at the start") from error
                if course.is_out_of_patience and self.answers == course.before:
                    raise EngineGone(f"{error}: nobody was answered in {PATIENCE:g} s of waiting") from error
                if await self._any_answers():
                    # The others are answered: it alone is too much, as one beyond a limit of tokens a minute.
                    raise RequestFailed(_given_up(course, error), tuple(course.faults)) from error
                if course.is_out_of_patience:
                    raise EngineGone(f"{error}: nobody is answered any more") from error
                # No server does: it was not the request. It waits for them with all the others.
                course.blamed, course.renamed = 0, 0

    async def _tried(self, request: Request, course: _Course) -> Completion:
        async for attempt in AsyncRetrying(
            sleep=self._rest,
            stop=course.is_over,
            wait=course.wait,
            retry=retry_if_exception_type(Transient) & retry_if_not_exception_type(EngineGone),
            reraise=True,
        ):
            with attempt:
                return await self._attempt(request, course)
        raise AssertionError("unreachable: the last try returns or raises")

    async def _attempt(self, request: Request, course: _Course) -> Completion:
        replica = await self._pool.place(course.ticket, course.avoided)
        epoch = replica.window.epoch
        try:
            completion = await self._answer(replica, request, course)
            self.answers += 1
            self._pool.answered(replica, 1 + (completion.completion_tokens or 0), epoch, self.clock())
            return completion
        except Transient as error:
            course.note(replica, error, self.answers)
            self.faults[fault_of(error)] += 1
            if isinstance(error, Busy):  # the others first: it alone may be too much
                course.ticket = next(self._tickets)
            if not isinstance(error, Doubtful):
                self._pool.failed(replica, error, epoch)
            raise
        finally:
            self._pool.release(replica)

    async def _answer(self, replica: Replica, request: Request, course: _Course) -> Completion:
        """Raises RequestRejected only where the fault is the request's own."""
        try:
            return await self._asked(replica, request, course)
        except TooLong:
            raise
        except RequestRejected as error:
            try:
                await self._pool.vouch(replica)
            except RequestRejected as refused:
                raise EngineRefused(f"{refused}; it refuses even the smallest request") from error
            raise

    async def _asked(self, replica: Replica, request: Request, course: _Course) -> Completion:
        """One attempt, whose tokens are counted whatever the reply is worth."""
        async with self.gate.through(request, self.price) as settle:
            self.sent += 1
            began = self.clock()
            content = await self.client.post(self.wire.address(replica.url, request), self.wire.body(request))
            seconds = round(self.clock() - began, 4)
            try:
                said = read_reply(request, content, self.wire.answers_as)
                if is_doubtful(request, said, self.wire) and not course.is_last:
                    raise Doubtful(f"{replica.url}: the answer is empty, though tokens were spent on it", said)
            except Useless as error:
                settle(error.completion)
                raise
            return settle(replace(said, seconds=seconds, faults=tuple(course.faults)))

    async def _rest(self, seconds: float) -> None:
        """Between two tries of a request, which holds no place meanwhile."""
        if not seconds:
            return
        self._resting += 1
        try:
            await self._pause(seconds)
        finally:
            self._resting -= 1

    async def _pause(self, seconds: float) -> None:
        """A gate that closes meanwhile ends it. Raises Halted."""

        async def asleep() -> None:
            await self.sleep(seconds)

        await self.gate.unless_closed(asleep())

    async def _any_answers(self) -> bool:
        """Whether any server answers a canary: tells a poison request from a dead engine."""
        for replica in sorted(self._pool.replicas, key=lambda one: one.state is State.OUT):
            if await self._pool.answers(replica):
                return True
        return False

    async def _canary(self, url: str) -> None:
        """Of a server that is absent, the probe that it has to pass."""
        if (join := self.absent.get(url)) is not None:
            await join()
            self.absent = {other: its for other, its in self.absent.items() if other != url}
            return
        request = canary(self.wire)
        within = min(CANARY_TIME, self.client.whole)
        read_reply(request, await self.client.post(self.wire.address(url, request), self.wire.body(request), within))

    async def _load(self, url: str) -> Load | None:
        return read_load(await self.client.get(metrics_address(url)))


def _given_up(course: _Course, error: Transient) -> str:
    met = ", ".join(f"{kind} {times}" for kind, times in Counter(course.faults).items())
    return f"given up after {len(course.faults)} tries ({met}): {error}"
