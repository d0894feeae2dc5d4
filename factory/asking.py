"""Many requests of one shard through an engine, each answer kept as soon as it is there.

A request that fails for good is a missing reply with a reason; an engine that is gone is an error of the shard, so that
a dead server never turns into thousands of rows that say so.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field

from factory.engine import Engine, TooLong
from factory.run import Journal
from schemas.chat import Completion, Request
from schemas.errors import RequestRejected, Transient

TOO_LONG = "prompt_too_long: "  # how the error of a rollout begins whose prompt does not fit


@dataclass
class Desk:
    """Where the requests of one shard go through; `done` is told of each that is over, `expect` how many there will be.

    `failures` holds the reason for each that has no answer.
    """

    journal: Journal
    done: Callable[[], None]
    say: Callable[[str], None] = lambda _: None
    expect: Callable[[int], None] = lambda _: None
    failures: dict[str, str] = field(default_factory=dict)
    sent: int = 0  # requests that were not in the journal

    async def ask(self, engine: Engine, request: Request) -> Completion | None:
        """As `_ask`, and tells that it is over."""
        completion = await self._ask(engine, request)
        self.done()
        return completion

    async def _ask(self, engine: Engine, request: Request) -> Completion | None:
        """The answer, from the journal where it was paid for already; None where there will be none.

        Raises EngineRefused, and Transient where no server of the engine is alive.
        """
        if kept := self.journal.kept.get(request.request_id):
            return kept
        self.sent += 1
        try:
            completion = await engine.complete(request)
        except TooLong as error:
            self.failures[request.request_id] = f"{TOO_LONG}{error}"
            return None
        except RequestRejected as error:
            self.failures[request.request_id] = str(error)
            return None
        except Transient as error:
            if not await engine.alive():
                raise
            self.failures[request.request_id] = str(error)
            return None
        self.journal.append(completion)
        return completion

    async def ask_all(self, asked: Iterable[tuple[Engine, Request]]) -> None:
        """All of them at once; the engines' windows bound what is in flight, in the order given."""
        await together([self.ask(engine, request) for engine, request in asked])


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
