"""What answers come to: counts against rows made by hand, and laws of the measures."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.evaluation.figures import (
    AnswerFigures,
    Passage,
    Take,
    answer_figures,
    bits_per_byte,
    distinct,
    perplexity,
    repeated,
)
from factory.evaluation.paired import Rate
from schemas.rows import Loop, LoopRule, Rollout, Verdict, VerdictStatus
from tests.samples import a_prompt, a_rollout

PROMPTS = [a_prompt("p"), a_prompt("q", "Another?"), replace(a_prompt("r", "A third?"), source="other")]


def figures(*rollouts: Rollout, checks: tuple[Verdict, ...] = (), seen: tuple[str, ...] = ()) -> AnswerFigures:
    (found,) = answer_figures(Take(100, rollouts, checks), PROMPTS, seen)
    return found


def check(rollout_id: str, verifier: str, score: float | None) -> Verdict:
    status = VerdictStatus.FAILED if score is None else VerdictStatus.OK
    return Verdict(rollout_id.partition(":")[0], rollout_id, verifier, status, score)


def greedy(prompt_id: str, text: str = "Paris.") -> Rollout:
    return a_rollout(prompt_id, "greedy", text)


def looping(prompt_id: str) -> Rollout:
    row = greedy(prompt_id, "and on " * 20)
    return replace(row, loop=Loop.HARD, loop_rule=LoopRule.EXACT, finish_reason="length")


def test_figures_loops_and_endings_are_over_the_answers_that_have_a_text() -> None:
    lost = replace(greedy("r"), text=None, error="gone", finish_reason=None, loop=None)
    found = figures(greedy("p"), looping("q"), lost)
    assert (found.answers, found.failed) == (2, 1)
    assert found.hard == found.ended == Rate(1, 2)
    assert found.rules == (("hard", "exact", 1),)


def test_figures_answer_is_right_where_every_check_that_could_be_had_passed() -> None:
    checks = (
        check("p:greedy", "math_answer", 1.0),
        check("p:greedy", "constraints", 0.0),
        check("q:greedy", "math_answer", 1.0),
        check("r:greedy", "math_answer", None),
    )
    found = figures(greedy("p"), looping("q"), greedy("r"), checks=checks)
    assert found.accuracy == Rate(1, 2)
    assert found.verifiers == (("constraints", Rate(0, 1)), ("math_answer", Rate(2, 2)))
    assert found.passed_loops == 1


def test_figures_answers_to_other_prompts_are_not_counted() -> None:
    assert figures(greedy("p"), greedy("elsewhere")).answers == 1


def test_figures_length_of_a_stopped_answer_is_the_cap_and_of_unknown_ids_none() -> None:
    assert figures(greedy("p")).tokens is None
    stopped = replace(looping("q"), token_ids=(1,) * 30, finish_reason="repetition")
    assert figures(replace(greedy("p"), token_ids=(1, 2)), stopped).tokens == (51.0, 51.0)


def test_figures_kinds_are_told_apart_by_what_the_run_trained_on() -> None:
    found = figures(greedy("p"), looping("q"), looping("r"), seen=("file",))
    assert [(kind.source, kind.seen, kind.hard) for kind in found.kinds] == [
        ("file", True, Rate(1, 2)),
        ("other", False, Rate(1, 1)),
    ]


def test_figures_greedy_comes_before_sampled() -> None:
    found = answer_figures(Take(100, (a_rollout("p", "t0"), greedy("p")), ()), PROMPTS, ())
    assert [one.decoding for one in found] == ["greedy", "sampled"]


def test_distinct_is_over_all_answers_together() -> None:
    rows = [greedy("p", "the cat and the dog"), greedy("q", "The cat!")]
    assert distinct(rows, 1) == pytest.approx(4 / 7)
    assert distinct(rows, 2) == pytest.approx(4 / 5)
    assert distinct(rows, 6) is None


def test_repeated_is_averaged_over_answers() -> None:
    rows = [greedy("p", "a b a b a b"), greedy("q", "c d e f g"), greedy("r", "h")]
    assert repeated(rows, 2) == pytest.approx((3 / 5 + 0) / 2)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.integers(2, 5))
def test_distinct_words_of_a_text_said_again_are_as_many_fewer(said: list[str], times: int) -> None:
    once, again = (distinct([greedy("p", " ".join(said * n))], 1) for n in (1, times))
    assert once is not None
    assert again == pytest.approx(once / times)


def test_perplexity_weighs_tokens_and_not_passages() -> None:
    passages = [Passage("a", -3 * math.log(2), 3, 8), Passage("b", -1 * math.log(8), 1, 4)]
    assert perplexity(passages) == pytest.approx(2 ** ((3 + 3) / 4))
    assert bits_per_byte(passages) == pytest.approx(6 / 12)


def test_perplexity_of_nothing_is_unknown() -> None:
    assert perplexity([]) is None
    assert bits_per_byte([]) is None
