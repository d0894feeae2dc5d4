import pytest

from benchmarks.orchestration import Cost, Load, figures, over, share

PLAIN = Cost("plain", (1.0, 3.0, 2.0), 0.0)


def test_cost_is_the_median_pass_over_that_of_the_plain_runner() -> None:
    ray = Cost("Ray", (20.0, 22.0, 500.0), 4.0)
    assert over(ray, PLAIN) == 20.0
    assert share(ray, PLAIN) == pytest.approx(20 / 60_000)


def test_goal_is_missed_where_one_runner_takes_more_than_its_share_of_a_minute() -> None:
    dear = Cost("Prefect", (1203.0,), 10.0)
    told = figures([PLAIN, Cost("Ray", (20.0,), 1.0), dear], Load(3, 3))
    assert told["over_plain_ms"] == {"Ray": 18.0, "Prefect": 1201.0}
    assert told["reached"] is False
