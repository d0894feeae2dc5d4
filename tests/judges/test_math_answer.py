"""What counts as the right final value, where the verifier has nothing to say, and what labelled solutions say."""

import json
import os
import threading
from pathlib import Path

import pytest

from judges import math_answer
from schemas.rows import Verdict, VerdictStatus
from tests.samples import a_prompt, a_rollout

SHARED = Path(os.environ.get("PREFACTORY_SHARED", Path(__file__).parents[3] / "shared"))
GOLD = SHARED / "gold" / "gsm8k_model_solutions.jsonl"
EVERY = 11  # of the labelled questions: 120 of them, 480 solutions; `benchmarks.math_verifier` takes all
PROSE_SAYS_ANSWER = (258, 876, 1303)  # questions with the word in the reasoning, which is not the result


def checked(answer: str | None, text: str | None) -> Verdict:
    return math_answer.check(a_prompt(answer=answer), a_rollout(text=text))


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("18", "16 - 3 - 4 = 9 eggs, and 9 * 2 = 18"),
        ("18", "She makes **$18.00** a day."),
        ("1,000", "The answer is 1000."),
        ("#### 18", "The answer is 18. Check: 9 * 2 = 18, which is less than 20 dollars."),
        ("16 - 3 = <<16-3=13>>13\n#### 13", "A: 13"),
        ("1/2", "So it is $\\boxed{\\frac{1}{2}}$."),
        ("\\sqrt{2}", "It is $\\boxed{2^{1/2}}$."),
        ("x^2+1", "Hence $f(x) = 1 + x^2$, that is $\\boxed{1+x^2}$"),
        ("0.5", "The final answer is $\\frac{1}{2}$."),
        ("4", "Convert the answer to weeks: 28 days / 7 = <<28/7=4>>4 weeks\nA: 4"),
        ("The short-answer questions give 26, all of them 41\nA: 41", "So it is 41."),
        ("Add the fee to the answer from before: $4.00 + $2.00 = $6.00\n#### 6", "A: 6"),
        ("-3", "The answer to the first part is 7.\n**Final answer:** -3 **"),
        ("18", "It is 18, as the answer shows.\n#### Conclusion"),
    ],
)
def test_check_same_value_passes(answer: str, text: str) -> None:
    verdict = checked(answer, text)
    assert (verdict.status, verdict.score) == (VerdictStatus.OK, 1.0)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("18", "The answer is 17."),
        ("18", "18 eggs at first, but in the end the answer is 26"),
        ("1", "I think that it cannot be known."),
        ("1", ""),
        ("x^2+1", "The answer is 1."),
        ("\\frac{1}{2}", "The answer is 2."),
        ("41", "The short-answer questions: 41 points\nA: 55"),
        ("41", "The answer is 41, surely\nAnswer: 55"),
    ],
)
def test_check_other_value_or_none_fails(answer: str, text: str) -> None:
    verdict = checked(answer, text)
    assert (verdict.status, verdict.score) == (VerdictStatus.OK, 0.0)


@pytest.mark.parametrize("answer", [None, "", "  "])
def test_check_without_a_reference_does_not_apply_and_abstains(answer: str | None) -> None:
    verdict = checked(answer, "The answer is 18.")
    assert (verdict.status, verdict.score) == (VerdictStatus.ABSTAINED, None)
    assert not math_answer.applies(a_prompt(answer=answer), a_rollout(text="18"))


def test_check_reference_without_a_value_abstains() -> None:
    assert checked("the Seine", "The Loire, 1000 km").status is VerdictStatus.ABSTAINED


def test_check_reply_shows_what_was_compared() -> None:
    assert checked("18", "The answer is 17.").reply == "17 against 18"
    assert checked("18", "No idea.").reply == "no value against 18"


def test_check_works_outside_the_main_thread() -> None:
    """math-verify's own time limit raises there."""
    found: list[Verdict] = []
    thread = threading.Thread(target=lambda: found.append(checked("18", "The answer is 18.")))
    thread.start()
    thread.join()
    assert [verdict.score for verdict in found] == [1.0]


@pytest.mark.skipif(not GOLD.is_file(), reason=f"no labelled solutions at {GOLD}; PREFACTORY_SHARED names the folder")
def test_check_labelled_solutions_agrees_with_every_label() -> None:
    lines = GOLD.read_text(encoding="utf-8").splitlines()
    disagreed = 0
    for line in [*lines[::EVERY], *(lines[number] for number in PROSE_SAYS_ANSWER)]:
        row = json.loads(line)
        solutions = [value for value in row.values() if isinstance(value, dict)]
        assert len(solutions) == 4
        for solution in solutions:
            passed = checked(row["ground_truth"], solution["solution"]).score == 1.0
            disagreed += passed != solution["is_correct"]
    assert disagreed == 0
