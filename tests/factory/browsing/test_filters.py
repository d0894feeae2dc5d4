"""An address says what is shown, and says it again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from factory.browsing.filters import Filters, Order, read_filters, where
from schemas.errors import Fixable
from schemas.marks import Mark
from schemas.rows import Cause, LoopRule

some = st.builds(
    Filters,
    round=st.none() | st.integers(0, 9),
    cause=st.none() | st.sampled_from(Cause),
    rule=st.none() | st.sampled_from([*LoopRule, "none"]),
    source=st.none() | st.text(min_size=1, max_size=9).map(str.strip).filter(bool),
    least=st.none() | st.floats(-9, 9),
    most=st.none() | st.floats(-9, 9),
    disagreement=st.none() | st.floats(0, 1),
    mark=st.none() | st.sampled_from(["unmarked", Mark.RIGHT, Mark.FLIPPED, Mark.BOTH_BAD]),
    order=st.sampled_from(Order),
    seed=st.integers(0, 99),
    sample=st.none() | st.integers(1, 99),
)


@given(some)
def test_filters_are_read_from_an_address_as_they_were_written(filters: Filters) -> None:
    assert read_filters(QueryParams(filters.query())) == filters


def test_filters_fields_of_a_form_that_were_left_empty_ask_for_nothing() -> None:
    assert read_filters({"cause": "", "text": "  ", "sample": ""}) == Filters()


@pytest.mark.parametrize(
    "asked",
    [
        {"cause": "x"}, {"round": "-1"}, {"least": "nan"}, {"most": "inf"}, {"sample": "0"}, {"sample": "9999999"},
        {"mark": "withdrawn"}, {"rule": "'; DROP"}, {"order": "sideways"}, {"text": "a\x00b"}, {"unknown": "1"},
    ],
)  # fmt: skip
def test_filters_what_is_none_is_refused_in_one_line_that_names_it(asked: dict[str, str]) -> None:
    with pytest.raises(Fixable, match=next(iter(asked))) as refused:
        read_filters(asked)

    assert "\n" not in str(refused.value)


def test_where_leaves_words_to_parameters() -> None:
    hostile = "'; DROP TABLE pairs --"

    sql, parameters = where(Filters(chosen=hostile, source=hostile), {hostile: ("a", "b")})

    assert hostile not in sql
    assert parameters == [["a", "b"], hostile]


def test_where_of_no_filter_holds_for_all() -> None:
    assert where(Filters(order=Order.RANDOM, sample=5), {}) == ("true", [])


def test_filters_random_order_hangs_on_the_seed() -> None:
    assert Filters(order=Order.RANDOM, seed=1).keys != Filters(order=Order.RANDOM, seed=2).keys
