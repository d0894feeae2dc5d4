"""IFBench, `ratio:*`: shares and balances within a text."""

from collections import Counter
from collections.abc import Mapping

from judges.instructions.english import STOP_WORDS, spelled
from judges.instructions.reading import Check, sentences, words

OVERLAP_TOLERANCE = 2  # percentage points to either side


def stop_words(text: str, *, percentage: float) -> bool:
    """Stop words are no more than so many percent of the words."""
    found = words(text)
    return bool(found) and 100 * sum(word.lower() in STOP_WORDS for word in found) <= percentage * len(found)


def sentence_type(text: str) -> bool:
    """Two declarative sentences for each interrogative one, of which there is at least one."""
    ends = _ends(text)
    return ends["?"] > 0 and ends["."] == 2 * ends["?"]


def sentence_balance(text: str) -> bool:
    """As many declarative as interrogative as exclamatory sentences, and at least one of each."""
    ends = _ends(text)
    return ends["."] > 0 and ends["."] == ends["?"] == ends["!"]


def overlap(text: str, *, reference_text: str, percentage: float) -> bool:
    """So many percent of the different character trigrams are in the reference too, give or take two points."""
    if not text.strip():
        return False
    found = _trigrams(text)
    shared = len(found & _trigrams(reference_text))
    return bool(found) and abs(100 * shared / len(found) - percentage) <= OVERLAP_TOLERANCE


def sentence_words(text: str) -> bool:
    """Three sentences of the same length in characters, in which no word occurs twice."""
    found = sentences(text)
    used = [word.casefold() for word in spelled(text)]
    return len(found) == 3 and len(set(map(len, found))) == 1 and 0 < len(used) == len(set(used))


def _ends(text: str) -> Counter[str]:
    """How many sentences end with each mark."""
    return Counter(map(_end, sentences(text)))


def _end(sentence: str) -> str:
    """The last of `.?!`, where only quotes, brackets, markup or emoji follow it; else empty."""
    for mark in reversed(sentence):
        if mark in ".?!…":
            return "." if mark == "…" else mark
        if mark.isalnum():
            return ""
    return ""


def _trigrams(text: str) -> set[str]:
    return {text[start : start + 3] for start in range(len(text) - 2)}


KINDS: Mapping[str, Check] = {
    "ratio:stop_words": stop_words,
    "ratio:sentence_type": sentence_type,
    "ratio:sentence_balance": sentence_balance,
    "ratio:overlap": overlap,
    "ratio:sentence_words": sentence_words,
}
