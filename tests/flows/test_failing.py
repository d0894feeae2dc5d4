"""How many shards may fail before the run does, and that what failed is left for the next run."""

import asyncio

import pytest

from factory.shards import Free
from flows.failing import Failures, Left
from flows.plain import PlainRunner, Step
from schemas.errors import EngineRefused, EngineUnavailable, FactoryError, ShardsLeft

SHARDS = range(6)


def go(failures: Failures, broken: set[int], error: FactoryError) -> list[str]:
    """What was done of two steps, where the first fails for some shards."""
    done: list[str] = []

    async def first(shard: int, _: Free) -> None:
        await asyncio.sleep(0)
        if shard in broken:
            raise error
        done.append(f"first {shard}")

    async def second(shard: int, _: Free) -> None:
        done.append(f"second {shard}")

    steps = [failures.counted(step) for step in (Step("first", first), Step("second", second))]
    try:
        asyncio.run(PlainRunner(2).each(steps, SHARDS))
    except Left:
        raise failures.left(SHARDS) from None
    finally:
        failures.reasons = dict(sorted(failures.reasons.items()))
    return done


def test_failing_shards_within_what_is_allowed_leave_the_others_to_be_done() -> None:
    failures = Failures(2)

    with pytest.raises(ShardsLeft, match=r"2 of 6 shards are left .* first of shard 1: gone; and 1 more"):
        go(failures, {1, 4}, EngineUnavailable("gone"))
    assert failures.reasons == {1: ("first", "gone"), 4: ("first", "gone")}


def test_failing_one_shard_more_than_allowed_fails_as_it_came() -> None:
    with pytest.raises(EngineUnavailable, match="gone"):
        go(Failures(1), {1, 4}, EngineUnavailable("gone"))


def test_failing_shard_that_no_retry_can_cure_is_never_spared() -> None:
    with pytest.raises(EngineRefused):
        go(Failures(5), {1}, EngineRefused("wrong key"))


def test_failing_none_is_as_if_nobody_counted() -> None:
    assert len(go(Failures(), set(), EngineUnavailable("gone"))) == 12
