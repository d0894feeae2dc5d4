"""IFBench, `custom:*`: requests of which each is one prompt, with its answer's form fixed."""

import re
from collections.abc import Mapping, Sequence
from datetime import date
from itertools import pairwise
from string import ascii_lowercase

from judges.instructions.english import initials, spelled
from judges.instructions.reading import Check, lines, sentences

QUESTIONS = 4
OPTIONS = "abcde"
NAPOLEONS_BATTLES = (1793, 1815)  # the years of the first and the last

_QUESTION = re.compile(r"[\s*#_]*Question\b[\s*_#]*\d*[\s*_.:;)\]-]*(?P<stem>.*)")
_OPTION = re.compile(r"[\s*_(-]*([A-Ea-e])[.):][\s*_]*\w")
_KEY = re.compile(r"\W*(?:correct )?answer\b", re.IGNORECASE)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def multiples(text: str) -> bool:
    """The multiples of 7 between 10 and 50, in order, and no other number."""
    return re.findall(r"\d+", text) == [str(number) for number in range(14, 50, 7)]


def mcq_count_length(text: str) -> bool:
    """Four labelled questions, each longer than the one before, each with the options A to E; no explanation."""
    blocks = _questions(text)
    lengths = [_stem_length(block) for block in blocks]
    return len(blocks) == QUESTIONS and None not in lengths and _rises([length or 0 for length in lengths])


def word_reverse(text: str) -> bool:
    """The bald eagle, in a sentence whose words stand in reverse order."""
    said = [word.casefold() for word in spelled(text)]
    neighbours = set(pairwise(said))
    return ("eagle", "bald") in neighbours and ("bald", "eagle") not in neighbours


def character_reverse(text: str) -> bool:
    """The bald eagle, in a sentence whose letters stand in reverse order."""
    said = " ".join(text.casefold().split())
    return "elgae dlab" in said and "bald eagle" not in said


def sentence_alphabet(text: str) -> bool:
    """Twenty-six sentences that start with the letters of the alphabet in order."""
    return [initials(sentence)[:1] for sentence in sentences(text)] == [[letter] for letter in ascii_lowercase]


def date_format_list(text: str) -> bool:
    """Dates as YYYY-MM-DD, parted by commas, at least two, of the years in which Napoleon fought."""
    dates = [part.strip() for part in text.split(",")]
    return len(dates) > 1 and all(map(_is_battle_date, dates))


def _is_battle_date(text: str) -> bool:
    first, last = NAPOLEONS_BATTLES
    try:
        return bool(_DATE.fullmatch(text)) and first <= date.fromisoformat(text).year <= last
    except ValueError:
        return False


def _questions(text: str) -> list[list[str]]:
    """The lines of each question, the label's line first; empty where anything stands before the first."""
    blocks: list[list[str]] = []
    for line in lines(text):
        if _QUESTION.match(line):
            blocks.append([line])
        elif blocks:
            blocks[-1].append(line)
        else:
            return []
    return blocks


def _stem_length(block: Sequence[str]) -> int | None:
    """Characters of the question itself; None where its options are not A to E, or more than a key follows them."""
    label = _QUESTION.match(block[0])
    first = next((place for place, line in enumerate(block) if place and _OPTION.match(line)), len(block))
    rest = [line for line in block[first:] if any(map(str.isalnum, line)) and not _KEY.match(line)]
    letters = [found[1].lower() if (found := _OPTION.match(line)) else "" for line in rest]
    if label is None or letters != list(OPTIONS):
        return None
    return len(" ".join([label["stem"].strip(), *(line.strip() for line in block[1:first])]).strip())


def _rises(lengths: Sequence[int]) -> bool:
    return lengths[0] > 0 and all(one < other for one, other in pairwise(lengths))


KINDS: Mapping[str, Check] = {
    "custom:multiples": multiples,
    "custom:mcq_count_length": mcq_count_length,
    "custom:word_reverse": word_reverse,
    "custom:character_reverse": character_reverse,
    "custom:sentence_alphabet": sentence_alphabet,
    "custom:date_format_list": date_format_list,
}
