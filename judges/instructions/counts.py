"""IFBench, `count:*`: how many words, numbers, names or marks a text must have."""

import re
from collections.abc import Mapping

from judges.instructions.english import CONJUNCTIONS, PRONOUNS, chunks, listed, spelled
from judges.instructions.reading import Check, words

PERSON_NAMES = listed("""
    Emma Liam Sophia Jackson Olivia Noah Ava Lucas Isabella Mason Mia Ethan Charlotte Alexander Amelia Benjamin Harper
    Leo Zoe Daniel Chloe Samuel Lily Matthew Grace Owen Abigail Gabriel Ella Jacob Scarlett Nathan Victoria Elijah Layla
    Nicholas Audrey David Hannah Christopher Penelope Thomas Nora Andrew Aria Joseph Claire Ryan Stella Jonathan
""")
"""Those that the instruction lists."""

_NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?(?:/\d+)*")
_JAPANESE = re.compile(r"[\u3005\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uff66-\uff9f]")
_INTERROBANG = re.compile(r"\?!|!\?|‽")


def word_count_range(text: str, *, min_words: int, max_words: int) -> bool:
    """Between so many and so many words."""
    return max(min_words, 1) <= len(words(text)) <= max_words


def unique_word_count(text: str, *, N: int) -> bool:  # noqa: N803  the data set's name
    """At least N different words."""
    return len({word.casefold() for word in spelled(text)}) >= max(N, 1)


def conjunctions(text: str, *, small_n: int) -> bool:
    """At least so many different coordinating conjunctions."""
    found = {word.lower() for word in words(text)}
    return bool(found) and len(found & CONJUNCTIONS) >= small_n


def person_names(text: str, *, N: int) -> bool:  # noqa: N803  the data set's name
    """At least N different ones of the fifty listed names."""
    found = set(words(text))
    return bool(found) and len(found & PERSON_NAMES) >= N


def numbers(text: str, *, N: int) -> bool:  # noqa: N803  the data set's name
    """Exactly N numbers in digits; `1,000`, `3.5` and `1/2` are one each, a range is two."""
    return bool(text.strip()) and len(_NUMBER.findall(text)) == N


def punctuation(text: str) -> bool:
    """Every common mark and, besides, an interrobang."""
    without, interrobangs = _INTERROBANG.subn(" ", text, count=1)
    return bool(interrobangs) and set(".,;:!?") <= set(without)


def words_japanese(text: str, *, N: int) -> bool:  # noqa: N803  the data set's name
    """Every Nth word is in Japanese, and there is at least one such word."""
    due = chunks(text)[N - 1 :: N] if N > 0 else []
    return bool(due) and all(_JAPANESE.search(word) for word in due)


def pronouns(text: str, *, N: int) -> bool:  # noqa: N803  the data set's name
    """At least N pronouns, repeated ones counted each time."""
    found = words(text)
    return bool(found) and sum(word.lower() in PRONOUNS for word in found) >= N


def keywords_multiple(text: str, *, keyword1: str, keyword2: str, keyword3: str, keyword4: str, keyword5: str) -> bool:
    """Five keywords, as whole words, exactly once, twice, three, five and seven times."""
    keywords = (keyword1, keyword2, keyword3, keyword4, keyword5)
    return all(_occurrences(keyword, text) == due for keyword, due in zip(keywords, (1, 2, 3, 5, 7), strict=True))


def _occurrences(keyword: str, text: str) -> int:
    asked = keyword.strip().casefold()
    return len(re.findall(rf"(?<!\w){re.escape(asked)}(?!\w)", text.casefold())) if asked else 0


KINDS: Mapping[str, Check] = {
    "count:word_count_range": word_count_range,
    "count:unique_word_count": unique_word_count,
    "count:conjunctions": conjunctions,
    "count:person_names": person_names,
    "count:numbers": numbers,
    "count:punctuation": punctuation,
    "count:words_japanese": words_japanese,
    "count:pronouns": pronouns,
    "count:keywords_multiple": keywords_multiple,
}
