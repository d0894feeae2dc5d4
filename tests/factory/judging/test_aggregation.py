"""Every way to make one score of several judges', over one prompt."""

import random
from typing import get_args

import pytest

from factory.judging.aggregation import aggregate
from schemas.recipe import Aggregation

WAYS = get_args(Aggregation)
BLOCKS = {"a": {"x": 9.0, "y": 5.0, "z": 1.0}, "b": {"x": 8.0, "y": 5.0, "z": 2.0}, "c": {"x": 6.0, "y": 7.0, "z": 5.0}}
SIGMAS = {"a": 4.0, "b": 3.0, "c": 1.0}


@pytest.mark.parametrize("way", WAYS)
def test_aggregate_orders_what_the_judges_agree_on_and_knows_no_order_of_rows(way: Aggregation) -> None:
    found = aggregate(way, BLOCKS, SIGMAS, {})
    shuffled = {judge: dict(random.Random(3).sample(list(block.items()), 3)) for judge, block in BLOCKS.items()}
    assert found["x"] > found["z"]
    assert found["y"] > found["z"]
    assert aggregate(way, dict(reversed(shuffled.items())), SIGMAS, {}) == pytest.approx(found)
    assert sum(found.values()) == pytest.approx(0.0, abs=1.0)


@pytest.mark.parametrize("way", WAYS)
def test_aggregate_weight_lets_one_judge_decide(way: Aggregation) -> None:
    heavy = aggregate(way, BLOCKS, SIGMAS, {"a": 0.1, "b": 0.1, "c": 3.0})
    assert heavy["y"] > heavy["x"]


def test_aggregate_figures() -> None:
    assert aggregate("mean", BLOCKS, SIGMAS, {}) == pytest.approx({"x": 7 / 3, "y": 1 / 3, "z": -8 / 3})
    assert aggregate("median", BLOCKS, SIGMAS, {})["x"] == 3.0
    assert aggregate("borda", BLOCKS, SIGMAS, {}) == pytest.approx({"x": 1 / 3, "y": 1 / 6, "z": -1 / 2})
    assert aggregate("copeland", BLOCKS, SIGMAS, {}) == pytest.approx({"x": 1.0, "y": 0.0, "z": -1.0})
    assert aggregate("gold_log_odds", BLOCKS, SIGMAS, {"a": 1.0, "b": 1.0, "c": 2.0})["x"] == pytest.approx(2.0)
