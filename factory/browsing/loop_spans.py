"""A looped text in pieces, as the stored finding has it: what comes before, each copy, what comes after.

Pure. The rule that must not break: the pieces together are the text, whatever the finding says; where it does not fit the text,
as little is marked as can be known.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise

from factory.detector.masked import masked, unmasked
from factory.detector.utf8 import character_at, utf8
from schemas.rows import LoopEvidence, LoopRule

MOST = 40  # copies that are marked one by one


class Piece(StrEnum):
    PLAIN = "plain"
    FIRST = "first"  # what is said again later
    COPY = "copy"  # one more time
    REST = "rest"  # further copies, not told apart
    END = "end"  # an end that says nothing new, in whatever order


@dataclass(frozen=True, slots=True)
class Span:
    """`number`: which copy it is, from 1 on; of the rest how many there are."""

    piece: Piece
    text: str
    number: int = 0


def spans(text: str, found: LoopEvidence) -> tuple[Span, ...]:
    return tuple(span for span in _spans(text, found) if span.text)


def shortened(pieces: tuple[Span, ...], most: int) -> tuple[Span, ...]:
    """The first `most` characters, and a word about the rest."""
    left, kept = most, list[Span]()
    for piece in pieces:
        kept.append(replace(piece, text=piece.text[:left]))
        left -= len(kept[-1].text)
    over = sum(len(piece.text) for piece in pieces) - most
    more = (Span(Piece.PLAIN, f" … and {over:,} characters more, on the pair's own page"),) if over > 0 else ()
    return (*(span for span in kept if span.text), *more)


def _spans(text: str, found: LoopEvidence) -> Iterator[Span]:
    onset, period = found.onset, found.period
    if onset is None or not period or not found.repeats or not 0 < onset < len(text):
        yield Span(Piece.PLAIN, text)
        return
    if found.rule is LoopRule.NEAR_DUPLICATE:
        yield Span(Piece.PLAIN, text[:onset])
        yield Span(Piece.END, text[onset:])
        return
    places = _verbatim(text, onset, period, found.repeats) or _alike(text, onset, period, found.repeats)
    yield from _cut(text, places)


def _verbatim(text: str, onset: int, period: int, repeats: float) -> list[int]:
    """Where copies begin and where the last one ends, in characters; empty where they are not equal as they stand."""
    raw = utf8(text)
    at = len(utf8(text[:onset]))
    start, second = at - period, raw[at : at + period]
    if start < 0 or raw[start : start + len(second)] != second:
        return []
    stop = min(len(raw), start + round(period * repeats))
    return [character_at(raw, place) for place in [*range(start, stop, period)[: MOST + 1], stop]]


def _alike(text: str, onset: int, period: int, repeats: float) -> list[int]:
    """As `_verbatim`, of copies that are equal but for numbers, case and white space: counted in the masked text."""
    raw = utf8(text)
    third = character_at(raw, min(len(raw), len(utf8(text[:onset])) + period))
    size = len(masked(text[:third])) - (first := len(masked(text[:onset])))
    if size <= 0:
        return [onset, len(text)]
    copies = min(MOST + 1, int(repeats) + 1)
    found = [min(len(text), unmasked(text, max(0, first + size * number))) for number in range(-1, copies)]
    stop = min(len(text), unmasked(text, first + round(size * (repeats - 1))))
    return sorted({place for place in found if place < stop} | {stop})


def _cut(text: str, places: list[int]) -> Iterator[Span]:
    """`places`: where each copy begins, and the end of the last one."""
    yield Span(Piece.PLAIN, text[: places[0]])
    for number, (start, stop) in enumerate(pairwise(places), 1):
        piece = Piece.FIRST if number == 1 else Piece.COPY if number <= MOST else Piece.REST
        yield Span(piece, text[start:stop], number)
    yield Span(Piece.PLAIN, text[places[-1] :])
