"""What holds for all kinds of IFBench: their ids, their arguments, and that no text breaks or passes them by being empty."""

import inspect
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges.instructions import (
    counts,
    custom,
    custom_csv,
    custom_places,
    format_lines,
    formats,
    ratios,
    repeats,
    sentence_games,
    word_games,
    word_places,
)

TABLES = [
    *(counts.KINDS, ratios.KINDS, word_games.KINDS, word_places.KINDS, sentence_games.KINDS, formats.KINDS),
    *(format_lines.KINDS, custom.KINDS, custom_csv.KINDS, custom_places.KINDS, repeats.KINDS),
]
CHECKS = {kind: check for table in TABLES for kind, check in table.items()}

# None of these bounds is met by having no words at all, and none is so high that a long text is refused at once.
ARGUMENTS: dict[str, dict[str, object]] = {
    "count:conjunctions": {"small_n": 0},
    "count:keywords_multiple": {f"keyword{number}": "a" for number in range(1, 6)},
    "count:numbers": {"N": 0},
    "count:person_names": {"N": 0},
    "count:pronouns": {"N": 0},
    "count:unique_word_count": {"N": 0},
    "count:word_count_range": {"min_words": 0, "max_words": 10**6},
    "count:words_japanese": {"N": 1},
    "format:list": {"sep": "-"},
    "format:options": {"options": "/ /yes"},
    "ratio:overlap": {"reference_text": "", "percentage": 0},
    "ratio:stop_words": {"percentage": 100},
    "repeat:repeat_change": {"prompt_to_repeat": " "},
    "repeat:repeat_span": {"prompt_to_repeat": " ", "n_start": 0, "n_end": 3},
    "sentence:increment": {"small_n": 0},
    "sentence:keyword": {"word": "", "N": 1},
    "words:keywords_specific_position": {"keyword": "", "n": 1, "m": 1},
    "words:repeats": {"small_n": 5},
    "words:words_position": {"keyword": ""},
}

BLANK = ["", " ", "\n", "\r\n\t\u3000\u00a0\u2028", "\n\n \n" * 50]
LONG = {
    "words": "Ab cd 12. ",
    "word": "a",
    "quotes": "\"'",
    "brackets": "([{",
    "closed": ")]}",
    "tags": "<i><p ",
    "emoji": "🙂",
    "blank": " \n",
    "bullets": "* a\n- b\n",
    "cells": '",\t',
    "digits": "1,111.",
    "joined": "é\u0301\u202e\x00",
    "japanese": "猫。\n\n",
    "questions": "Question 1: a\nA) b\n",
    "dashes": "—-/",
    "countries": "Zimbabwe (a\n",
}
LONG_CHARS = 100_000
SECONDS = 10  # a check takes well under one; a quadratic one takes minutes

IDS = """
    count:conjunctions count:keywords_multiple count:numbers count:person_names count:pronouns count:punctuation
    count:unique_word_count count:word_count_range count:words_japanese
    custom:character_reverse custom:csv_city custom:csv_quotes custom:csv_special_character custom:date_format_list
    custom:european_capitals_sort custom:mcq_count_length custom:multiples custom:reverse_newline
    custom:sentence_alphabet custom:word_reverse
    format:emoji format:line_indent format:list format:newline format:no_bullets_bullets format:no_whitespace
    format:options format:output_template format:parentheses format:quote_unquote format:quotes format:sub-bullets
    format:thesis format:title_case
    ratio:overlap ratio:sentence_balance ratio:sentence_type ratio:sentence_words ratio:stop_words
    repeat:repeat_change repeat:repeat_simple repeat:repeat_span
    sentence:alliteration_increment sentence:increment sentence:keyword
    words:alphabet words:consonants words:keywords_specific_position words:last_first words:no_consecutive
    words:odd_even_syllables words:palindrome words:paragraph_last_first words:prime_lengths words:repeats
    words:start_verb words:vowel words:words_position
"""


def test_the_kinds_are_the_58_of_ifbench() -> None:
    assert sorted(CHECKS) == sorted(IDS.split())
    assert sum(map(len, TABLES)) == len(CHECKS) == 58


@pytest.mark.parametrize("kind", CHECKS)
def test_arguments_are_keyword_only_and_annotated(kind: str) -> None:
    text, *arguments = inspect.signature(CHECKS[kind]).parameters.values()
    assert text.annotation is str
    assert {argument.name for argument in arguments} == set(ARGUMENTS.get(kind, {}))
    assert {argument.kind for argument in arguments} <= {inspect.Parameter.KEYWORD_ONLY}
    assert {argument.annotation for argument in arguments} <= {str, int, float}


@pytest.mark.parametrize("kind", CHECKS)
def test_blank_text_fails(kind: str) -> None:
    assert {text: CHECKS[kind](text, **ARGUMENTS.get(kind, {})) for text in BLANK} == dict.fromkeys(BLANK, False)


@given(st.text() | st.text(alphabet="aA1.?! \n\t*-\"'()[]<i>/,:#é🙂\u0301\x00猫"))
def test_any_text_is_judged(text: str) -> None:
    verdicts = {kind: check(text, **ARGUMENTS.get(kind, {})) for kind, check in CHECKS.items()}
    assert {kind for kind, verdict in verdicts.items() if verdict not in (True, False, None)} == set()


@pytest.mark.parametrize("kind", CHECKS)
def test_long_text_is_judged_soon(kind: str) -> None:
    for piece in LONG.values():
        start = time.process_time()
        CHECKS[kind]((piece * LONG_CHARS)[:LONG_CHARS], **ARGUMENTS.get(kind, {}))
        assert time.process_time() - start < SECONDS, piece
