import pytest

from benchmarks.cluster import Arm, figures, pace


def test_pace_is_that_of_the_fastest_quarter_of_the_requests() -> None:
    slow_start = [(0.0, 10), (10.0, 20), (20.0, 30), (22.0, 40), (24.0, 50), (26.0, 60), (40.0, 70), (60.0, 90)]
    assert pace(slow_start) == pytest.approx(5.0)
    assert pace([(0.0, 0), (10.0, 80)]) == pytest.approx(8.0)


def test_figures_say_how_many_answers_a_lost_node_cost() -> None:
    arms = [Arm("plain", 10.0, 50.0, 400), Arm("three", 28.0, 30.0, 400), Arm("lossy", 20.0, 40.0, 407)]
    told = figures(arms, [True, True])
    assert told["speedup"] == pytest.approx(2.8)
    assert told["reached"] is True
    assert told["asked_twice_for_the_loss"] == 7
    assert figures(arms, [True, False])["rows_equal"] is False
