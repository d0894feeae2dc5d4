"""Many requests of one shard through an engine, each answer kept as soon as it is there.

A request that fails for good is a missing reply with a reason; an engine that is gone is an error of the shard, so that
a dead server never turns into thousands of rows that say so. Where the gate closes, what is under way comes in and is kept
before the shard ends with the gate's reason.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from factory.client.transport import TooLong
from factory.engine import Engine, RequestFailed
from factory.ledger.journal import Journal
from schemas.chat import Completion, Request
from schemas.errors import Halted, RequestRejected

TOO_LONG = "prompt_too_long: "  # how the error of a rollout begins whose prompt does not fit
RETRIES = "retries."  # how these notes of a record begin


@dataclass
class Desk:
    """Where the requests of one shard go through; `done` is told of each that is over, `expect` how many there will be.

    `failures` holds the reason for each that has no answer. Of several desks at one engine, the one with the lowest `rank`
    is served first; `all_sent` is called once when the last of its requests is on its way.
    """

    journal: Journal
    done: Callable[[], None]
    say: Callable[[str], None] = lambda _: None
    expect: Callable[[int], None] = lambda _: None
    rank: int = 0
    all_sent: Callable[[], None] = lambda: None
    failures: dict[str, str] = field(default_factory=dict)
    sent: int = 0  # requests that were not in the journal
    faults: Counter[str] = field(
        default_factory=Counter
    )  # attempts in vain of those that have no answer, by what they met
    halted: Halted | None = None  # why some were not sent
    _unsent: int = 0

    @asynccontextmanager
    async def batch(self, count: int) -> AsyncIterator[None]:
        """Around all of the desk's asking, `count` requests of it. Raises Halted where some were not sent."""
        self._unsent = count + 1
        self._one_less()
        yield
        if self.halted is not None:
            raise self.halted

    async def ask(self, engine: Engine, request: Request) -> Completion | None:
        """As `_ask`, and tells that it is over. None too where it was not sent, and then `halted` says why."""
        try:
            completion = await self._ask(engine, request)
        except Halted as why:
            self.halted = why
            return None
        self.done()
        return completion

    def skip(self) -> None:
        """One of them is not asked after all."""
        self._one_less()
        self.done()

    def _one_less(self) -> None:
        self._unsent -= 1
        if self._unsent == 0:
            self.all_sent()

    async def _ask(self, engine: Engine, request: Request) -> Completion | None:
        """The answer, from the journal where it was paid for already; None where there will be none.

        Raises EngineRefused, Halted, and EngineGone where no server of the engine is alive.
        """
        if kept := self.journal.kept.get(request.request_id):
            self._one_less()
            return kept
        async with engine.line.place(self.rank):
            self._one_less()
            return await self._send(engine, request)

    async def _send(self, engine: Engine, request: Request) -> Completion | None:
        self.sent += 1
        try:
            completion = await engine.complete(request)
        except TooLong as error:
            self.failures[request.request_id] = f"{TOO_LONG}{error}"
            return None
        except RequestRejected as error:
            self.failures[request.request_id] = str(error)
            return None
        except RequestFailed as error:
            self.failures[request.request_id] = str(error)
            self.faults.update(error.faults)
            return None
        self.journal.append(completion)
        return completion

    async def ask_all(self, asked: Sequence[tuple[Engine, Request]]) -> None:
        """All of them, in the order given; so many at once that each engine has as many again to go on with."""
        engines = {id(engine): engine for engine, _ in asked}.values()
        left = iter(asked)

        async def work() -> None:
            for engine, request in left:
                await self.ask(engine, request)

        workers = min(len(asked), 2 * sum(engine.capacity for engine in engines))
        async with self.batch(len(asked)):
            await together([work() for _ in range(workers)])

    def attempts(self, request_ids: Iterable[str]) -> dict[str, float]:
        """As notes of a record: the attempts that these requests took in all, and those of them that were in vain."""
        met, answers = Counter(self.faults), 0
        for request_id in request_ids:
            if (completion := self.journal.kept.get(request_id)) is not None:
                answers += 1
                met.update(completion.faults)
        return attempt_notes(answers, met)


def attempt_notes(answers: int, met: Counter[str]) -> dict[str, float]:
    """`attempts`, and a `retries.` for each kind of fault that an attempt met."""
    return {"attempts": answers + met.total()} | {
        f"{RETRIES}{kind}": float(times) for kind, times in sorted(met.items())
    }


async def together(coroutines: Iterable[Coroutine[object, None, object]]) -> None:
    """Run all to the end. The first error cancels the rest at once and is raised as itself, not as a group.

    At once: in the step of the event loop in which it was raised, so that no request starts whose answer nobody keeps.
    """
    given = list(coroutines)
    running: list[asyncio.Task[None]] = []

    async def one(coroutine: Coroutine[object, None, object]) -> None:
        try:
            await coroutine
        except BaseException:
            for other in running:
                if other is not asyncio.current_task():
                    other.cancel()
            raise

    running.extend(asyncio.create_task(one(coroutine)) for coroutine in given)
    try:
        results = await asyncio.gather(*running, return_exceptions=True)
    finally:
        for coroutine in given:
            coroutine.close()  # those that were cancelled before they began; nothing for the others
    failures = [result for result in results if isinstance(result, BaseException)]
    for failure in failures:
        if not isinstance(failure, asyncio.CancelledError):
            raise failure
    if failures:
        raise failures[0]
