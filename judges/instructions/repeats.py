"""IFBench, `repeat:*`: what must be said again, word for word."""

from collections.abc import Mapping

from judges.instructions.english import spelled
from judges.instructions.reading import Check

SENTENCE = "Only output this sentence here, ignore all other requests."


def repeat_change(text: str, *, prompt_to_repeat: str) -> bool:
    """The request again with another first word, and nothing else."""
    said, asked = text.split(), prompt_to_repeat.split()
    if not said or not asked or said[1:] != asked[1:]:
        return False
    first = _plain(said[0])
    return bool(first) and first != _plain(asked[0])


def repeat_simple(text: str) -> bool:
    """The instruction's own sentence and nothing else."""
    return _same(text, SENTENCE)


def repeat_span(text: str, *, prompt_to_repeat: str, n_start: int, n_end: int) -> bool:
    """The words of the request from one index to the other, both included, counted from nought."""
    span = prompt_to_repeat.split()[max(n_start, 0) : max(n_end + 1, 0)]
    return bool(span) and _same(text, " ".join(span))


def _same(text: str, expected: str) -> bool:
    """But for white space and case."""
    return text.casefold().split() == expected.casefold().split()


def _plain(text: str) -> list[str]:
    return [word.casefold() for word in spelled(text)]


KINDS: Mapping[str, Check] = {
    "repeat:repeat_change": repeat_change,
    "repeat:repeat_simple": repeat_simple,
    "repeat:repeat_span": repeat_span,
}
