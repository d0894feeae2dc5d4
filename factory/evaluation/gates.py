"""Whether a later checkpoint may take the place of an earlier one: loops down or equal, and nothing else lost. Pure.

The rule that must not break: a gate that was set and could not be measured is shut. What may be lost is in
`evaluation.bounds`; rates of the same questions are compared as pairs, so that a gate trips on what changed and not on noise.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from factory.evaluation.comparing import Compared
from factory.evaluation.figures import GREEDY, SAMPLED, Figures
from schemas.evaluation import Bounds

CHANCE = 0.05  # McNemar's p must be as low too: of a handful of changes the interval is too narrow
LACKING = 0.05  # of the earlier one's answers may be without a counterpart; of more the rest says too little
UNMEASURED = "it was not measured; mend that, or set evaluation.bounds.{} to null"
UNANSWERED = (
    "of {1} {2} answers of the earlier checkpoint only {0} have one of the later beside them; take its folder away from "
    "RUN/evaluation, and it is asked again, or set evaluation.bounds.{3} to null"
)


@dataclass(frozen=True, slots=True)
class Tripped:
    """A gate that does not hold, and why. `bound` is its name in `evaluation.bounds`."""

    bound: str
    why: str


def gates(before: Figures, after: Figures, compared: Sequence[Compared], bounds: Bounds) -> tuple[Tripped, ...]:
    """The gates that do not hold, in the order of the bounds; none: the later checkpoint may go on."""
    return (
        *_loops(before, compared, bounds.loops),
        *_sampled_loops(before, compared, bounds.sampled_loops),
        *_accuracy(compared, bounds.accuracy),
        *_win_rate(compared, bounds.win_rate),
        *_perplexity(before.perplexity, after.perplexity, bounds.perplexity),
        *_distinct(before, after, bounds.distinct),
    )


def _loops(before: Figures, compared: Sequence[Compared], bound: float | None) -> Iterator[Tripped]:
    """Greedy answers are not drawn, so that the rate itself counts and not its interval: `loops` may leave room for the
    few that change with the make-up of a batch.

    At the largest cap alone: an answer that loops at a smaller one loops there too, so that what a smaller cap adds is when
    the loops begin, and one answer that begins earlier would outweigh all those that have ended.
    """
    if bound is None:
        return
    yield from _unanswered(before, compared, GREEDY, "loops")
    for one in _of(compared, GREEDY):
        if (rise := one.loops.difference) is not None and rise > bound:
            yield Tripped("loops", f"greedy hard loops at {one.max_tokens} tokens went up by {rise:.1%}; {_n(one)}")


def _sampled_loops(before: Figures, compared: Sequence[Compared], bound: float | None) -> Iterator[Tripped]:
    if bound is None:
        return
    yield from _unanswered(before, compared, SAMPLED, "sampled_loops")
    for one in _of(compared, SAMPLED):
        low, high = one.loops.interval
        if low > bound and one.loops.p_value <= CHANCE:
            yield Tripped(
                "sampled_loops", f"sampled hard loops at {one.max_tokens} tokens went up by {low:.1%} to {high:.1%}"
            )


def _unanswered(before: Figures, compared: Sequence[Compared], decoding: str, bound: str) -> Iterator[Tripped]:
    """Where too many answers are missing: those that failed may be the very ones that would loop."""
    had = sum(one.loops.n for one in _of(compared, decoding))
    largest = max((one.max_tokens for one in before.answers), default=0)
    own = [one for one in before.answers if (one.decoding, one.max_tokens) == (decoding, largest)]
    asked = sum(one.answers for one in own)
    if not had:
        yield Tripped(bound, UNMEASURED.format(bound))
    elif had < (1 - LACKING) * asked:
        yield Tripped(bound, UNANSWERED.format(had, asked, decoding, bound))


def _n(one: Compared) -> str:
    return f"over {one.loops.n} answers"


def _accuracy(compared: Sequence[Compared], bound: float | None) -> Iterator[Tripped]:
    if bound is None:
        return
    last = _at_the_largest(compared)
    if not any(one.accuracy.n for one in last):
        yield Tripped("accuracy", UNMEASURED.format("accuracy"))
    for one in last:
        low, high = one.accuracy.interval
        if high < -bound and one.accuracy.p_value <= CHANCE:
            yield Tripped("accuracy", f"{one.decoding} answers are right less often, by {-high:.1%} to {-low:.1%}")


def _win_rate(compared: Sequence[Compared], bound: float | None) -> Iterator[Tripped]:
    if bound is None:
        return
    judged = [(one, one.wins.rate) for one in compared if one.wins is not None and one.wins.rate.of]
    if not judged:
        yield Tripped("win_rate", UNMEASURED.format("win_rate"))
    for one, rate in judged:
        low, high = rate.interval
        if high < 0.5 - bound:
            yield Tripped("win_rate", f"{one.decoding} answers win {low:.1%} to {high:.1%} of {rate.of} comparisons")


def _perplexity(before: float | None, after: float | None, bound: float | None) -> Iterator[Tripped]:
    if bound is None:
        return
    if before is None or after is None:
        yield Tripped("perplexity", UNMEASURED.format("perplexity"))
    elif after > before * bound:
        yield Tripped("perplexity", f"{before:.2f} on prose became {after:.2f}, more than {bound:g} times as much")


def _distinct(before: Figures, after: Figures, bound: float | None) -> Iterator[Tripped]:
    if bound is None:
        return
    largest = max((one.max_tokens for one in before.answers), default=0)
    shares = [
        one.distinct[1]
        for figures in (before, after)
        for one in figures.answers
        if (one.decoding, one.max_tokens) == (GREEDY, largest)
    ]
    first, second = shares if len(shares) == 2 else (None, None)
    if first is None or second is None:
        yield Tripped("distinct", UNMEASURED.format("distinct"))
    elif second < first * bound:
        yield Tripped("distinct", f"distinct-2 of greedy answers fell from {first:.3f} to {second:.3f}")


def _of(compared: Sequence[Compared], decoding: str) -> list[Compared]:
    return [one for one in _at_the_largest(compared) if one.decoding == decoding]


def _at_the_largest(compared: Sequence[Compared]) -> list[Compared]:
    largest = max((one.max_tokens for one in compared), default=0)
    return [one for one in compared if one.max_tokens == largest]
