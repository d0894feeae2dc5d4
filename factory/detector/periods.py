"""Periods: where a sequence repeats itself, and where a text lies inside the repetition of a unit.

The rule that must not break: every search here is exact and takes linear time on every input. For the runs that rests on
`find`, whose worst case is linear, and never on `rfind`, whose worst case is not.

A sequence is `bytes` or `str`. Token ids become a `str` by `symbols`, so that the same search serves both.
"""

import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import AnyStr, Final

_UTF_32: Final = f"utf-32-{'le' if sys.byteorder == 'little' else 'be'}"


@dataclass(frozen=True, slots=True)
class Run:
    """A maximal stretch `start <= t < stop` in which every symbol equals the one `period` symbols later."""

    start: int
    stop: int
    period: int

    @property
    def length(self) -> int:
        return self.stop - self.start

    @property
    def repeats(self) -> float:
        return self.length / self.period

    @property
    def redundancy(self) -> int:
        """How many symbols were said before."""
        return self.length - self.period

    @property
    def onset(self) -> int:
        """The first symbol of the second copy."""
        return self.start + self.period


def symbols(token_ids: Sequence[int]) -> str:
    """One character for each id. ValueError where one is below 0 or above 1,114,111; no published vocabulary goes there."""
    try:
        return array("I", token_ids).tobytes().decode(_UTF_32, errors="surrogatepass")
    except (OverflowError, UnicodeDecodeError) as error:
        raise ValueError(f"a token id is not between 0 and {sys.maxunicode}") from error


def tail_runs(text: AnyStr, *, slack: int, repeats: int, redundancy: int) -> list[Run]:
    """Every run of smallest period that ends in the last `slack` symbols and is large enough, by rising period.

    Large enough: at least `repeats` copies (3 or more) and `redundancy` symbols said before (1 or more, and at least
    twice the slack; otherwise ValueError). Takes time linear in the text.
    """
    size = len(text)
    backwards = text[::-1] if size > redundancy else text
    found = _runs_at(backwards, text, slack, _Wanted(slack, repeats, redundancy))
    return [Run(size - run.stop, size - run.start, run.period) for run in found]


def inner_runs(text: AnyStr, *, repeats: int, redundancy: int) -> list[Run]:
    """Every run of smallest period that is large enough, wherever it ends, by start and period.

    `repeats` and `redundancy` as for `tail_runs`. A run says at least `redundancy` symbols again, so it is looked for
    at every half of that: time is linear in the text for a `redundancy` that is a share of it.
    """
    if len(text) <= redundancy:
        return []
    step = max(1, redundancy // 2)
    wanted = _Wanted(step - 1, repeats, redundancy)
    glance = min(32, redundancy - wanted.slack)
    longest = len(text) // repeats
    anchors = [
        anchor
        for anchor in range(0, len(text) - redundancy + step, step)
        if text.find(text[anchor : anchor + glance], anchor + 1, anchor + longest + glance) >= 0
    ]
    backwards = text[::-1] if anchors else text  # most texts end here
    found = {run for anchor in anchors for run in _runs_at(text, backwards, anchor, wanted)}
    return sorted(found, key=lambda run: (run.start, run.period))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Runs that start at most `slack` symbols before a place, and how large they are at least."""

    slack: int
    repeats: int
    redundancy: int

    def __post_init__(self) -> None:
        if self.repeats < 3 or self.redundancy < max(1, 2 * self.slack):
            raise ValueError(f"no exact search for runs of {self}")


def _runs_at(text: AnyStr, backwards: AnyStr, place: int, wanted: _Wanted) -> list[Run]:
    """Every wanted run at a place, by rising period. `backwards` is the text read from its end.

    What a run of period p says from the place on must come again p symbols later, so the nearest copy of that reading
    gives the next candidate. Two bounds make a handful of candidates enough:
      - a run of period p says at least (repeats - 1) * p symbols again, so the reading grows with the period;
      - two runs that share the sum of their periods are one (Fine and Wilf, 1965), so after a candidate that agrees
        over m symbols no other period up to m is left.
    Each candidate therefore agrees over about twice as many symbols as the one before, or more.
    """
    room = len(text) - max(0, place - wanted.slack)
    longest = min(room // wanted.repeats, room - wanted.redundancy)
    found: list[Run] = []
    excluded = 0  # no period up to this one is left
    while excluded < longest:
        again = max(wanted.redundancy, (wanted.repeats - 1) * (excluded + 1)) - wanted.slack
        reading = text[place : place + again]
        copy = text.find(reading, place + excluded + 1, place + longest + again)
        if copy < 0:
            break
        period = copy - place
        agreed = agreement(text, place, text, copy)
        before = agreement(backwards, len(text) - place, backwards, len(text) - copy)
        run = Run(place - before, copy + agreed, period)
        if before <= wanted.slack and run.length >= wanted.repeats * period and run.redundancy >= wanted.redundancy:
            found.append(run)
        excluded = max(period, agreed)
    return found


def largest(runs: Sequence[Run]) -> Run | None:
    """The run that says most again; of equals, the one of the smallest period."""
    return max(runs, key=lambda run: (run.redundancy, -run.period), default=None)


def agreement(first: AnyStr, at: int, second: AnyStr, place: int) -> int:
    """How many symbols of `first` from `at` on equal those of `second` from `place` on."""
    end = min(len(first) - at, len(second) - place)
    known, step = 0, 64
    while known < end:
        step = min(step, end - known)
        if first[at + known : at + known + step] != second[place + known : place + known + step]:
            break
        known += step
        step *= 2
    else:
        return end
    while step > 1:  # the first difference lies within `step` symbols after `known`
        half = step // 2
        if first[at + known : at + known + half] == second[place + known : place + known + half]:
            known += half
            step -= half
        else:
            step = half
    return known


def stretches(text: AnyStr, unit: AnyStr) -> list[int]:
    """The lengths of the maximal stretches of `text` that lie in unit unit unit … and are at least one unit long.

    A stretch may begin anywhere in the unit, so it is told by a place where a copy may begin: what stands before it
    is the end of a unit, what stands after it the beginning of one, and the two together are a unit or more.
    """
    period, half = len(unit), (len(unit) + 1) // 2
    if not 0 < period <= len(text) or not (unit[:half] in text or unit[half:] in text):
        return []  # most texts end here: every unit-long piece of the endless repetition holds one half in full
    after = _beginnings(unit, text)
    before = _beginnings(unit[::-1], text[::-1])[::-1]
    found: set[tuple[int, int]] = set()
    started: dict[int, int] = {}  # by the place where its next copy may begin
    for place in range(len(text) + 1):
        if before[place] + after[place] < period:
            continue
        start = started.pop(place, place - before[place])
        if after[place] == period:
            started[place + period] = start
        else:
            found.add((start, place + after[place]))
    return [stop - start for start, stop in sorted(found)]


def _beginnings(unit: AnyStr, text: AnyStr) -> list[int]:
    """How much of the unit's beginning stands at each place of the text, its end included (the Z-function)."""
    joined = unit + text
    shared = [0] * (len(joined) + 1)
    left = right = 0
    for at in range(1, len(joined)):
        shared[at] = min(right - at, shared[at - left]) if at < right else 0
        if at + shared[at] >= right:
            shared[at] += agreement(joined, shared[at], joined, at + shared[at])
            left, right = at, at + shared[at]
    return [min(known, len(unit)) for known in shared[len(unit) :]]
