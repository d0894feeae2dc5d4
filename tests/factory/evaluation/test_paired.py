"""Shares and their differences: laws that hold for all counts, and values worked out elsewhere."""

from itertools import product
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from factory.evaluation.paired import Paired, Rate
from factory.wilson import wilson

counts = st.integers(0, 200)
tables = st.builds(Paired, counts, counts, counts, counts)


@given(st.integers(0, 500), st.integers(1, 500))
def test_rate_interval_of_whole_hits_is_wilsons(hits: int, more: int) -> None:
    theirs = binomtest(hits, hits + more).proportion_ci(method="wilson")
    assert Rate(hits, hits + more).interval == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_rate_of_nothing_is_unknown() -> None:
    assert Rate(0, 0).value is None
    assert Rate(0, 0).interval == (0.0, 1.0)


@given(st.integers(0, 100), st.integers(1, 100))
def test_rate_interval_of_misses_is_that_of_hits_turned_round(hits: int, more: int) -> None:
    low, high = Rate(hits / 2, hits + more).interval
    other = Rate(hits + more - hits / 2, hits + more).interval
    assert (1 - high, 1 - low) == pytest.approx(other, abs=1e-9)


@given(tables)
def test_paired_interval_holds_the_difference_and_stays_in_bounds(table: Paired) -> None:
    low, high = table.interval
    assert -1 <= low <= high <= 1
    if table.difference is not None:
        assert low <= table.difference <= high


@given(tables)
def test_paired_swapped_checkpoints_turn_everything_round(table: Paired) -> None:
    other = Paired(table.both, table.after, table.before, table.neither)
    low, high = table.interval
    assert other.interval == pytest.approx((-high, -low), abs=1e-9)
    assert other.p_value == table.p_value


def test_paired_test_of_thousands_of_changes_is_a_number() -> None:
    assert Paired(0, 600, 600, 0).p_value == 1.0
    assert 0 <= Paired(0, 900, 2100, 0).p_value < 1e-9


def test_paired_interval_is_newcombes_method_10() -> None:
    """By the formula, step by step, for 40 hits with both, 8 and 2 with one, 10 with neither."""
    table = Paired(40, 2, 8, 10)
    (p1, (l1, u1)), (p2, (l2, u2)) = ((one.hits / one.of, wilson(round(one.hits), one.of)) for one in table.rates)
    phi = (40 * 10 - 2 * 8 - 60 / 2) / (42 * 18 * 48 * 12) ** 0.5
    down = ((p2 - l2) ** 2 - 2 * phi * (p2 - l2) * (u1 - p1) + (u1 - p1) ** 2) ** 0.5
    up = ((u2 - p2) ** 2 - 2 * phi * (u2 - p2) * (p1 - l1) + (p1 - l1) ** 2) ** 0.5
    assert table.interval == pytest.approx((p2 - p1 - down, p2 - p1 + up), abs=1e-9)


def test_paired_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Over every table of 20 questions, weighted by how likely it is where 30% change for the worse and 20% for the better."""
    n, chances, truth = 20, (0.3, 0.3, 0.2, 0.2), -0.1
    covered = 0.0
    for both, before, after in product(range(n + 1), repeat=3):
        neither = n - both - before - after
        if neither < 0:
            continue
        ways = comb(n, both) * comb(n - both, before) * comb(n - both - before, after)
        likely = ways * chances[0] ** both * chances[1] ** before * chances[2] ** after * chances[3] ** neither
        low, high = Paired(both, before, after, neither).interval
        covered += likely * (low <= truth <= high)
    assert 0.93 <= covered <= 0.99


def test_paired_p_value_is_the_exact_sign_test() -> None:
    assert Paired(5, 0, 6, 5).p_value == pytest.approx(2 / 2**6)
    assert Paired(5, 3, 3, 5).p_value == 1.0
    assert Paired(9, 0, 0, 1).p_value == 1.0


def test_paired_where_nothing_changed_is_not_certain() -> None:
    low, high = Paired(0, 0, 0, 12).interval
    assert low < 0 < high


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60))
def test_paired_of_outcomes_counts_each_once(outcomes: list[tuple[bool, bool]]) -> None:
    table = Paired.of(outcomes)
    assert table.n == len(outcomes)
    assert table.rates[0].hits == sum(first for first, _ in outcomes)
    assert table.rates[1].hits == sum(second for _, second in outcomes)
