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
from itertools import repeat
from typing import Final

NGRAM: Final = 30
TIMES: Final = 20


def repeats_ngram(symbols: Sequence[Hashable], length: int = NGRAM, times: int = TIMES) -> bool:
    """Whether some `length` symbols in a row stand at `times` places or more, overlapping ones counted."""
    if length < 1 or times < 1:
        raise ValueError(f"no n-gram rule: {length=}, {times=}")
    frequent = (symbol for symbol, count in Counter(symbols).items() if count >= times)
    numbers = {symbol: number for number, symbol in enumerate(frequent, start=1)}
    text = "".join(map(chr, map(numbers.get, symbols, repeat(0))))  # a character each, so that slices are quick
    runs = [run for run in text.split("\0") if len(run) >= length]
    if not runs:
        return False  # most texts end here: what is frequent in them does not stand in a row
    if runs[-1].count(runs[-1][-length:]) >= times:
        return True  # and most loops here: they go on to the end
    ngrams = Counter(run[at : at + length] for run in runs for at in range(len(run) - length + 1))
    return max(ngrams.values()) >= times
