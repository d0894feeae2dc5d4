"""Who comes first at an engine, and how many at once."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.client.line import Line


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(1, 4))
def test_line_lowest_rank_first_in_the_order_asked_and_never_more_than_places(ranks: list[int], places: int) -> None:
    line, served = Line(lambda: places), list[tuple[int, int]]()
    most = 0

    async def one(number: int, rank: int) -> None:
        nonlocal most
        async with line.place(rank):
            served.append((rank, number))
            most = max(most, line.taken)
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(one(number, rank) for number, rank in enumerate(ranks)))

    asyncio.run(main())
    first = [(rank, number) for number, rank in enumerate(ranks)][:places]
    assert served == [*first, *sorted((rank, number) for number, rank in enumerate(ranks) if number >= places)]
    assert most == min(places, len(ranks))
    assert line.taken == 0


def test_line_cancelled_in_the_moment_of_its_turn_gives_its_place_on() -> None:
    line, served = Line(lambda: 1), list[str]()

    async def one(name: str) -> None:
        async with line.place(0):
            served.append(name)

    async def main() -> None:
        async with line.place(0):
            second, third = asyncio.create_task(one("second")), asyncio.create_task(one("third"))
            await asyncio.sleep(0)
        second.cancel()  # it has its turn and has not run yet
        await asyncio.gather(second, third, return_exceptions=True)

    asyncio.run(main())
    assert served == ["third"]
    assert line.taken == 0


def test_line_who_is_cancelled_while_it_waits_is_passed_over() -> None:
    line, served = Line(lambda: 1), list[str]()

    async def one(name: str) -> None:
        async with line.place(0):
            served.append(name)

    async def main() -> None:
        async with line.place(0):
            second, third = asyncio.create_task(one("second")), asyncio.create_task(one("third"))
            await asyncio.sleep(0)
            second.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await second
        await third

    asyncio.run(main())
    assert served == ["third"]
    assert line.taken == 0


def test_line_engine_that_takes_more_meanwhile_gets_more() -> None:
    places, most = 1, 0
    line = Line(lambda: places)

    async def one() -> None:
        nonlocal most, places
        async with line.place(0):
            places = 3
            most = max(most, line.taken)
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(one() for _ in range(9)))

    asyncio.run(main())
    assert most == 3


def test_line_engine_without_a_place_just_now_is_asked_one_by_one() -> None:
    """Else nobody would ever find out that it has places again."""
    line = Line(lambda: 0)

    async def main() -> None:
        async with asyncio.timeout(5), line.place(0):
            assert line.taken == 1

    asyncio.run(main())
