"""Requests of which each is one prompt."""

from string import ascii_uppercase

import pytest

from judges.instructions.custom import KINDS

CHOICES = "\n".join(f"{letter}) choice {letter}" for letter in "ABCDE")
STEMS = (
    "Who painted it?",
    "Who painted it first?",
    "Who painted it first in Paris?",
    "Who first painted it in Paris?!",
)
QUIZ = "\n\n".join(f"Question {number}: {stem}\n{CHOICES}" for number, stem in enumerate(STEMS, 1))
STORY = " ".join(f"{letter}nn went on." for letter in ascii_uppercase)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        pytest.param("multiples", "14, 21, 28, 35, 42, 49", id="multiples"),
        pytest.param("multiples", "Here they are:\n14\n21\n28\n35\n42\n49.", id="multiples-lines"),
        pytest.param("mcq_count_length", QUIZ, id="quiz"),
        pytest.param("mcq_count_length", QUIZ.replace("Question", "**Question").replace(": ", ":**\n"), id="quiz-bold"),
        pytest.param("mcq_count_length", f"{QUIZ}\nAnswer: B", id="quiz-key"),
        pytest.param("word_reverse", "Eagle bald the is US the of animal national The.", id="words"),
        pytest.param("word_reverse", ".eagle Bald", id="words-two"),
        pytest.param("character_reverse", ".elgae dlab eht si tI", id="letters"),
        pytest.param("character_reverse", "elgaE\ndlaB ehT".replace("E\n", "e "), id="letters-capital"),
        pytest.param("sentence_alphabet", STORY, id="story"),
        pytest.param("sentence_alphabet", STORY.replace("Bnn went on.", '"Bnn," he said.\n\n'), id="story-quote"),
        pytest.param("date_format_list", "1796-04-12, 1805-12-02,1815-06-18\n", id="dates"),
        pytest.param("date_format_list", "1796-02-29,\n1815-06-18", id="dates-leap-day"),
    ],
)
def test_custom_as_asked_passes(kind: str, text: str) -> None:
    assert KINDS[f"custom:{kind}"](text) is True


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        pytest.param("multiples", "14, 21, 28, 35, 42", id="multiples-one-less"),
        pytest.param("multiples", "10, 14, 21, 28, 35, 42, 49", id="multiples-and-ten"),
        pytest.param("mcq_count_length", QUIZ.replace(" first?", "?"), id="quiz-not-longer"),
        pytest.param("mcq_count_length", QUIZ.replace("\nE) choice E", "", 1), id="quiz-four-options"),
        pytest.param("mcq_count_length", f"Here it is.\n{QUIZ}", id="quiz-preamble"),
        pytest.param("mcq_count_length", f"{QUIZ}\nThis is since he lived there.", id="quiz-explained"),
        pytest.param("mcq_count_length", QUIZ.rpartition("\n\n")[0], id="quiz-three"),
        pytest.param("word_reverse", "The national animal of the US is the bald eagle.", id="words-forward"),
        pytest.param("word_reverse", "Eagle the is animal national The.", id="words-no-bald"),
        pytest.param("character_reverse", "Eagle bald the is It.", id="letters-words"),
        pytest.param("character_reverse", "The bald eagle: elgae dlab ehT", id="letters-both-ways"),
        pytest.param("sentence_alphabet", STORY.removesuffix(" Znn went on."), id="story-no-z"),
        pytest.param("sentence_alphabet", STORY.replace("Cnn", "Knn"), id="story-one-wrong"),
        pytest.param("date_format_list", "1796-04-12, 1805-13-02", id="dates-month"),
        pytest.param("date_format_list", "1797-02-29, 1815-06-18", id="dates-no-leap-year"),
        pytest.param("date_format_list", "1796-04-12, 1915-06-18", id="dates-century"),
        pytest.param("date_format_list", "Dates: 1796-04-12, 1815-06-18", id="dates-words"),
        pytest.param("date_format_list", "1796-04-12", id="dates-one"),
    ],
)
def test_custom_near_miss_fails(kind: str, text: str) -> None:
    assert KINDS[f"custom:{kind}"](text) is False
