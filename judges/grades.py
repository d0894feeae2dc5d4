"""What in a judge's reply is a grade from 1 to 9, and what is not.

The rule that must not break: a reply that holds no grade gives a status, never a number. The finish reason is looked at
before the text, and the text is a grade as a whole or not at all: "10", "7/10", "Based on …" and a digit in front of a
refusal are none.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from schemas.chat import Completion, TokenAlternative
from schemas.rows import VerdictStatus

DIGITS = tuple("123456789")
LOW_MASS = 0.05  # under it, 19 parts in 20 of the distribution are about something other than a grade

_TOKEN = re.compile(r"[\s\u2581\u0120]*(\S)")  # "7", " 7", SentencePiece's and byte-level BPE's marked space
CUT_OFF = frozenset({"length", "repetition"})  # the engine ended the reply, not the judge
_MASKED = -1000.0  # engines write -9999 or -inf for a token that the grammar forbids
_THOUGHT = re.compile(r"<(think|thinking|reasoning)>.*?</\1>", re.DOTALL)
_UNFINISHED_THOUGHT = re.compile(r"<(?:think|thinking|reasoning)>")
_LAST_LINE = re.compile(r"(?:\W*(?:final\s+)?(?:grade|score|rating)\W*)?\**([1-9])\**\.?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Distribution:
    """What a judge's first token says: mean and variance over the values given a value, and the mass on values."""

    mean: float
    variance: float
    mass: float


def ended_badly(reply: Completion) -> VerdictStatus | None:
    """What the finish reason says, before anything is read. None: it does not stand in the way."""
    match reply.finish_reason:
        case "content_filter":
            return VerdictStatus.FILTERED
        case "refusal":
            return VerdictStatus.REFUSED
        case "error" | "abort":
            return VerdictStatus.FAILED
    return None


def one_digit(reply: Completion) -> int | VerdictStatus:
    """The grade of a judge that may write one digit and nothing else."""
    if bad := ended_badly(reply):
        return bad
    text = reply.text.strip()
    return int(text) if text in DIGITS else unread(reply)


def last_line(reply: Completion) -> int | VerdictStatus:
    """The grade of a judge that thinks first: the last line, alone on it, outside of any <think> block.

    A reply that was cut off has no last line: what stands there is where the thought was when it ended.
    """
    if bad := ended_badly(reply):
        return bad
    said = _THOUGHT.sub("", reply.text)
    if reply.finish_reason in CUT_OFF or _UNFINISHED_THOUGHT.search(said):
        return VerdictStatus.TRUNCATED
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    found = _LAST_LINE.fullmatch(lines[-1]) if lines else None
    return int(found[1]) if found else VerdictStatus.UNREADABLE


def unread(reply: Completion) -> VerdictStatus:
    """Why a text that is no verdict is none."""
    return VerdictStatus.TRUNCATED if reply.finish_reason in CUT_OFF else VerdictStatus.UNREADABLE


def probabilities(alternatives: Sequence[TokenAlternative], values: Sequence[str]) -> list[tuple[str, float]]:
    """Each token that is one of the one-character `values`, in whatever variant, with its probability.

    A token that the grammar forbids, and one whose log-probability is NaN, is not among them.
    """
    return [
        (said[1], math.exp(min(one.logprob, 0.0)))
        for one in alternatives
        if (said := _TOKEN.fullmatch(one.token)) and said[1] in values and one.logprob > _MASKED
    ]


def commonest(bad: Iterable[VerdictStatus]) -> VerdictStatus:
    """Of what several replies came to; failed where there was none."""
    counted = Counter(bad)
    return max(counted, key=lambda status: (counted[status], status), default=VerdictStatus.FAILED)


def digit_distribution(alternatives: Sequence[TokenAlternative]) -> Distribution | None:
    """Mean Σ v·p(v)/Σ p(v), its variance and the mass Σ p(v) over the digits 1 to 9 (arXiv 2503.03064, section 3).

    A digit's token variants are added up. None where no digit is among the alternatives, or each is masked or NaN.
    """
    found = [(int(digit), p) for digit, p in probabilities(alternatives, DIGITS)]
    mass = math.fsum(p for _, p in found)
    if mass == 0.0:
        return None
    mean = math.fsum(v * p for v, p in found) / mass
    variance = math.fsum((v - mean) ** 2 * p for v, p in found) / mass
    return Distribution(mean, variance, min(mass, 1.0))
