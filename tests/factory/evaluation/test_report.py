"""A report over checkpoints that did not all say the same much: what is compared is what all of them have."""

from pathlib import Path

import pytest

from factory.evaluation.evaluating import Evaluated
from factory.evaluation.figures import Passage, Take
from factory.evaluation.report import report
from schemas.evaluation import Bounds
from tests.samples import a_prompt, a_rollout

PROMPTS = (a_prompt("p"), a_prompt("q", "Another?"))
BOUNDS = Bounds(accuracy=None, win_rate=None, distinct=None)  # what these answers have none of
EASY, HARD = Passage("easy", -2.0, 2, 8), Passage("hard", -8.0, 2, 8)


def evaluated(digest: str, *passages: Passage) -> Evaluated:
    rollouts = tuple(a_rollout(prompt.prompt_id, slot) for prompt in PROMPTS for slot in ("greedy", "t0"))
    return Evaluated(digest, digest, Path(), PROMPTS, (Take(64, rollouts, ()),), None, passages, 0)


def test_report_perplexity_is_over_the_passages_that_every_checkpoint_was_asked_about() -> None:
    found = report([evaluated("a", EASY, HARD), evaluated("b", EASY)], (), BOUNDS)
    assert [one.perplexity for one in found.figures] == [pytest.approx(2.718281828)] * 2
    assert found.against[0].tripped == ()


def test_report_without_a_passage_in_common_shuts_the_gate_on_perplexity() -> None:
    found = report([evaluated("a", HARD), evaluated("b", EASY)], (), BOUNDS)
    assert [one.perplexity for one in found.figures] == [None, None]
    assert [one.bound for one in found.against[0].tripped] == ["perplexity"]
