"""The prompts that ship: readable by our own reader, of every kind and language that they promise, and counted right."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from factory.gathering.sources import read_source
from factory.prompts import normalise
from judges import math_answer
from schemas.chat import Role
from schemas.recipe import Source
from schemas.rows import Prompt, VerdictStatus
from tests.samples import a_rollout

FOLDER = Path(__file__).parents[2] / "data" / "prompts"
FILES = sorted(FOLDER.glob("*.jsonl"))
LANGUAGES = {"en", "ar", "zh", "fr", "de", "ja", "ko", "es", "pt", "it"}


def shipped(path: Path) -> list[Prompt]:
    return [normalise(raw, path.stem) for raw in read_source(Source(path=path))]


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    return [prompt for path in FILES for prompt in shipped(path)]


def test_shipped_prompts_are_many_distinct_and_of_many_kinds(prompts: list[Prompt]) -> None:
    assert len(prompts) >= 240
    assert len({prompt.prompt_id for prompt in prompts}) == len(prompts)
    assert len({prompt.source for prompt in prompts}) >= 8


def test_shipped_prompts_speak_every_language(prompts: list[Prompt]) -> None:
    spoken = Counter(prompt.language for prompt in prompts)
    assert set(spoken) == LANGUAGES
    assert min(spoken.values()) >= 6


def test_shipped_prompts_carry_what_their_kind_promises(prompts: list[Prompt]) -> None:
    of = {kind: [prompt for prompt in prompts if prompt.source == kind] for kind in {one.source for one in prompts}}
    assert all(prompt.answer for prompt in of["reasoning"])
    assert all(prompt.constraints for prompt in of["constraints"])
    assert all(prompt.tools for prompt in of["tools"])
    assert all(len(prompt.messages) > 2 for prompt in of["multi_turn"])
    assert all(prompt.messages[-1].role is Role.USER for prompt in prompts)


def test_shipped_answers_are_accepted_by_the_verifier_that_will_check_them(prompts: list[Prompt]) -> None:
    for prompt in (one for one in prompts if one.answer):
        right = a_rollout(prompt.prompt_id, text=f"So the result is ${prompt.answer}$.")
        wrong = a_rollout(prompt.prompt_id, text="So the result is $-98765$.")
        assert math_answer.check(prompt, right).score == 1.0, prompt
        assert math_answer.check(prompt, wrong).score == 0.0, prompt
        assert math_answer.check(prompt, right).status is VerdictStatus.OK


def test_sources_page_counts_what_is_there() -> None:
    page = (FOLDER / "SOURCES.md").read_text(encoding="utf-8")
    header = re.search(r"^\| file \| (en \|.*)\| all \|$", page, re.MULTILINE)
    assert header
    languages = [cell.strip() for cell in header.group(1).split("|")]
    for path in FILES:
        lines = path.read_text(encoding="utf-8").splitlines()
        spoken = Counter(json.loads(line)["language"] for line in lines)
        counts = [*(spoken[language] for language in languages), len(lines)]
        assert f"| `{path.name}` | {' | '.join(map(str, counts))} |" in page
