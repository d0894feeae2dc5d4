"""How widely each judge scores."""

import math
import random
import statistics
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.judging.spreads import PooledSpread
from tests.verdicts import JUDGES, JURY, Grid, answered, grids, heard, looped, slots


def test_spread_two_prompts_pool_squares_over_degrees_of_freedom() -> None:
    spread = PooledSpread()
    for scores in ([1.0, 3.0], [4.0, 6.0, 8.0]):
        rollouts = slots(len(scores))
        spread.add(rollouts, heard(rollouts, {"clarity": scores}), JURY)
    assert spread.degrees == {"clarity": 3}
    assert spread.sigmas() == {"clarity": pytest.approx(math.sqrt((2 + 8) / 3))}


@given(st.lists(grids, min_size=1, max_size=6), st.randoms())
def test_spread_any_order_and_any_split_into_shards_is_the_same_to_the_last_bit(
    prompts: list[Grid], shuffler: random.Random
) -> None:
    def pooled(some: Sequence[Grid]) -> PooledSpread:
        spread = PooledSpread()
        for grid in some:
            rollouts = slots(len(grid["clarity"]))
            spread.add(rollouts, heard(rollouts, grid), JURY)
        return spread

    whole = pooled(prompts).sigmas()
    for judge in JUDGES:
        blocks_of_judge = [[score or 0.0 for score in grid[judge]] for grid in prompts]
        squares = sum(statistics.pvariance(block) * len(block) for block in blocks_of_judge)
        degrees = sum(len(block) - 1 for block in blocks_of_judge)
        assert whole.get(judge, 0.0) == pytest.approx(math.sqrt(squares / degrees), abs=1e-5)
    shuffled = list(prompts)
    shuffler.shuffle(shuffled)
    cut = len(prompts) // 2
    first, second = pooled(shuffled[:cut]), pooled(shuffled[cut:])
    first.merge(second)
    assert first.sigmas() == whole


def test_spread_loops_duplicates_and_incomplete_judges_are_not_in_it() -> None:
    rollouts = [answered("t0"), answered("t1"), looped("t2"), answered("t3", "answer t0")]
    verdicts = heard(rollouts, {"clarity": [4, 6, 1, 1], "helpfulness": [4, None, 9, 9]})
    spread = PooledSpread()
    spread.add(rollouts, verdicts, JURY)
    assert spread.degrees == {"clarity": 1}
    assert spread.sigmas() == {"clarity": pytest.approx(math.sqrt(2))}


def test_spread_judge_that_tells_nothing_apart_has_no_sigma() -> None:
    spread = PooledSpread()
    spread.add(slots(3), heard(slots(3), {"clarity": [5, 5 + 1e-7, 5], "helpfulness": [1, 2, 3]}), JURY)
    spread.add(slots(1), heard(slots(1), {"correctness": [9]}), JURY)
    assert spread.sigmas().keys() == {"helpfulness"}
