"""A looped text in pieces: each copy where the detector saw it, and never a letter more or less than the text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.browsing.loop_spans import MOST, Piece, Span, shortened, spans
from factory.loops import detect
from schemas.rows import Loop, LoopEvidence, LoopRule

UNIT = "The old yeast, dry, was the sölution 🏔️; "


def pieces(text: str) -> tuple[Span, ...]:
    return spans(text, detect(text, "length"))


def test_spans_of_an_exact_loop_are_its_copies() -> None:
    text = "Let us see: " + UNIT * 12

    found = pieces(text)

    assert [span.piece for span in found[1:-1]] == [Piece.FIRST] + [Piece.COPY] * (len(found) - 3)
    assert len({span.text for span in found[1:-1]}) == 1
    assert sorted(found[1].text) == sorted(UNIT)
    assert [span.number for span in found[1:]] == list(range(1, len(found)))
    assert "".join(span.text for span in found) == text


def test_spans_of_a_template_begin_each_copy_at_its_own_length() -> None:
    text = "Facts.\n" + "".join(f"{number}. Fact {number} is that a bridge stands.\n" for number in range(1, 60))

    evidence = detect(text, "length")
    found = spans(text, evidence)

    assert evidence.rule is LoopRule.TEMPLATE
    copies = [span.text for span in found if span.piece is Piece.COPY]
    assert {len(copy) for copy in copies} == {len(copies[0]), len(copies[0]) + 2} or len(
        {len(one) for one in copies}
    ) <= 3
    assert all(copy.count("Fact ") == 1 for copy in copies[:-1])
    assert "".join(span.text for span in found) == text


def test_spans_of_many_copies_mark_a_few_and_then_the_rest() -> None:
    found = pieces("Well: " + "ha, " * 3000)

    assert sum(span.piece in (Piece.FIRST, Piece.COPY) for span in found) == MOST
    assert found[-1].piece is Piece.REST


def test_spans_of_a_near_duplicate_end_mark_it_whole() -> None:
    found = LoopEvidence(Loop.HARD, LoopRule.NEAR_DUPLICATE, onset=5, period=3, repeats=4.0)

    assert spans("first then again", found) == (Span(Piece.PLAIN, "first"), Span(Piece.END, " then again"))


@pytest.mark.parametrize("text", ["", "plain", "<b>"])
def test_spans_of_a_clean_text_are_the_text(text: str) -> None:
    assert "".join(span.text for span in spans(text, LoopEvidence())) == text
    assert all(span.piece is Piece.PLAIN for span in spans(text, LoopEvidence()))


@given(
    st.text(max_size=200),
    st.sampled_from(LoopRule),
    st.integers(-5, 300),
    st.integers(-2, 100),
    st.floats(0, 500),
)
def test_spans_together_are_the_text_whatever_the_finding_says(
    text: str, rule: LoopRule, onset: int, period: int, repeats: float
) -> None:
    found = spans(text, LoopEvidence(Loop.HARD, rule, onset, None, period, repeats))

    assert "".join(span.text for span in found) == text


@given(st.lists(st.text(min_size=1, max_size=9), max_size=9), st.integers(0, 60))
def test_shortened_keeps_the_beginning_and_counts_the_rest(texts: list[str], most: int) -> None:
    whole = "".join(texts)

    found = shortened(tuple(Span(Piece.COPY, text) for text in texts), most)

    kept = "".join(span.text for span in found)
    assert kept == whole if len(whole) <= most else kept.startswith(whole[:most] + " … and ")
