"""What the benchmark of the math verifier takes for agreement."""

import json
from dataclasses import replace

from benchmarks.math_verifier import HOSTILE, agrees, hostile, labelled
from judges.base import check_result, no_score
from schemas.rows import VerdictStatus

ROW = {
    "question": "How many?",
    "ground_truth": "9 * 2 = 18\nA: 18",
    "small": {"is_correct": False, "solution": "A: 17"},
    "large": {"is_correct": True, "solution": "A: 18"},
}


def test_labelled_takes_every_solution_and_the_reference_as_it_stands() -> None:
    small, large = labelled([json.dumps(ROW)])
    assert (small.right, large.right) == (False, True)
    name, prompt, answer = large.check
    assert (name, prompt.answer, answer.text) == ("math_answer", ROW["ground_truth"], "A: 18")


def test_agrees_only_where_the_verifier_has_said_the_same() -> None:
    small, _ = labelled([json.dumps(ROW)])
    rollout = small.check[2]
    failed = no_score(rollout, "math_answer", VerdictStatus.FAILED)
    assert agrees(small, check_result(rollout, "math_answer", 0.0, ""))
    assert not agrees(small, check_result(rollout, "math_answer", 1.0, ""))
    assert not agrees(small, failed)
    assert not agrees(small, replace(failed, status=VerdictStatus.ABSTAINED))


def test_hostile_checks_are_of_the_same_prompt_and_each_one_a_rollout_of_its_own() -> None:
    small, _ = labelled([json.dumps(ROW)])
    checks = hostile(small.check)
    assert {prompt.prompt_id for _, prompt, _ in checks} == {"p0"}
    assert len({answer.rollout_id for _, _, answer in checks}) == len(HOSTILE)
