"""IFBench, `words:*`, the games with places: which word stands where, and how often."""

import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from itertools import pairwise

from judges.instructions.english import spelled
from judges.instructions.reading import Check, lines, sentences

_TAGGED_CHARS = 300  # from the first word on: enough for the tagger to know what surrounds it


def start_verb(text: str) -> bool | None:
    """The first word is a verb; None where it is not written in English letters."""
    first = next(iter(spelled(text)), "")
    if not first or first[0].isdigit():
        return False
    return _tag_of_first(text).startswith("VB") if first.isascii() else None


def repeats(text: str, *, small_n: int) -> bool:
    """No word occurs more than so many times."""
    counts = Counter(_plain(text))
    return bool(counts) and max(counts.values()) <= small_n


def last_first(text: str) -> bool:
    """Each sentence but the first starts with the last word of the previous one."""
    found = [words for words in map(_plain, sentences(text)) if words]
    return len(found) > 1 and all(one[-1] == other[0] for one, other in pairwise(found))


def paragraph_last_first(text: str) -> bool:
    """Each line ends with the word that it starts with, and at least one has more than that word."""
    found = [words for words in map(_plain, lines(text)) if words]
    return any(len(words) > 1 for words in found) and all(words[0] == words[-1] for words in found)


def keywords_specific_position(text: str, *, keyword: str, n: int, m: int) -> bool:
    """The nth sentence has the keyword as its mth word."""
    found = sentences(text)
    words = _plain(found[n - 1]) if 1 <= n <= len(found) else []
    return 1 <= m <= len(words) and [words[m - 1]] == _plain(keyword)


def words_position(text: str, *, keyword: str) -> bool:
    """The second word and the second to last word are the keyword."""
    words = _plain(text)
    return len(words) > 1 and [words[1]] == [words[-2]] == _plain(keyword)


def _plain(text: str) -> list[str]:
    return [word.casefold() for word in spelled(text)]


def _tag_of_first(text: str) -> str:
    """Part of speech in Penn's tags. The word is lower-cased, since a capital reads as a name."""
    start = next(place for place, mark in enumerate(text) if mark.isalnum())
    read = text[start : start + _TAGGED_CHARS]
    tagged = _tagger()(read[0].lower() + read[1:])
    return next((found for word, found in tagged if any(map(str.isalnum, word))), "")


@cache
def _tagger() -> Callable[[str], list[tuple[str, str]]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the lexicon's file is left open by its reader
        from textblob.en import tag  # here and not above: slow to import

        tag("go")
    found: Callable[[str], list[tuple[str, str]]] = tag
    return found


KINDS: Mapping[str, Check] = {
    "words:start_verb": start_verb,
    "words:repeats": repeats,
    "words:last_first": last_first,
    "words:paragraph_last_first": paragraph_last_first,
    "words:keywords_specific_position": keywords_specific_position,
    "words:words_position": words_position,
}
