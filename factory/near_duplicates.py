"""Where a text says again what it said before, in any order and with small changes between the copies.

The rule that must not break: exact but for collisions of a 64-bit hash, and linear in the text.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

GRAM: Final = 24  # bytes
_NEW: Final = 9  # what a gram that was not said before costs, where one that was is worth 1
_GLANCES: Final = 8
_MIX: Final = tuple(np.uint64(odd) for odd in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9))


@dataclass(frozen=True, slots=True)
class Echo:
    """The stretch from `start` to the end of a text in which nearly every gram was said before.

    `period` is the distance in bytes at which most of them were said last, `said` how many were.
    """

    start: int
    period: int
    said: int


def echo(raw: bytes, *, shortest: int) -> Echo | None:
    """The suffix that scores most over the grams of a text, +1 for one said before and -9 for a new one.

    None where it is shorter than `shortest` bytes, or where a glance at eight grams of the second half finds fewer than
    two that were said before: that costs next to nothing and ends the search for nearly every text.
    """
    if len(raw) < max(shortest, 2 * GRAM) or not _worth_reading(raw):
        return None
    grams = _grams(raw)
    new = _new(grams)
    scores = np.cumsum(np.where(new, -_NEW, 1))
    before = np.concatenate(([0], scores[:-1]))
    start = int(before.argmin())
    if len(raw) - start < shortest or scores[-1] <= before[start]:
        return None
    return Echo(start, _distance(grams, start), int((~new[start:]).sum()))


def _worth_reading(raw: bytes) -> bool:
    middle, last = len(raw) // 2, len(raw) - GRAM
    places = range(middle, last, max(1, (last - middle) // _GLANCES))
    return sum(raw.find(raw[at : at + GRAM], 0, at + GRAM - 1) >= 0 for at in places) >= 2


def _grams(raw: bytes) -> npt.NDArray[np.uint64]:
    """A hash of the gram at each byte but the last 23."""
    words: npt.NDArray[np.uint64] = np.ndarray((len(raw) - 7,), "<u8", raw, 0, (1,))  # eight bytes at every place
    mixed = words[:-16] * _MIX[0]
    mixed ^= mixed >> np.uint64(29)
    for at, odd in ((8, _MIX[1]), (16, _MIX[2])):
        mixed += words[at : len(words) - 16 + at]
        mixed *= odd
        mixed ^= mixed >> np.uint64(32)
    return mixed


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
