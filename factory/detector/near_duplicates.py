"""Where a text says again what it said before, in any order and with small changes between the copies.

The rule that must not break: exact but for collisions of a 64-bit hash, and linear in the text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

GRAM: Final = 24  # bytes
SHORT_GRAM: Final = 10
_GLANCES: Final = 8
_MIX: Final = tuple(np.uint64(odd) for odd in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9))


@dataclass(frozen=True, slots=True)
class End:
    """An end of a text that was said before: by grams that stand at `times` places before, each of which is worth 1.

    Any other gram costs `cost`, so that such are at most one in `cost` + 1. The end is `size` bytes long at least, and
    `share` of the text. A gram is `gram` bytes, 8 or more.
    """

    times: int
    cost: int
    size: int
    share: float
    gram: int = GRAM

    @property
    def glances(self) -> int:
        """How many of eight grams have to stand before, where all of the end is worth reading."""
        return 2 if self.gram == GRAM else 5  # short ones stand at one place before in any text

    def shortest(self, raw: bytes) -> int:
        return max(self.size, ceil(self.share * len(raw)))


# Honest text that is full of set phrases says most of them two or three times; a loop says them on and on.
# Short grams, said very often, show a few words that come again in every order.
ENDS: Final = (
    End(times=3, cost=6, size=768, share=0.25),
    End(times=2, cost=4, size=2048, share=0.5),
    End(times=16, cost=2, size=512, share=0.25, gram=SHORT_GRAM),
)


@dataclass(frozen=True, slots=True)
class Echo:
    """The stretch from `start` to the end of a text that says nearly nothing new.

    `period` is the commonest distance in bytes from one of its grams to the last place where that was said, `said` how
    many of its grams were said before.
    """

    start: int
    period: int
    said: int


def echo(raw: bytes, ends: Sequence[End] = ENDS) -> Echo | None:
    """The echo of a text that has one of the ends.

    An end is the suffix that scores most. The echo begins where the suffix does that scores most by grams that stand at
    one place before. None where there is no such end, or where a glance at eight grams of it finds too few that were
    said before: that costs next to nothing and ends the search for nearly every text.
    """
    for end in ends:
        if _worth_reading(raw, end):
            grams = _grams(raw, end.gram)
            start = _best_suffix(_said(grams, end.times), end.cost)
            if start is not None and len(raw) - start >= end.shortest(raw):
                return _whole(grams, end.cost)
    return None


def _whole(grams: npt.NDArray[np.uint64], cost: int) -> Echo:
    once = _said(grams, 1)
    start = _best_suffix(once, cost)
    assert start is not None, "a gram that stands at many places before stands at one"
    return Echo(start, _distance(grams, start), int(once[start:].sum()))


def _worth_reading(raw: bytes, end: End) -> bool:
    size = end.shortest(raw)
    if len(raw) < max(size, 2 * end.gram):
        return False
    start, last = len(raw) - size, len(raw) - end.gram
    places = range(start, last, max(1, (last - start) // _GLANCES))
    return sum(raw.find(raw[at : at + end.gram], 0, at + end.gram - 1) >= 0 for at in places) >= end.glances


def _best_suffix(worth: npt.NDArray[np.bool_], cost: int) -> int | None:
    """Where the suffix begins that scores most, and of equals the longest; None where none scores above 0."""
    scores = np.cumsum(np.where(worth, 1, -cost))
    before = np.concatenate(([0], scores[:-1]))
    start = int(before.argmin())
    return start if scores[-1] > before[start] else None


def _grams(raw: bytes, size: int) -> npt.NDArray[np.uint64]:
    """A hash of the gram of `size` bytes at each byte that begins one."""
    words: npt.NDArray[np.uint64] = np.ndarray((len(raw) - 7,), "<u8", raw, 0, (1,))  # eight bytes at every place
    count = len(raw) - size + 1
    mixed = np.zeros(count, np.uint64)
    for number, at in enumerate((*range(0, size - 8, 8), size - 8)):  # words that cover the gram
        mixed += words[at : at + count]
        mixed *= _MIX[number % len(_MIX)]
        mixed ^= mixed >> np.uint64(29)
    return mixed


def _said(grams: npt.NDArray[np.uint64], times: int) -> npt.NDArray[np.bool_]:
    """Which grams stand at so many places before: those that are not new among those that stand at one less."""
    said = np.ones(len(grams), np.bool_)
    for _ in range(times):
        said[said] = ~_new(grams[said])
    return said


def _new(grams: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Which grams stand nowhere before. The dictionary numbers them as they come, so a new one raises the highest number.

    From buffer to buffer: the ways through `pa.array` and `to_numpy` import pandas, which takes longer than all of this.
    """
    array = pa.Array.from_buffers(pa.uint64(), len(grams), [None, pa.py_buffer(grams)])
    numbers: npt.NDArray[np.int32] = np.frombuffer(
        pc.dictionary_encode(array).indices.buffers()[1], np.int32, len(grams)
    )
    return np.diff(np.maximum.accumulate(numbers), prepend=np.int32(-1)) > 0


def _distance(grams: npt.NDArray[np.uint64], start: int) -> int:
    """The commonest distance from a gram at or after `start` to the last place where it was said; of equals the smallest."""
    order = np.argsort(grams, kind="stable")
    same = grams[order[1:]] == grams[order[:-1]]
    apart = (order[1:] - order[:-1])[same & (order[1:] >= start)]
    return int(np.bincount(apart).argmax())
