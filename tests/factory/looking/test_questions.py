"""README's ten questions, answered over a run whose every figure is known, and over one that was made."""

from pathlib import Path

import pytest

from factory.looking import queries
from scripts.questions import QUESTIONS, Question
from tests.conftest import RecipeWriter
from tests.reports import LONG, SOURCES, a_run
from tests.runs import make

KNOWN: dict[str, tuple[tuple[object, ...], ...]] = {
    "Where did my prompts go?": (
        ("prompts", 4),
        ("pairs", 3),
        ("dropped: below_margin", 1),
        ("paired: jury", 1),
        ("paired: loop", 1),
        ("paired: verifier", 1),
    ),
    "Which kind of prompt makes the model loop?": ((SOURCES[1], 4, 1, 0.25), (SOURCES[0], 4, 0, 0.0)),
    "At which temperature?": ((0.0, 4, 1), (0.7, 4, 0)),
    "What do the worst loops look like?": (("exact", None, None, LONG[:30]),),
    "Can the judges be trusted?": (("clarity", 3, 1, 5.0, 0.5, None), ("helpfulness", 3, 1, 5.0, 0.9, None)),
    "Do they like long answers?": (),  # one judged answer a prompt has no slope
    "How clear are the pairs?": (("jury", 1, 0.6, 0.6), ("loop", 1, None, None), ("verifier", 1, -1.4, -1.4)),
    "Is the chosen side longer?": (("jury", 8.0, 2.0), ("loop", 8.0, 2.0), ("verifier", 8.0, 2.0)),
    "Which slot writes the best answers?": (("t0", 3, 0), ("greedy", 0, 3)),
    "What did it cost?": (("rollouts", 8, None, None), ("verdicts", 8, 80, 8)),
}


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda one: one.words)
def test_question_is_answered_as_the_rows_say(tmp_path: Path, question: Question) -> None:
    assert queries.ask(a_run(tmp_path), question.sql).rows == KNOWN[question.words]


def test_questions_are_ten_and_each_has_an_answer_in_a_run(write_recipe: RecipeWriter) -> None:
    root, _ = make(write_recipe({"jury.trust": {"canaries": 1.0, "reasked": 1.0}}))

    found = queries.ask_all(root, [one.sql for one in QUESTIONS])

    assert len(found) == 10
    assert all(answer.rows for answer in found)
