"""What the benchmark of ways to sample makes of its passes."""

from benchmarks.engine_cpu import Burst
from benchmarks.sampling import PLAIN, costs


def test_costs_are_ratios_to_temperature_alone() -> None:
    found = costs(
        {PLAIN: Burst(rate=200.0, cpu_s=0.01, others=0.0), "top_p": Burst(rate=100.0, cpu_s=0.02, others=0.5)}
    )

    assert [(one.way, one.ratio, one.tokens_per_cpu_s, one.others) for one in found] == [
        (PLAIN, 1.0, 100.0, 0.0),
        ("top_p", 0.5, 50.0, 0.5),
    ]
