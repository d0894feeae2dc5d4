"""Loop rules that others published, for figures that stand beside the detector's own.

The rule that must not break: each is what its source says, at its source's settings, and decides nothing here: the
detector alone says what a loop is.

"Wait, Wait, Wait… Why Do Reasoning Models Loop?" (arXiv 2512.12895) calls an answer looping in which some n-gram stands
at least k times, with n = 30 and k = 20; those who count it again count tokens of the model's own tokenizer, at every
place. Where the ids of the tokens are not known, the words of the text stand for them, which is stricter: a word is a
token or more.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Final

NGRAM: Final = 30
TIMES: Final = 20


def repeats_ngram(symbols: Sequence[Hashable], length: int = NGRAM, times: int = TIMES) -> bool:
    """Whether some `length` symbols in a row stand at `times` places or more, overlapping ones counted."""
    if length < 1 or times < 1:
        raise ValueError(f"no n-gram rule: {length=}, {times=}")
    frequent = {symbol for symbol, count in Counter(symbols).items() if count >= times}
    if bytes(map(frequent.__contains__, symbols)).find(b"\1" * length) < 0:
        return False  # most texts end here: what is frequent in them does not stand in a row
    return _repeats(symbols, length, times)


def _repeats(symbols: Sequence[Hashable], length: int, times: int) -> bool:
    """The same, exact: parts are sought that are twice as long each time, and only where the shorter ones are."""
    names: dict[int, Hashable] = dict(enumerate(symbols))  # by place: what stands there, of the length known so far
    known = 1
    while names := _frequent(names, times):
        if known == length:
            return True
        step = min(known, length - known)
        pairs = {place: (name, names[place + step]) for place, name in names.items() if place + step in names}
        numbers: dict[tuple[Hashable, Hashable], int] = {}
        names = {place: numbers.setdefault(pair, len(numbers)) for place, pair in pairs.items()}
        known += step
    return False


def _frequent(names: dict[int, Hashable], times: int) -> dict[int, Hashable]:
    counts = Counter(names.values())
    return {place: name for place, name in names.items() if counts[name] >= times}
