"""What a judge weighs by what it got right."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.judging.gold import MOST, Accuracy, counted, read_weights, weights_document
from schemas.errors import RecipeError


def test_counted_an_open_pair_is_half_right() -> None:
    found = counted([2.0, -1.0, 0.0, 1e-9, 0.5])
    assert (found.right, found.pairs) == (3.0, 5)
    assert counted([]).weight == 0.0


@pytest.mark.parametrize(
    ("right", "pairs", "weight"),
    [
        (42, 50, math.log(45 / 9)),
        (42.5, 50, math.log(45.5 / 8.5)),
        (31, 50, 0.0),  # from 0.48 to 0.74: maybe a coin
        (32, 50, math.log(35 / 19)),
        (50, 50, MOST),  # log(53) is more
        (10, 50, 0.0),  # wrong on purpose is not right
        (0, 0, 0.0),
    ],
)
def test_weight_is_the_log_odds_or_nothing(right: float, pairs: int, weight: float) -> None:
    assert Accuracy(right, pairs).weight == pytest.approx(weight)


@given(st.integers(1, 400), st.data())
def test_weight_grows_with_what_is_right_and_never_speaks_for_a_coin(pairs: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, pairs))
    one = Accuracy(right, pairs)
    assert 0.0 <= one.weight <= MOST
    assert (one.weight > 0) == (one.interval[0] > 0.5)
    if right < pairs:
        assert Accuracy(right + 1, pairs).weight >= one.weight


def test_read_weights_jury_of_coins_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    path.write_text(weights_document({"clarity": Accuracy(25, 50), "helpfulness": Accuracy(27, 50)}))
    with pytest.raises(RecipeError, match="none was better than a coin"):
        read_weights(path, ("clarity", "helpfulness"))
