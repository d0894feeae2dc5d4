"""Two checkpoints over the same questions: joins, preferences, loops that lose."""

from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from factory.evaluation.comparing import Compared, Wins, compare, scores
from factory.evaluation.figures import Take
from schemas.rows import Loop, Rollout, Verdict, VerdictStatus
from tests.samples import a_rollout

IDS = [f"p{number}" for number in range(6)]


def graded(rollout_id: str, score: float | None, judge: str = "j") -> Verdict:
    status = VerdictStatus.OK if score is not None else VerdictStatus.UNREADABLE
    return Verdict(rollout_id.partition(":")[0], rollout_id, judge, status, score)


def greedy(prompt_id: str, text: str = "An answer.", *, hard: bool = False) -> Rollout:
    row = a_rollout(prompt_id, "greedy", text)
    return replace(row, loop=Loop.HARD, finish_reason="length") if hard else row


def versus(
    before: list[Rollout],
    after: list[Rollout],
    grades: tuple[list[Verdict], list[Verdict]] = ([], []),
    checks: tuple[list[Verdict], list[Verdict]] = ([], []),
) -> Compared:
    takes = [Take(64, tuple(rows), tuple(told)) for rows, told in zip((before, after), checks, strict=True)]
    judged = scores(before, grades[0]), scores(after, grades[1])
    (found,) = compare(takes[:1], takes[1:], judged, IDS)
    return found


def all_graded(scored: list[float]) -> list[Verdict]:
    return [graded(f"{name}:greedy", score) for name, score in zip(IDS, scored, strict=False)]


def test_compare_higher_grade_wins_and_equal_grades_tie() -> None:
    rows = [greedy(name) for name in IDS[:4]]
    found = versus(rows, rows, (all_graded([5, 5, 5, 5]), all_graded([6, 4, 5, 7])))
    assert found.wins == Wins(won=2, tied=1, lost=1)
    assert found.wins.rate.value == 2.5 / 4


def test_compare_answer_without_a_grade_on_one_side_is_no_comparison() -> None:
    rows = [greedy(name) for name in IDS[:2]]
    found = versus(rows, rows, (all_graded([5, 5]), [graded("p0:greedy", 6), graded("p1:greedy", None)]))
    assert found.wins == Wins(1, 0, 0)


def test_compare_judge_that_scored_one_side_only_has_no_say() -> None:
    rows = [greedy("p0"), greedy("p1")]
    first = [graded("p0:greedy", 5), graded("p0:greedy", 9, "k"), graded("p1:greedy", 5), graded("p1:greedy", 5, "k")]
    second = [graded("p0:greedy", 6), graded("p1:greedy", 5), graded("p1:greedy", 5, "k")]
    assert versus(rows, rows, (first, second)).wins == Wins(1, 1, 0)


def test_compare_loop_loses_to_any_other_answer_and_ties_with_a_loop() -> None:
    before = [greedy("p0", hard=True), greedy("p1"), greedy("p2", hard=True), greedy("p3")]
    after = [greedy("p0"), greedy("p1", hard=True), greedy("p2", hard=True), greedy("p3")]
    found = versus(before, after, (all_graded([5, 5, 5, 5]), all_graded([5, 5, 5, 8])))
    assert found.wins_with_loops == Wins(won=2, tied=1, lost=1)
    assert found.wins == Wins(won=1, tied=0, lost=0)


def test_compare_duplicate_text_has_the_grade_of_the_judged_one() -> None:
    rows = [greedy("p0", "Yes."), a_rollout("p0", "t0", "Yes.")]
    found = scores(rows, [graded("p0:greedy", 7)])
    assert found == {("p0", "greedy"): {"j": 7}, ("p0", "t0"): {"j": 7}}


def test_compare_accuracy_counts_questions_that_could_be_told_of_both() -> None:
    rows = [greedy(name) for name in IDS[:3]]
    first = [graded("p0:greedy", 1.0, "math_answer"), graded("p1:greedy", 1.0, "math_answer")]
    second = [graded("p0:greedy", 0.0, "math_answer"), graded("p1:greedy", None, "math_answer")]
    found = versus(rows, rows, checks=(first, second))
    assert (found.accuracy.n, found.accuracy.before) == (1, 1)


def test_compare_failed_answer_counts_with_neither() -> None:
    lost = replace(greedy("p0"), text=None, error="gone", finish_reason=None, loop=None)
    found = versus([greedy("p0"), greedy("p1")], [lost, greedy("p1")])
    assert found.loops.n == 1


pairs = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9), st.booleans(), st.booleans()), min_size=1, max_size=6)


@given(pairs)
def test_compare_swapped_checkpoints_swap_wins_and_losses(
    drawn: list[tuple[int, int, bool, bool]],
) -> None:
    first = [greedy(name, hard=one[2]) for name, one in zip(IDS, drawn, strict=False)]
    second = [greedy(name, hard=one[3]) for name, one in zip(IDS, drawn, strict=False)]
    graded_first, graded_second = all_graded([one[0] for one in drawn]), all_graded([one[1] for one in drawn])
    there, back = (
        versus(first, second, (graded_first, graded_second)),
        versus(second, first, (graded_second, graded_first)),
    )
    for one, other in ((there.wins, back.wins), (there.wins_with_loops, back.wins_with_loops)):
        assert one is not None
        assert other is not None
        assert (one.won, one.tied, one.lost) == (other.lost, other.tied, other.won)


@given(pairs, st.randoms())
def test_compare_rows_in_another_order_change_nothing(drawn: list[tuple[int, int, bool, bool]], dice: Random) -> None:
    before = [greedy(name, hard=one[2]) for name, one in zip(IDS, drawn, strict=False)]
    after = [greedy(name, hard=one[3]) for name, one in zip(IDS, drawn, strict=False)]
    grades = all_graded([one[0] for one in drawn]), all_graded([one[1] for one in drawn])
    mixed = [dice.sample(rows, len(rows)) for rows in (before, after)]
    assert versus(before, after, grades) == versus(mixed[0], mixed[1], grades)
