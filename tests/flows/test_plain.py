"""How shards go through their steps: how many at once, when the next one begins, what an error or a halt means."""

import asyncio

import pytest

from factory.client.gate import Gate
from factory.shards import Free
from flows.plain import PlainRunner, Step
from schemas.errors import EngineUnavailable, Stopped


def run(runner: PlainRunner, steps: list[Step], shards: range) -> None:
    asyncio.run(runner.each(steps, shards))


def test_each_no_more_shards_at_once_than_places() -> None:
    now = most = 0

    async def do(_: int, __: Free) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1

    run(PlainRunner(3), [Step("s", do)], range(10))
    assert most == 3


def test_each_shard_that_gave_its_place_on_does_not_hold_up_the_next() -> None:
    """One place; every shard waits for its last answer until all have begun."""
    begun = list[int]()
    all_begun = asyncio.Event()

    async def do(shard: int, free: Free) -> None:
        begun.append(shard)
        free()
        free()  # more than once is once
        if len(begun) == 10:
            all_begun.set()
        await all_begun.wait()

    run(PlainRunner(1), [Step("s", do)], range(10))
    assert begun == list(range(10))


def test_each_shard_goes_on_to_its_next_step_while_others_are_in_the_first() -> None:
    went = list[str]()
    second_began = asyncio.Event()

    async def first(shard: int, _: Free) -> None:
        if shard == 1:
            await second_began.wait()
        went.append(f"first {shard}")

    async def second(shard: int, _: Free) -> None:
        second_began.set()
        went.append(f"second {shard}")

    run(PlainRunner(2), [Step("first", first), Step("second", second)], range(2))
    assert went == ["first 0", "second 0", "first 1", "second 1"]


def test_each_error_cancels_the_others_and_is_raised() -> None:
    ended = list[int]()

    async def do(shard: int, _: Free) -> None:
        if shard == 1:
            raise EngineUnavailable("gone")
        await asyncio.sleep(0.01)
        ended.append(shard)

    with pytest.raises(EngineUnavailable):
        run(PlainRunner(2), [Step("s", do)], range(5))
    assert ended == []


def test_each_halt_lets_the_others_end_and_begins_no_more() -> None:
    gate, ended = Gate(), list[str]()

    async def first(shard: int, _: Free) -> None:
        if shard == 1:
            gate.close(Stopped("stopped", 2))
            gate.check()
        await asyncio.sleep(0.01)
        ended.append(f"first {shard}")

    async def second(shard: int, _: Free) -> None:
        ended.append(f"second {shard}")

    with pytest.raises(Stopped):
        run(PlainRunner(2, gate), [Step("first", first), Step("second", second)], range(5))
    assert ended == ["first 0"]
