"""Two runs side by side: the difference of their rates, with an interval.

Difference("pairs", Rate("a", 56, 70), Rate("b", 48, 80)).interval
"""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.looking.differences import Difference, differences
from factory.looking.report_figures import Rate, run_report
from tests.reports import a_run

RATE = st.integers(1, 60).flatmap(lambda n: st.builds(Rate, st.just("x"), st.integers(0, n), st.just(n)))


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [  # Newcombe 1998, table II, method 10; his difference is the first's less the second's
        (Rate("a", 48, 80), Rate("b", 56, 70), 0.0524, 0.3339),
        (Rate("a", 3, 10), Rate("b", 9, 10), 0.1705, 0.8090),
        (Rate("a", 0, 10), Rate("b", 10, 10), 0.6075, 1.0000),
    ],
)
def test_interval_is_the_published_one(first: Rate, second: Rate, low: float, high: float) -> None:
    found = Difference("x", first, second)

    assert found.interval == pytest.approx((low, high), abs=1e-4)
    assert found.clear


@given(RATE, RATE)
def test_interval_of_the_swapped_runs_is_the_mirrored_one(first: Rate, second: Rate) -> None:
    low, high = Difference("x", first, second).interval
    mirrored = Difference("x", second, first).interval

    assert mirrored == pytest.approx((-high, -low))
    assert low <= Difference("x", first, second).value <= high


def test_differences_are_of_what_both_runs_have(tmp_path: Path) -> None:
    run = run_report(a_run(tmp_path))
    unanswered = replace(run, figures=replace(run.figures, slots=()))

    assert [one.what for one in differences(run, unanswered)] == [
        "prompts that made a pair",
        "pairs by loop",
        "pairs by verifier",
        "pairs by jury",
    ]
    assert not any(one.clear for one in differences(run, run))
    marked = replace(run, figures=replace(run.figures, causes={"jury": 1, "human": 1}))
    assert "pairs by human" in [one.what for one in differences(run, marked)]
