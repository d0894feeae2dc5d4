"""Who of several servers is asked from the start, who later, and who never.

roster = await probe_all(client, urls, "model", sleep=asyncio.sleep, jitter=Random())
Engine(client, urls, roster.wire, concurrency, absent=roster.absent)
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from random import Random
from typing import TypeVar

import pytest

from factory.client.backoff import LONGEST_WAIT
from factory.client.protocol import Ability
from factory.client.replicas import PROBES, Roster, probe_all
from factory.client.transport import Link, Unreached, http_client
from factory.engine import Engine
from schemas.chat import Message, Request, Role, Sampling
from schemas.errors import EngineRefused, EngineTimeout, EngineUnavailable, Transient
from tests.fake_engine import (
    CHAT,
    MODELS,
    FakeEngine,
    Fault,
    always,
    busy,
    error,
    hang,
    in_turn,
    reset,
    slowly,
    whenever,
)

T = TypeVar("T")


@pytest.fixture
def free() -> Iterator[int]:
    """A port where nobody listens, and nobody else will."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


def address(port: int) -> str:
    return f"http://127.0.0.1:{port}/v1"


async def nap(_: float) -> None:
    await asyncio.sleep(0.001)


def use(do: Callable[[Link], Awaitable[T]], timeout: float = 20.0) -> T:
    async def main() -> T:
        async with http_client(16, timeout) as client:
            return await do(client)

    return asyncio.run(main())


def probed(
    *urls: str, said: list[str] | None = None, waited: list[float] | None = None, timeout: float = 20.0
) -> Roster:
    async def sleep(seconds: float) -> None:
        if waited is not None:
            waited.append(seconds)

    def say(line: str) -> None:
        if said is not None:
            said.append(line)

    return use(lambda client: probe_all(client, urls, "fake-model", say, sleep, Random(1)), timeout)


# Who is asked from the start


@pytest.mark.parametrize("path", [MODELS, CHAT])
@pytest.mark.parametrize("fault", [error(500), error(503), reset, busy(), busy("3")])
def test_probe_all_bad_moment_is_waited_for(fake_engine: FakeEngine, path: str, fault: Fault) -> None:
    once = [fault]
    fake_engine.faults = lambda seen: once.pop() if seen.path == path and once else None
    waited: list[float] = []

    roster = probed(fake_engine.url, waited=waited)

    assert roster.wire.abilities == frozenset(Ability)
    assert len(waited) == (0 if (fault, path) == (reset, MODELS) else 1)  # aiohttp itself asks again what only looks
    assert all(0 <= seconds <= 3 for seconds in waited)


def test_probe_all_faults_without_end_are_the_servers_own_words(fake_engine: FakeEngine) -> None:
    fake_engine.faults = always(error(500, "CUDA error"), MODELS)

    with pytest.raises(EngineUnavailable, match="500: CUDA error"):
        probed(fake_engine.url)

    assert len(fake_engine.seen) == PROBES


@pytest.mark.parametrize(
    ("fault", "kind"), [(busy(str(LONGEST_WAIT + 1)), EngineUnavailable), (hang, EngineTimeout)], ids=["later", "never"]
)
def test_probe_all_server_that_takes_too_long_is_not_waited_for(
    fake_engine: FakeEngine, fault: Fault, kind: type[Transient]
) -> None:
    fake_engine.faults = always(fault, MODELS)

    with pytest.raises(kind):
        probed(fake_engine.url, timeout=0.3)

    assert len(fake_engine.seen) == 1


def test_probe_all_nobody_listens_is_unreached_at_once(free: int) -> None:
    waited: list[float] = []

    with pytest.raises(Unreached):
        probed(address(free), address(free), waited=waited)

    assert waited == []


@pytest.mark.parametrize("first", [True, False])
def test_probe_all_server_that_is_not_there_leaves_the_others(fake_engine: FakeEngine, free: int, first: bool) -> None:
    urls = [address(free), fake_engine.url] if first else [fake_engine.url, address(free)]
    said: list[str] = []

    roster = probed(*urls, said=said)

    assert list(roster.absent) == [address(free)]
    assert roster.wire.abilities == frozenset(Ability)
    assert "out of the pool, 1 of 2 servers answer the probe" in said[0]


def test_probe_all_servers_can_what_all_can(fake_engine: FakeEngine) -> None:
    with FakeEngine(abilities=frozenset(Ability) - {Ability.LOGPROBS}) as other:
        assert probed(fake_engine.url, other.url).wire.abilities == frozenset(Ability) - {Ability.LOGPROBS}


def test_probe_all_servers_of_different_models_are_refused(fake_engine: FakeEngine) -> None:
    with FakeEngine(model="other-model") as other, pytest.raises(EngineRefused, match="name their model differently"):
        probed(fake_engine.url, other.url)


# Who joins later


async def ask_on(client: Link, urls: tuple[str, ...], came: Callable[[list[str]], bool]) -> list[str]:
    """Ask the servers until it `came`; what was said meanwhile."""
    said: list[str] = []
    roster = await probe_all(client, urls, "fake-model", said.append, nap)
    engine = Engine(client, urls, roster.wire, 2, sleep=nap, say=said.append, absent=roster.absent)

    async def work() -> None:
        while not came(said):
            await engine.complete(Request("r", (Message(Role.USER, "Hi [ends]"),), Sampling(max_tokens=99, seed=1)))

    await asyncio.gather(*(work() for _ in range(4)))
    return said


def test_absent_server_that_comes_up_is_probed_and_used(fake_engine: FakeEngine, free: int) -> None:
    fake_engine.faults = whenever(lambda seen: seen.is_question, slowly(0.01))
    later, up = FakeEngine(port=free), list[FakeEngine]()

    with ExitStack() as stack:

        def came(_: list[str]) -> bool:
            if len(fake_engine.questions) > 10 and not up:
                up.append(stack.enter_context(later))
            return bool(later.questions)

        said = use(lambda client: ask_on(client, (address(free), fake_engine.url), came))

    first = later.seen.index(later.questions[0])
    assert {seen.path for seen in later.seen[:first]} == {MODELS, CHAT}
    assert len(later.seen[:first]) > len(Ability)
    assert any(line.startswith(address(free)) and "is in the pool" in line for line in said)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"model": "other-model"}, "it serves other-model, and the others fake-model"),
        ({"abilities": frozenset(Ability) - {Ability.SEED}}, "it lacks what the others have: seed"),
    ],
)
def test_absent_server_that_is_not_like_the_others_stays_out(
    fake_engine: FakeEngine, changed: dict[str, object], words: str
) -> None:
    fake_engine.faults = whenever(lambda seen: seen.is_question, slowly(0.01))
    with FakeEngine(faults=always(error(500), MODELS)) as other:

        def came(said: list[str]) -> bool:
            if len(fake_engine.questions) > 10:
                vars(other).update(changed)
                other.faults = in_turn()
            return any("stays out of the pool" in line for line in said)

        said = use(lambda client: ask_on(client, (fake_engine.url, other.url), came))

        assert [line for line in said if words in line] == [f"{other.url}: stays out of the pool: {words}"]
        assert other.questions == []
