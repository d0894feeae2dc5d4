"""Many at once, and what an error of one means for the others."""

import asyncio
import gc

import pytest

from factory.client.asking import together


def test_together_runs_all_to_the_end() -> None:
    done: list[int] = []

    async def one(number: int) -> None:
        await asyncio.sleep(0)
        done.append(number)

    asyncio.run(together([one(number) for number in range(5)]))
    assert sorted(done) == list(range(5))


def test_together_first_error_is_raised_as_itself_and_starts_nothing_more() -> None:
    """Whoever waits for a place that the failing one frees must not get it."""
    window, started = asyncio.Semaphore(1), list[int]()

    async def one(number: int) -> None:
        async with window:
            started.append(number)
            await asyncio.sleep(0)
            if number == 1:
                raise LookupError("no room")

    with pytest.raises(LookupError, match="no room"):
        asyncio.run(together([one(number) for number in range(9)]))
    assert started == [0, 1]


def test_together_error_before_the_others_began_leaves_none_of_them_unawaited() -> None:
    """Warnings are errors here: a coroutine that is never awaited would be one."""

    async def fails() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        asyncio.run(together([fails(), fails(), fails()]))
    gc.collect()


def test_together_cancelled_from_outside_cancels_all() -> None:
    ended: list[str] = []

    async def one() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def main() -> None:
        running = asyncio.ensure_future(together([one(), one()]))
        await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert ended == ["cancelled", "cancelled"]
