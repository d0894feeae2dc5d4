"""Agreement figures against what others compute, and against hand counts."""

import itertools
import random

import pytest
from scipy.stats import kendalltau

from factory.judging.agreement import Alpha, effective_judges, tau_b


def alpha_by_pairs(units: list[list[float]]) -> float:
    """The definition, over every ordered pair of values."""
    rated = [unit for unit in units if len(unit) > 1]
    values = [value for unit in rated for value in unit]
    observed = sum(sum((a - b) ** 2 for a, b in itertools.permutations(unit, 2)) / (len(unit) - 1) for unit in rated)
    expected = sum((a - b) ** 2 for a, b in itertools.permutations(values, 2)) / (len(values) - 1)
    return 1 - observed / expected


@pytest.mark.parametrize("seed", range(5))
def test_alpha_in_closed_form_is_the_definition(seed: int) -> None:
    rng = random.Random(seed)
    units = [[rng.uniform(1, 9) for _ in range(rng.randint(1, 4))] for _ in range(12)]
    alpha = Alpha()
    for unit in units:
        alpha.add(unit)
    assert alpha.value() == pytest.approx(alpha_by_pairs(units), abs=1e-5)


def test_alpha_of_judges_that_agree_is_one_and_of_nothing_unknown() -> None:
    alpha = Alpha()
    assert alpha.value() is None
    for rating in (1.0, 5.0, 9.0):
        alpha.add([rating, rating])
    assert alpha.value() == 1.0


@pytest.mark.parametrize("seed", range(8))
def test_tau_b_is_scipys(seed: int) -> None:
    rng = random.Random(seed)
    x, y = ([float(rng.randint(1, 4)) for _ in range(6)] for _ in range(2))
    assert tau_b(x, y) == pytest.approx(float(kendalltau(x, y).statistic))


def test_tau_b_of_a_judge_that_tells_nothing_apart_is_unknown() -> None:
    assert tau_b([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None


def test_effective_judges() -> None:
    assert effective_judges(3, 1.0) == pytest.approx(1.0)
    assert effective_judges(3, 0.0) == pytest.approx(3.0)
    assert effective_judges(6, 0.418) == pytest.approx(1.94, abs=0.01)
