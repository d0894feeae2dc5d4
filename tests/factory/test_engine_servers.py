"""The client before several servers, and before one that has its limits: who is sent how much, and what a loss costs."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar

import pytest

from factory.client.pool import CANARIES, STRIKES, Care, EngineGone, Pool, Replica, Sleep
from factory.client.protocol import Ability, Wire
from factory.client.transport import Unreached, http_client
from factory.client.window import ToldWindow
from factory.engine import TRIES, Engine, RequestFailed
from schemas.chat import Completion, Message, Request, Role, Sampling
from tests.fake_engine import (
    FakeEngine,
    Fault,
    Seen,
    always,
    busy,
    dies_after,
    error,
    hang,
    in_turn,
    no_faults,
    reset,
    slowly,
    whenever,
)

T = TypeVar("T")
WIRE = Wire("fake-model")
QUIET = Wire("fake-model", frozenset(Ability) - {Ability.LOAD})


async def nap(_: float) -> None:
    """Instead of a wait: long enough for others to come by."""
    await asyncio.sleep(0.001)


def use(
    urls: tuple[str, ...],
    do: Callable[[Engine], Awaitable[T]],
    *,
    concurrency: int = 4,
    wire: Wire = WIRE,
    sleep: Sleep = nap,
    look: Sleep = asyncio.sleep,
    said: list[str] | None = None,
) -> T:
    async def main() -> T:
        async with http_client(concurrency * len(urls), 20.0) as client:
            say = (lambda _: None) if said is None else said.append
            return await do(Engine(client, urls, wire, concurrency, sleep=sleep, jitter=Random(1), look=look, say=say))

    return asyncio.run(main())


def a_request(asked: str = "Hi [ends]") -> Request:
    return Request("r", (Message(Role.USER, asked),), Sampling(max_tokens=200, seed=1))


async def ask(engine: Engine, count: int) -> list[Completion]:
    return list(await asyncio.gather(*(engine.complete(a_request(f"number {number}")) for number in range(count))))


async def ends(engine: Engine, texts: list[str]) -> list[Completion | BaseException]:
    return list(await asyncio.gather(*(engine.complete(a_request(text)) for text in texts), return_exceptions=True))


# How much is under way


@pytest.mark.parametrize("concurrency", [1, 3, 8])
def test_engine_window_is_filled_and_never_exceeded(fake_engine: FakeEngine, concurrency: int) -> None:
    fake_engine.faults = always(slowly(0.02))

    use((fake_engine.url,), lambda engine: ask(engine, 30), concurrency=concurrency)

    assert fake_engine.most_in_flight == concurrency
    assert len(fake_engine.seen) == 30


def test_engine_requests_go_out_in_the_order_in_which_they_were_asked(fake_engine: FakeEngine) -> None:
    use((fake_engine.url,), lambda engine: ask(engine, 30), concurrency=1)

    assert [seen.asked for seen in fake_engine.seen] == [f"number {number}" for number in range(30)]


def test_engine_second_try_goes_before_what_was_asked_later(fake_engine: FakeEngine) -> None:
    fake_engine.faults = in_turn(error(500))

    use((fake_engine.url,), lambda engine: ask(engine, 30), concurrency=1)

    assert "number 0" in [seen.asked for seen in fake_engine.seen[1:10]]


def test_engine_turned_away_requests_make_the_window_smaller_once(fake_engine: FakeEngine) -> None:
    """The eight that were sent at once say it together; what is sent afterwards keeps to fewer places."""
    later: list[int] = []

    def script(seen: Seen) -> Fault | None:
        if len(fake_engine.seen) <= 8:
            return busy()
        later.append(fake_engine.in_flight)
        return slowly(0.1)

    fake_engine.faults = script

    use((fake_engine.url,), lambda engine: ask(engine, 20), concurrency=8)

    assert max(later) == 5


def test_engine_window_follows_what_the_server_says(fake_engine: FakeEngine) -> None:
    fake_engine.seats = 4
    fake_engine.faults = whenever(lambda seen: seen.is_question, slowly(0.05))
    at_once: list[int] = []

    async def look(_: float) -> None:
        at_once.append(fake_engine.in_flight)
        await asyncio.sleep(0.02)

    use((fake_engine.url,), lambda engine: ask(engine, 300), concurrency=64, look=look)

    assert fake_engine.most_in_flight == 64
    assert 4 <= sorted(at_once)[len(at_once) // 2] <= 10


def test_engine_server_that_says_nothing_is_felt_out(fake_engine: FakeEngine) -> None:
    fake_engine.faults = always(slowly(0.02))
    at_first: list[int] = []

    async def asked(engine: Engine) -> None:
        rest = asyncio.ensure_future(ask(engine, 300))
        while len(fake_engine.seen) < 9:
            await asyncio.sleep(0.001)
        at_first.append(fake_engine.most_in_flight)
        await rest

    use((fake_engine.url,), asked, concurrency=64, wire=QUIET)

    assert at_first == [8]
    assert fake_engine.most_in_flight > 8


def test_engine_cancelled_requests_give_their_places_back(fake_engine: FakeEngine) -> None:
    fake_engine.faults = in_turn(hang, hang)

    async def asked(engine: Engine) -> Completion:
        stuck = [asyncio.ensure_future(engine.complete(a_request(f"number {number}"))) for number in range(6)]
        while len(fake_engine.seen) < 2:
            await asyncio.sleep(0.01)
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
        return await engine.complete(a_request())

    assert use((fake_engine.url,), asked, concurrency=2).text


def test_engine_answers_in_full_leave_nothing_running(fake_engine: FakeEngine) -> None:
    async def asked(engine: Engine) -> int:
        await ask(engine, 10)
        await asyncio.sleep(0)
        return len(asyncio.all_tasks())

    assert use((fake_engine.url,), asked) == 1


def test_engine_request_cancelled_as_it_is_told_that_nobody_is_left_leaves_nothing_running(
    fake_engine: FakeEngine,
) -> None:
    """Both come in one step of the event loop."""
    cancelling: list[Callable[[], bool]] = []

    async def canary(_: str) -> None:
        if len(cancelling) == 1 and replica.missed == CANARIES - 1:
            asyncio.get_running_loop().call_soon(cancelling.pop())
        raise Unreached("nobody")

    async def load(_: str) -> None:
        return None

    replica = Replica("http://host/v1", ToldWindow(1))

    async def main() -> int:
        pool = Pool([replica], Care(canary, load, nap))
        held = await pool.place(0)
        waits = asyncio.ensure_future(pool.place(1))
        await asyncio.sleep(0)
        cancelling.append(waits.cancel)
        pool.failed(held, Unreached("gone"), 0)
        with pytest.raises(asyncio.CancelledError):
            await waits
        pool.release(held)
        await nap(0)
        return len(asyncio.all_tasks())

    assert asyncio.run(main()) == 1


# Several servers


def test_engine_replicas_have_a_window_each(fake_engine: FakeEngine) -> None:
    fake_engine.faults = always(slowly(0.02))
    with FakeEngine(faults=always(slowly(0.02))) as other:
        use((fake_engine.url, other.url), lambda engine: ask(engine, 20), concurrency=2)

        assert (fake_engine.most_in_flight, other.most_in_flight) == (2, 2)
        assert min(len(fake_engine.seen), len(other.seen)) >= 8


def test_engine_slow_replica_gets_less(fake_engine: FakeEngine) -> None:
    fake_engine.faults = always(slowly(0.2))
    with FakeEngine(faults=always(slowly(0.01))) as other:
        use((fake_engine.url, other.url), lambda engine: ask(engine, 60), concurrency=2)

        assert len(other.seen) > 3 * len(fake_engine.seen)


def test_engine_server_that_asks_to_be_left_alone_is(fake_engine: FakeEngine) -> None:
    """By all requests, not only by the one that was told; and the other server goes on."""
    fake_engine.faults = in_turn(busy("30"))
    with FakeEngine() as other:
        meanwhile: list[int] = []

        async def sleep(seconds: float) -> None:
            if seconds == 30:
                while len(other.seen) < 19:
                    await asyncio.sleep(0.001)
                meanwhile.append(len(fake_engine.seen))

        use((fake_engine.url, other.url), lambda engine: ask(engine, 20), concurrency=1, sleep=sleep)

        assert meanwhile == [1]


def test_engine_replica_that_is_gone_leaves_its_requests_to_the_others(fake_engine: FakeEngine) -> None:
    with FakeEngine(faults=dies_after(-1)) as dead:
        assert len(use((dead.url, fake_engine.url), lambda engine: ask(engine, 8))) == 8


def test_engine_replica_that_dies_in_the_middle_costs_no_request(fake_engine: FakeEngine) -> None:
    with FakeEngine(faults=dies_after(30)) as dying:
        answers = use((dying.url, fake_engine.url), lambda engine: ask(engine, 200), concurrency=8)

    assert len({answer.text for answer in answers}) > 150
    assert all(len(answer.faults) < TRIES for answer in answers)


def test_engine_replica_that_breaks_on_everything_leaves_and_comes_back_after_a_canary(
    fake_engine: FakeEngine,
) -> None:
    back: list[int] = []

    def script(seen: Seen) -> Fault | None:
        if seen.is_canary:
            back.append(len(fake_engine.questions))
            return None
        return slowly(0.01) if back else error(500)

    fake_engine.faults = script
    said: list[str] = []
    with FakeEngine(faults=always(slowly(0.01))) as other:
        use((fake_engine.url, other.url), lambda engine: ask(engine, 200), concurrency=8, said=said)

    assert STRIKES <= back[0] < 3 * STRIKES
    assert len(fake_engine.questions) > back[0] + STRIKES
    assert "out of the pool, 1 of 2 servers left" in said[0]
    assert "is in the pool" in said[1]


def test_engine_all_gone_everybody_is_told_after_a_few_canaries(fake_engine: FakeEngine) -> None:
    fake_engine.faults = dies_after(3)

    came = use((fake_engine.url,), lambda engine: ends(engine, [f"number {each}" for each in range(40)]), concurrency=8)

    assert sum(isinstance(end, Completion) for end in came) == 3
    assert sum(isinstance(end, EngineGone) for end in came) == 37
    assert len([seen for seen in fake_engine.seen if seen.is_canary]) >= CANARIES


def test_engine_that_was_gone_is_asked_again_when_somebody_asks(fake_engine: FakeEngine) -> None:
    fake_engine.faults = dies_after(-1)

    async def asked(engine: Engine) -> Completion:
        with pytest.raises(EngineGone):
            await engine.complete(a_request())
        fake_engine.faults = no_faults
        return await engine.complete(a_request())

    assert use((fake_engine.url,), asked).text


def test_engine_poison_requests_fail_alone_also_where_they_are_all_that_is_left(fake_engine: FakeEngine) -> None:
    fake_engine.faults = whenever(lambda seen: "poison" in seen.asked, reset)
    texts = [*(f"poison {number}" for number in range(12)), "a remedy"]

    *poisoned, well = use((fake_engine.url,), lambda engine: ends(engine, texts), concurrency=3)

    assert isinstance(well, Completion)
    assert all(isinstance(end, RequestFailed) and len(end.faults) == TRIES for end in poisoned)


def test_engine_request_that_one_replica_cannot_take_is_tried_at_another(fake_engine: FakeEngine) -> None:
    with FakeEngine(faults=whenever(lambda seen: seen.is_question, error(500))) as broken:
        (answer,) = use((broken.url, fake_engine.url), lambda engine: ask(engine, 1))

    assert answer.faults == ("server",)
