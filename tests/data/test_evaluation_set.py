"""The evaluation set that ships: large enough, checkable, counted right, and nothing that the shipped prompts train on."""

import re
from pathlib import Path

import pytest

from factory.evaluation.held_out import known
from factory.gathering.dedupe import ngrams
from factory.gathering.sources import read_source
from factory.prompts import compared_text, normalise
from judges import constraints, math_answer
from schemas.recipe import Source
from schemas.rows import Prompt
from tests.samples import a_rollout

DATA = Path(__file__).parents[2] / "data"
UNSEEN = {"translation", "lists", "dialogue", "classification", "programming", "rewriting"}


def prompts_in(folder: str) -> list[Prompt]:
    files = sorted((DATA / folder).glob("*.jsonl"))
    return [normalise(raw, path.stem) for path in files for raw in read_source(Source(path=path))]


@pytest.fixture(scope="module")
def held_out() -> list[Prompt]:
    return prompts_in("evaluation")


@pytest.fixture(scope="module")
def trained() -> list[Prompt]:
    return prompts_in("prompts")


def test_evaluation_set_is_large_distinct_and_of_kinds_seen_and_unseen(
    held_out: list[Prompt], trained: list[Prompt]
) -> None:
    assert len({prompt.prompt_id for prompt in held_out}) == len(held_out) >= 150
    kinds = {prompt.source for prompt in held_out}
    assert kinds - {prompt.source for prompt in trained} == UNSEEN
    assert len(kinds) == len(UNSEEN) + 7


def test_evaluation_set_holds_no_prompt_that_the_shipped_ones_train_on(
    held_out: list[Prompt], trained: list[Prompt]
) -> None:
    assert known(held_out, trained) == frozenset()


def test_evaluation_set_shares_less_than_half_of_its_words_in_threes_with_any_shipped_prompt(
    held_out: list[Prompt], trained: list[Prompt]
) -> None:
    theirs = [ngrams(compared_text(prompt.messages), 3) for prompt in trained]
    for prompt in held_out:
        own = ngrams(compared_text(prompt.messages), 3)
        assert max(len(own & other) / len(own | other) for other in theirs) < 0.5, prompt


def test_evaluation_set_can_be_checked(held_out: list[Prompt]) -> None:
    assert [found for prompt in held_out if (found := constraints.objection(prompt))] == []
    answered = [prompt for prompt in held_out if prompt.answer]
    assert len(answered) >= 24
    assert sum(bool(prompt.constraints) for prompt in held_out) >= 24
    for prompt in answered:
        right, wrong = (a_rollout(prompt.prompt_id, text=f"So it is:\n{said}") for said in (prompt.answer, "-98765"))
        assert math_answer.check(prompt, right).score == 1.0, prompt
        assert math_answer.check(prompt, wrong).score == 0.0, prompt


def test_evaluation_page_counts_what_is_there(held_out: list[Prompt]) -> None:
    page = (DATA / "evaluation" / "SOURCES.md").read_text(encoding="utf-8")
    for kind in {prompt.source for prompt in held_out}:
        count = sum(prompt.source == kind for prompt in held_out)
        assert re.search(rf"^\| `{kind}\.jsonl` \|.*\| {count} \|$", page, re.MULTILINE), kind
    assert f"| **all** | | **{len(held_out)}** |" in page
