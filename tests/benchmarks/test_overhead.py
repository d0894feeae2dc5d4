"""The benchmark's own arithmetic, and that both ways send the same."""

import asyncio
import math
from pathlib import Path

import pytest

from benchmarks.arms import Arm, latency_in
from benchmarks.overhead import Load, Pair, a_recipe, bare_arm, bodies, factory_arm, figures
from factory.client.protocol import Wire
from tests.fake_engine import FakeEngine

LOAD = Load(pairs=1, prompts=3, tokens=16)


def a_pair(ratio: float) -> Pair:
    return Pair(8, "bare", Arm(ratio * 2.0, 1.5, 6.0, 15.0, 0.0, 100), Arm(2.0, 0.5, 5.0, 30.0, 0.0, 100))


@pytest.mark.parametrize(("ratios", "median", "met"), [([1.0, 9.0, 1.04], 1.04, True), ([1.2, 1.06, 0.9], 1.06, False)])
def test_overhead_figures_are_the_median_of_the_ratios(ratios: list[float], median: float, met: bool) -> None:
    found = figures([a_pair(ratio) for ratio in ratios], LOAD)

    assert (found["ratio_median"], found["met"]) == (median, met)
    assert (found["cpu_ms_factory"], found["cpu_ms_bare"]) == (1.5, 0.5)
    assert (found["emptier_median"], found["cpu_ratio_median"]) == (2.0, 1.2)


def test_overhead_latency_is_summed_over_the_servers_engines() -> None:
    metrics = """
# TYPE vllm:e2e_request_latency_seconds histogram
vllm:e2e_request_latency_seconds_bucket{engine="0",le="0.3"} 1.0
vllm:e2e_request_latency_seconds_sum{engine="0"} 2.5
vllm:e2e_request_latency_seconds_sum{engine="1"} 1.5
"""
    assert latency_in(metrics) == 4.0
    assert math.isnan(latency_in("{}"))


def test_overhead_both_ways_send_the_same_requests(fake_engine: FakeEngine, tmp_path: Path) -> None:
    fake_engine.model = "SmolLM2-135M-Instruct"
    recipe = a_recipe(fake_engine.url, tmp_path, 0, LOAD, 2)

    factory = asyncio.run(factory_arm(recipe))
    sent = [seen.body for seen in fake_engine.questions]
    bare = asyncio.run(bare_arm(fake_engine.url, bodies(recipe, Wire(fake_engine.model))))

    assert sorted(map(str, sent)) == sorted(str(seen.body) for seen in fake_engine.questions[len(sent) :])
    assert len(sent) == 18
    assert factory.tokens == bare.tokens > 0
    assert factory.seconds > 0
