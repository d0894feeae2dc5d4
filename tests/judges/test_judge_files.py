"""What every file that holds a judge or a verifier promises: the table, the file and the object have one name."""

import importlib

import pytest

from judges.base import request_id
from judges.registry import JUDGES, VERIFIERS, find_judge, find_verifier
from judges.reward_model import RewardModel
from schemas.chat import Completion
from schemas.errors import RecipeError
from schemas.rows import VerdictStatus
from tests.samples import a_prompt, a_rollout

PROMPT = a_prompt("example", "Why is the sky blue?")
ROLLOUT = a_rollout("example", "t0", "Air scatters blue light more than red.")


@pytest.mark.parametrize("name", JUDGES)
def test_judge_file_has_its_name_and_an_example_that_reads(name: str) -> None:
    module = importlib.import_module(f"judges.{name}")
    example = module.EXAMPLE
    assert isinstance(example, Completion)
    assert module.JUDGE is JUDGES[name]
    assert JUDGES[name].name == name
    assert example.request_id == request_id(ROLLOUT.rollout_id, name)
    (verdict,) = JUDGES[name].read(PROMPT, [ROLLOUT], {example.request_id: example})
    assert verdict.status is VerdictStatus.OK
    assert verdict.score is not None
    if isinstance(JUDGES[name], RewardModel):
        assert verdict.score == example.reward
    else:
        assert abs(verdict.score - int(example.text)) < 1
        assert verdict.mass is not None
        assert verdict.mass > 0.9


@pytest.mark.parametrize("name", [name for name, judge in JUDGES.items() if not isinstance(judge, RewardModel)])
def test_judge_rubric_is_short_and_anchors_its_ends(name: str) -> None:
    judge = JUDGES[name]
    assert not isinstance(judge, RewardModel)
    assert 30 <= len(judge.rubric.split()) <= 100
    assert "1:" in judge.rubric
    assert "9:" in judge.rubric


def test_judge_digests_are_all_different() -> None:
    assert len({judge.digest for judge in JUDGES.values()}) == len(JUDGES)


@pytest.mark.parametrize("name", VERIFIERS)
def test_verifier_file_has_its_name(name: str) -> None:
    module = importlib.import_module(f"judges.{name}")
    assert VERIFIERS[name].name == module.name == name
    assert VERIFIERS[name].check is module.check


def test_registry_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"jury\.judges: 'helpfullness' .* 'helpfulness'"):
        find_judge("helpfullness")
    with pytest.raises(RecipeError, match=r"jury\.verifiers: 'maths_answer' .* 'math_answer'"):
        find_verifier("maths_answer")


def test_registry_name_like_no_other_is_told_all() -> None:
    with pytest.raises(RecipeError, match="clarity, correctness, helpfulness"):
        find_judge("xyzzy")
    with pytest.raises(RecipeError, match="language, length_asked, math_answer"):
        find_verifier("clarity?")


def test_registry_known_names_are_found() -> None:
    assert all(find_judge(name) is judge for name, judge in JUDGES.items())
    assert all(find_verifier(name) is verifier for name, verifier in VERIFIERS.items())
