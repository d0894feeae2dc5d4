"""The published rules, held against the plainest way to say them."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.detector.published_rules import repeats_ngram


def plainly(symbols: list[int], length: int, times: int) -> bool:
    grams = Counter(tuple(symbols[at : at + length]) for at in range(len(symbols) - length + 1))
    return max(grams.values(), default=0) >= times


@st.composite
def repetitive(draw: st.DrawFn) -> list[int]:
    piece = st.lists(st.integers(0, 3), max_size=6)
    return [symbol for part in draw(st.lists(st.tuples(piece, st.integers(0, 8)))) for symbol in part[0] * part[1]]


@given(repetitive(), st.integers(1, 9), st.integers(1, 6))
def test_repeats_ngram_any_symbols_is_what_counting_every_ngram_says(
    symbols: list[int], length: int, times: int
) -> None:
    assert repeats_ngram(symbols, length, times) == plainly(symbols, length, times)


@pytest.mark.parametrize(("copies", "expected"), [(19, False), (20, True)])
def test_repeats_ngram_as_published_asks_for_twenty_copies_of_thirty(copies: int, expected: bool) -> None:
    unit = [f"w{number}" for number in range(30)]

    assert repeats_ngram(["before", *unit * copies, "after"]) is expected


def test_repeats_ngram_one_word_again_and_again_counts_at_every_place() -> None:
    assert not repeats_ngram(["no"] * 48)
    assert repeats_ngram(["no"] * 49)


def test_repeats_ngram_bounds_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="length=0"):
        repeats_ngram("abc", length=0)
