"""Who the later judges of a cascade hear."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from factory.judging.cascade import contenders, waves
from schemas.recipe import Cascade, JudgeRef, Jury, Pairing
from schemas.rows import Loop, Rollout, Verdict, VerdictStatus
from tests.samples import a_rollout

NAMES = ("helpfulness", "correctness", "clarity")
JURY = Jury(judges=[JudgeRef(judge=name) for name in NAMES], cascade=Cascade(first=1, margin=0.5))
SIGMAS = dict.fromkeys(NAMES, 1.0)
LOOPED = replace(a_rollout("p", "t9", "again " * 99), loop=Loop.HARD, finish_reason="repetition")


def answers(count: int) -> list[Rollout]:
    return [a_rollout("p", f"t{n}", f"answer {n}") for n in range(count)]


def said(scores: list[float | None], judge: str = "helpfulness") -> list[Verdict]:
    ok, bad = VerdictStatus.OK, VerdictStatus.UNREADABLE
    return [Verdict("p", f"p:t{n}", judge, bad if s is None else ok, score=s) for n, s in enumerate(scores)]


def left(rollouts: list[Rollout], verdicts: list[Verdict], heard: int = 1) -> set[str]:
    return set(contenders(rollouts, verdicts, heard, JURY, Pairing(), SIGMAS, {}))


def test_waves_the_first_together_and_the_others_one_by_one() -> None:
    assert waves(JURY) == [("helpfulness",), ("correctness",), ("clarity",)]
    assert waves(jury_with(Cascade(first=2))) == [("helpfulness", "correctness"), ("clarity",)]


def jury_with(cascade: Cascade) -> Jury:
    return Jury(judges=JURY.judges, cascade=cascade)


def test_contenders_clear_ends_settle_the_prompt() -> None:
    assert left(answers(4), said([9, 5, 5, 1])) == set()


def test_contenders_near_the_best_or_the_worst_stay_and_the_middle_leaves() -> None:
    assert left(answers(5), said([8.8, 8.6, 5, 1.3, 1])) == {"p:t0", "p:t1", "p:t3", "p:t4"}


def test_contenders_the_margin_shrinks_as_fewer_judges_are_left() -> None:
    scores: list[float | None] = [8.8, 8.45, 5, 1]
    two = said(scores) + said(scores, "correctness")
    assert left(answers(4), said(scores)) == {"p:t0", "p:t1", "p:t3"}
    assert left(answers(4), two, heard=2) == set()


@given(
    scores=st.lists(st.floats(1, 9), min_size=2, max_size=6),
    margins=st.tuples(st.floats(0, 3), st.floats(0, 3)).map(sorted),
)
def test_contenders_wider_margin_asks_about_everybody_that_a_narrower_one_asks_about(
    scores: list[float], margins: list[float]
) -> None:
    rollouts, verdicts = answers(len(scores)), said([*scores])
    narrow, wide = (
        contenders(rollouts, verdicts, 1, jury_with(Cascade(margin=margin)), Pairing(), SIGMAS, {})
        for margin in margins
    )
    assert narrow <= wide


@given(scores=st.lists(st.integers(1, 9).map(float), min_size=2, max_size=6), margin=st.floats(0, 3))
def test_contenders_where_anybody_is_asked_about_hold_the_best_and_the_worst(
    scores: list[float], margin: float
) -> None:
    jury = jury_with(Cascade(margin=margin))
    asked = contenders(answers(len(scores)), said([*scores]), 1, jury, Pairing(), SIGMAS, {})
    of = {f"p:t{n}": score for n, score in enumerate(scores)}
    assert not asked or {max(scores), min(scores)} <= {of[own] for own in asked}


def test_contenders_judge_that_cannot_be_used_settles_nothing() -> None:
    assert left(answers(3), said([9, None, 1])) == {"p:t0", "p:t1", "p:t2"}


def test_contenders_with_a_loop_only_the_best_is_open() -> None:
    rollouts = [*answers(4), LOOPED]
    assert left(rollouts, said([9, 8.9, 1.1, 1])) == {"p:t0", "p:t1"}


def test_contenders_under_a_cap_on_loops_the_worst_is_open_as_well() -> None:
    rollouts = [*answers(4), LOOPED]
    asked = contenders(rollouts, said([9, 8.9, 1.1, 1]), 1, JURY, Pairing(loop_share=0.2), SIGMAS, {})
    assert asked == {"p:t0", "p:t1", "p:t2", "p:t3"}


def test_contenders_first_judge_hears_every_answer_that_may_be_chosen_or_rejected() -> None:
    assert left(answers(3), [], heard=0) == {"p:t0", "p:t1", "p:t2"}


def test_contenders_first_judge_hears_beside_a_loop_who_may_be_chosen_alone() -> None:
    capped = replace(answers(3)[2], finish_reason="length")
    assert left([*answers(2), capped, LOOPED], [], heard=0) == {"p:t0", "p:t1"}


def test_contenders_first_judge_is_spared_answers_between_a_pass_and_a_failed_check() -> None:
    jury = JURY.model_copy(update={"verifiers": ["math_answer"]})
    checks = [
        Verdict("p", "p:t0", "math_answer", VerdictStatus.OK, score=1.0),
        Verdict("p", "p:t1", "math_answer", VerdictStatus.ABSTAINED),
        Verdict("p", "p:t2", "math_answer", VerdictStatus.OK, score=0.0),
    ]
    assert contenders(answers(3), checks, 0, jury, Pairing(), SIGMAS, {}) == {"p:t0", "p:t2"}


def test_contenders_one_answer_beside_a_loop_is_heard_once_and_one_alone_never() -> None:
    beside_a_loop = [*answers(1), LOOPED]
    assert left(beside_a_loop, [], heard=0) == {"p:t0"}
    assert left(beside_a_loop, said([5])) == set()
    assert left(answers(1), [], heard=0) == set()


def test_contenders_pair_that_the_judges_heard_so_far_would_not_let_pass_stays_open() -> None:
    apart = said([9, 5, 1]) + said([4, 4.5, 5], "correctness")
    assert left(answers(3), apart, heard=2) == {"p:t0", "p:t2"}
    assert contenders(answers(3), apart, 2, JURY, Pairing(agreement=0.5), SIGMAS, {}) == set()


def test_contenders_nobody_is_asked_where_nothing_may_be_chosen() -> None:
    capped = [replace(one, finish_reason="length") for one in answers(3)]
    assert left(capped, said([9, 8.9, 1])) == set()
    assert left(capped, [], heard=0) == set()
