"""All servers of one model before the first request: who answers, what they can do in common, and who may join later.

A server that does not answer is no reason to keep the others waiting: it starts outside of the pool, and joins once a probe
shows that it is like them. The rule that must not break: nothing is asked of a server that did not pass a probe.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from factory.client.backoff import LONGEST_WAIT, full_jitter
from factory.client.probe import Probed, probe
from factory.client.protocol import Wire
from factory.client.transport import Busy, Link, Unreached
from schemas.errors import EngineRefused, EngineUnavailable, Fixable, Transient

PROBES = 4  # of a server that answers with faults

Sleep = Callable[[float], Awaitable[None]]
Say = Callable[[str], None]
Join = Callable[[], Awaitable[None]]  # raises Transient or Fixable where the server may not be asked yet


@dataclass
class Absent:
    """A server that did not answer, and `wire`, which the others are spoken to by."""

    client: Link
    url: str
    model: str
    wire: Wire
    say: Say = lambda _: None
    refused: bool = False

    async def join(self) -> None:
        """A probe. Raises Transient, and Fixable where the server is not like the others."""
        try:
            self._compare((await probe(self.client, self.url, self.model)).wire)
        except Fixable as error:
            if not self.refused:
                self.say(f"{self.url}: stays out of the pool: {error}")
            self.refused = True
            raise

    def _compare(self, found: Wire) -> None:
        if (found.model, found.rewards) != (self.wire.model, self.wire.rewards):
            raise EngineRefused(f"it serves {found.model}, and the others {self.wire.model}")
        if self.wire.answers_as is not None and found.answers_as not in (self.wire.answers_as, None):
            raise EngineRefused(f"it answers as {found.answers_as}, and the others as {self.wire.answers_as}")
        if lacking := self.wire.abilities - found.abilities:
            raise EngineRefused(f"it lacks what the others have: {', '.join(sorted(lacking))}")


@dataclass(frozen=True, slots=True)
class Roster:
    """What came of the probes. `wire`: what all who answered can do. `absent`: how each of the others may join later."""

    wire: Wire
    probed: tuple[Probed, ...]
    absent: Mapping[str, Join]


async def probe_all(
    client: Link,
    urls: Sequence[str],
    model: str,
    say: Say = lambda _: None,
    sleep: Sleep = asyncio.sleep,
    jitter: Random | None = None,
) -> Roster:
    """Raises EngineRefused where a server is of no use or not like the others, and Transient where none answers."""
    probed, silent = list[Probed](), dict[str, Transient]()
    for url in urls:
        try:
            probed.append(await _patiently(client, url, model, sleep, jitter or Random()))
        except Transient as error:
            silent[url] = error
    if not probed:
        raise next(iter(silent.values()))
    wire = _common(probed)
    for url, why in silent.items():
        say(f"{url}: out of the pool, {len(probed)} of {len(urls)} servers answer the probe: {why}")
    return Roster(wire, tuple(probed), {url: Absent(client, url, model, wire, say).join for url in silent})


async def _patiently(client: Link, url: str, model: str, sleep: Sleep, jitter: Random) -> Probed:
    """A bad moment of a server that is there does not end it."""

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.seconds if isinstance(error, Busy) else None
        return asked or full_jitter(jitter, state.attempt_number)

    async for attempt in AsyncRetrying(
        sleep=sleep, stop=stop_after_attempt(PROBES), wait=wait, retry=retry_if_exception(_passes), reraise=True
    ):
        with attempt:
            return await probe(client, url, model)
    raise AssertionError("unreachable: the last try returns or raises")


def _passes(error: BaseException) -> bool:
    """Whether another try soon may cure it: not where nobody is there, or it had its whole time already."""
    if isinstance(error, Busy):
        return (error.seconds or 0.0) <= LONGEST_WAIT
    return isinstance(error, EngineUnavailable) and not isinstance(error, Unreached)


def _common(probed: Sequence[Probed]) -> Wire:
    """What all replicas can do. Replicas must serve the model under one name."""
    first = probed[0].wire
    if any(one.wire.model != first.model for one in probed):
        names = ", ".join(sorted({one.wire.model for one in probed}))
        raise EngineRefused(
            f"urls: the servers name their model differently ({names}); they must be replicas of one model"
        )
    named = {one.wire.answers_as for one in probed}
    return replace(
        first,
        abilities=frozenset.intersection(*(one.wire.abilities for one in probed)),
        answers_as=first.answers_as if len(named) == 1 else None,
    )
