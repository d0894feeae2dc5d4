"""The clearest loops among any number of answers, in the memory of a few.

The rule that must not break: the ones kept are the ones that sorting all of them would give, and no two of them repeat
the same unit, wherever in the unit each of them begins.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from factory.detector.masked import masked
from schemas.rows import Loop

KEPT: Final = 10
BEFORE: Final = 200  # characters that are kept before the first copy
COPY: Final = 4000  # characters that are kept of a copy


@dataclass(frozen=True, slots=True)
class Example:
    """A loop with as much of its answer as shows it: what stands before, the first copy, the second one.

    Offsets count characters of the whole answer; `period` counts UTF-8 bytes. `by` says of which group the row is.
    """

    place: str
    by: tuple[tuple[str, object], ...]
    kind: str
    rule: str
    onset: int
    onset_token: int | None
    period: int
    repeats: float
    share: float
    before: str
    unit: str
    second: str


@dataclass(frozen=True, slots=True)
class Looped:
    """What the detector found in one answer."""

    text: str
    kind: str
    rule: str
    onset: int
    onset_token: int | None
    period: int
    repeats: float
    share: float

    @property
    def clearness(self) -> tuple[bool, float]:
        """Hard ones first, then those that say most again."""
        return self.kind == Loop.HARD, self.share * len(self.text.encode(errors="surrogatepass"))


@dataclass(slots=True)
class Clearest:
    """Takes loops one by one and keeps the clearest; of equals, the first that came."""

    _kept: list[tuple[tuple[bool, float], Example]] = field(default_factory=list)

    def take(self, looped: Looped, place: str, by: tuple[tuple[str, object], ...]) -> None:
        clearness = looped.clearness
        if len(self._kept) == KEPT and clearness <= self._kept[-1][0]:
            return
        example = _example(looped, place, by)
        same = next((known for known in self._kept if _same_unit(known[1].unit, example.unit)), None)
        if same is not None:
            if clearness <= same[0]:
                return
            self._kept.remove(same)
        self._kept.append((clearness, example))
        self._kept.sort(key=lambda known: known[0], reverse=True)
        del self._kept[KEPT:]

    def examples(self) -> Sequence[Example]:
        return [example for _, example in self._kept]


def _example(looped: Looped, place: str, by: tuple[tuple[str, object], ...]) -> Example:
    text, onset, period = looped.text, looped.onset, looped.period
    start = onset - _characters(text[max(0, onset - period) : onset], -period)
    second = onset + _characters(text[onset : onset + period], period)
    return Example(
        place=place,
        by=by,
        kind=looped.kind,
        rule=looped.rule,
        onset=onset,
        onset_token=looped.onset_token,
        period=period,
        repeats=looped.repeats,
        share=looped.share,
        before=text[max(0, start - BEFORE) : start],
        unit=text[start:onset][:COPY],
        second=text[onset:second][:COPY],
    )


def _characters(text: str, size: int) -> int:
    """How many whole characters lie in the first `size` bytes, or the last ones where `size` is negative."""
    raw = text.encode(errors="replace")  # a half character becomes one byte, and no text that is read has one
    return len((raw[:size] if size > 0 else raw[size:]).decode(errors="ignore"))


def _same_unit(first: str, second: str) -> bool:
    """One is the other from another place on, whatever the numbers in it are."""
    first, second = masked(first), masked(second)
    return len(first) == len(second) and first in second + second
