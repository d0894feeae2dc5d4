"""Which lengths a prompt asks for, and what then fails."""

import math

import pytest

from judges import length_asked
from judges.length_asked import Length, lengths_asked
from tests.samples import a_prompt, a_rollout


@pytest.mark.parametrize(
    ("question", "length"),
    [
        ("Explain it in at most 50 words.", Length("word", 1, 50)),
        ("No more than 1,000 words, please.", Length("word", 1, 1000)),
        ("Max. 30 words.", Length("word", 1, 30)),
        ("Keep it under 20 words", Length("word", 1, 19)),
        ("Use fewer than five sentences.", Length("sentence", 1, 4)),
        ("Say it in ten words or fewer.", Length("word", 1, 10)),
        ("Write at least two paragraphs.", Length("paragraph", 2, math.inf)),
        ("Write a 300+ word essay", Length("word", 300, math.inf)),
        ("Write more than three sentences.", Length("sentence", 4, math.inf)),
        ("Write 100 words or more", Length("word", 100, math.inf)),
        ("between 100 and 150 words", Length("word", 100, 150)),
        ("A text of 100-150 words", Length("word", 100, 150)),
        ("in exactly three words", Length("word", 3, 3)),
        ("Answer in one short sentence.", Length("sentence", 1, 1)),
        ("Give me a 3-sentence summary.", Length("sentence", 3, 3)),
        ("An essay of about 200 words", Length("word", 140, 260)),
        ("Write about four sentences.", Length("sentence", 3, 5)),
        ("Describe rain in 50 words.", Length("word", 35, 65)),
        ("What do I delete first? Answer in at most 35 words.", Length("word", 1, 35)),
        ("In 100 words. Every paragraph needs at least 20 words.", Length("word", 70, 130)),
        ("A post of up to 280 characters", Length("character", 1, 280)),
    ],
)
def test_lengths_asked_one(question: str, length: Length) -> None:
    assert lengths_asked(question) == (length,)


@pytest.mark.parametrize(
    "question",
    [
        "What is rain?",
        "Each paragraph must have at least 3 sentences.",
        "Translate the first two sentences.",
        "Summarise the following 500 words.",
        "Write 3 sentences of at least 20 words each.",
        "Use at least 15 words in all capital letters.",
        "Give a title in 2 words and a subtitle in 8 words.",
        "Write between 9 and 3 words.",
        "My password has 12 characters, why?",
        "A thousand words",
    ],
)
def test_lengths_asked_none_or_not_clear(question: str) -> None:
    assert [one for one in lengths_asked(question) if one.unit != "sentence"] == []


def test_lengths_asked_one_for_each_unit() -> None:
    found = lengths_asked("Write two paragraphs about rain, at most 80 words.")
    assert set(found) == {Length("paragraph", 2, 2), Length("word", 1, 80)}


@pytest.mark.parametrize(
    ("question", "text", "score"),
    [
        ("Name it in at most 3 words.", "The old mill.", 1.0),
        ("Name it in at most 3 words.", "The very old mill.", 0.0),
        ("Tell me in two sentences.", "It rains. We stay.", 1.0),
        ("Tell me in two sentences.", "It rains. We stay. You go.", 0.0),
        ("Write two paragraphs.", "One.\n\nTwo.", 1.0),
        ("Write two paragraphs.", "One.\nTwo.", 0.0),
        ("Up to 5 characters.", " abcde ", 1.0),
        ("Up to 5 characters.", "abcdef", 0.0),
        ("Write two paragraphs, at most 4 words.", "One two.\n\nThree four.", 1.0),
        ("Write two paragraphs, at most 4 words.", "One two.\n\nThree four five.", 0.0),
    ],
)
def test_check(question: str, text: str, score: float) -> None:
    prompt = a_prompt(asked=question)
    assert length_asked.applies(prompt, a_rollout())
    assert length_asked.check(prompt, a_rollout(text=text)).score == score


def test_applies_to_english_alone_and_only_vetoes() -> None:
    assert not length_asked.applies(a_prompt(asked="in at most 3 words", language="de"), a_rollout())
    assert not length_asked.applies(a_prompt(asked="What is rain?"), a_rollout())
    assert not length_asked.proves
