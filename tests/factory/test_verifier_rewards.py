"""Verifiers as reward functions: the columns of the export say what is checked, and nothing that an answer does can hang it."""

import pickle
from collections.abc import Sequence

import pytest

from factory.rewards import Conversation, RewardFunction, verifier_reward
from schemas.errors import RecipeError

ASKED = [{"role": "user", "content": "What is 6 x 7?"}]


def rewards(function: RewardFunction, completions: Sequence[Conversation], **columns: object) -> list[float | None]:
    asked = [ASKED] * len(completions)
    return list(function(prompts=asked, completions=completions, completion_ids=None, log_metric=None, **columns))


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def test_verifier_reward_is_for_the_right_answer_and_none_without_a_reference() -> None:
    function = verifier_reward("math_answer", passed=2.0, failed=-1.0)

    found = rewards(function, [said("6 x 7 = 42"), said("It is 41."), said("It is 42.")], answer=["42", "42", None])

    assert found == [2.0, -1.0, None]


def test_verifier_reward_reads_constraints_as_the_export_writes_them() -> None:
    asked = [{"id": "punctuation:no_comma", "kwargs": "{}"}]

    found = rewards(verifier_reward("constraints"), ["one two", "one, two", "one, two"], constraints=[asked, asked, []])

    assert found == [1.0, 0.0, None]


def test_verifier_reward_without_the_column_has_nothing_to_check() -> None:
    assert rewards(verifier_reward("math_answer"), ["42"]) == [None]


def test_verifier_reward_reasoning_is_no_part_of_the_answer() -> None:
    function = verifier_reward("math_answer")

    assert rewards(function, [said("<think>\nIs it 42?\n</think>\nIt is 41.")], answer=["42"]) == [0.0]


def test_verifier_reward_of_several_turns_reads_the_last() -> None:
    turns = [*said("It is 41."), {"role": "user", "content": "42?"}, *said("Yes, 42.")]

    assert rewards(verifier_reward("math_answer"), [turns], answer=["42"]) == [1.0]


def test_verifier_reward_a_check_that_does_not_end_is_none_and_the_others_go_on() -> None:
    function = verifier_reward("math_answer", timeout_s=2.0)

    assert rewards(function, ["The answer is $9^{9^{9^9}}$", "42"], answer=["18", "42"]) == [None, 1.0]


def test_verifier_reward_is_pickled_whole_and_named_by_its_verifier() -> None:
    function = verifier_reward("constraints", failed=-0.5)

    again: RewardFunction = pickle.loads(pickle.dumps(function))

    assert again == function
    assert again.__name__ == "constraints"


def test_verifier_reward_of_a_name_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(RecipeError, match="did you mean 'math_answer'"):
        verifier_reward("math_anser")
