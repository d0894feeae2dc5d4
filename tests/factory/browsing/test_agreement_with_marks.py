"""How often the jury and the marks agree, and which marks count."""

from hypothesis import given
from hypothesis import strategies as st

from factory.browsing.marked import Agreement, Marked, agreement, of_sample
from factory.browsing.pages import agreement_words
from factory.wilson import wilson
from schemas.marks import Mark
from schemas.rows import Cause


def marked(said: Mark, cause: Cause = Cause.JURY, *, turned: bool = False, number: int = 0) -> Marked:
    return Marked(number, cause, said, turned, "", "ann", "")


def test_agreement_counts_what_is_right_over_what_names_a_better_answer() -> None:
    marks = [marked(Mark.RIGHT)] * 3 + [marked(Mark.FLIPPED)] + [marked(Mark.BOTH_BAD)] * 2

    assert agreement(marks) == Agreement(agree=3, compared=4, neither=2, other=0)
    assert agreement(marks).interval == wilson(3, 4)


def test_agreement_leaves_out_pairs_that_no_opinion_decided() -> None:
    marks = [marked(Mark.RIGHT, Cause.LOOP), marked(Mark.RIGHT, Cause.VERIFIER), marked(Mark.RIGHT)]

    assert agreement(marks) == Agreement(1, 1, 0, 2)


def test_agreement_a_pair_that_was_turned_as_its_mark_said_is_one_against_the_jury() -> None:
    applied = marked(Mark.FLIPPED, Cause.HUMAN, turned=True)

    assert applied.mark is Mark.RIGHT
    assert applied.agrees is False


def test_agreement_a_person_who_turns_a_turned_pair_back_is_with_the_jury() -> None:
    assert marked(Mark.FLIPPED, Cause.HUMAN).agrees is True


def test_agreement_of_a_sample_counts_its_own_marks_alone() -> None:
    marks = {1: marked(Mark.RIGHT, number=1), 2: marked(Mark.FLIPPED, number=2)}

    assert of_sample(marks, {2, 3}) == Agreement(0, 1, 0, 0)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 5), st.integers(0, 5))
def test_agreement_in_words_names_rate_and_interval_where_there_is_one(
    agree: int, against: int, neither: int, other: int
) -> None:
    words = agreement_words(Agreement(agree, agree + against, neither, other))

    assert ("95%" in words) is (agree + against > 0)
    assert (f"both bad: {neither}" in words) is (neither > 0)
