"""IFBench, `sentence:*`: how a sentence goes on from the one before it, and what the nth one holds."""

import re
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise

from judges.instructions.english import initials, spelled
from judges.instructions.reading import Check, sentences


def alliteration_increment(text: str) -> bool:
    """Each sentence has a longer run of words with the same first letter than the previous one."""
    runs = [_longest_run(letters) for letters in map(initials, sentences(text)) if letters]
    return len(runs) > 1 and all(one < other for one, other in pairwise(runs))


def keyword(text: str, *, word: str, N: int) -> bool:  # noqa: N803  the data set's name
    """The Nth sentence has the keyword, in any case."""
    found, asked = sentences(text), word.strip()
    if not asked or not 1 <= N <= len(found):
        return False
    return re.search(rf"(?<!\w){re.escape(asked)}(?!\w)", found[N - 1], re.IGNORECASE) is not None


def increment(text: str, *, small_n: int) -> bool:
    """Each sentence has exactly so many words more than the previous one."""
    lengths = [length for length in (len(spelled(sentence)) for sentence in sentences(text)) if length]
    return len(lengths) > 1 and all(other - one == small_n for one, other in pairwise(lengths))


def _longest_run(letters: Sequence[str]) -> int:
    return max(sum(1 for _ in run) for _, run in groupby(letters))


KINDS: Mapping[str, Check] = {
    "sentence:alliteration_increment": alliteration_increment,
    "sentence:keyword": keyword,
    "sentence:increment": increment,
}
