"""The verifier of a length that the prompt asks for in its own words: "in at most 50 words", "a 3-sentence summary".

It can only veto, and reads English alone. It abstains where no length is asked for, where several are for one unit, and
where the length is that of a part ("each paragraph", "the first two sentences"). A bare figure of words is a wish:
30% around it pass; of sentences and paragraphs it is meant as it stands, and "about" allows one more or less.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from judges.base import check_result
from judges.instructions.reading import paragraphs, sentences, words
from schemas.chat import Role
from schemas.rows import Prompt, Rollout, Verdict

name = "length_asked"
proves = False

ABOUT = 0.3  # of a number of words

_COUNTED: Mapping[str, Callable[[str], int]] = {
    "word": lambda text: len(words(text)),
    "sentence": lambda text: len(sentences(text)),
    "paragraph": lambda text: len(paragraphs(text)),
    "character": lambda text: len(text.strip()),
}
_SPELLED = {
    word: number
    for number, word in enumerate(
        (
            *("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
            *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
            "twenty",
        ),
        1,
    )
} | {"a single": 1, "thirty": 30, "forty": 40, "fifty": 50, "a hundred": 100, "one hundred": 100, "two hundred": 200}
_N = rf"(\d[\d,]*|{'|'.join(sorted(_SPELLED, key=len, reverse=True))})"
_UNIT = r"[ -](?:(?:short|brief|single|plain|simple|full|complete) )?(words?|sentences?|paragraphs?|characters?)\b"
_MOST = (
    r"at most|no more than|not more than|up to|a maximum of|maximum of|max\.?|within|not exceed(?:ing)?|no longer than"
)
_LEAST = r"at least|no fewer than|no less than|not less than|a minimum of|minimum of|min\.?"
_NEAR = "about|around|approximately|roughly|circa|some|~"
_BARE = "in|using|with|of|to|be|is|write|give me|give|use|compose|produce|provide|only|just|exactly|precisely|a|an"
_PARTS = re.compile(
    r"\b(?:each|every|per|first|last|second|third|final|opening|closing|next|previous|following|above|below|these|those"
    r"|original|both)[\s,'-]*(?:\w+[\s,'-]+){0,3}$"
)
_AFTER_PARTS = re.compile(
    r"^[\s,]*(?:each|every|per|or so each|apiece|long each|in each|for each|that|which|from the"
    r"|(?:or phrases )?(?:in|with) (?:all|capital|upper|lower|bold|italic|the (?:output|answer|response)|[a-z]+ letters))\b"
)


@dataclass(frozen=True, slots=True)
class Length:
    """How many of a unit are asked for, both ends included."""

    unit: str
    least: float
    most: float


def _exactly(unit: str, first: int, _: int) -> Length:
    return _about(unit, first, 0) if unit in ("word", "character") else Length(unit, first, first)


def _about(unit: str, first: int, _: int) -> Length:
    slack = math.floor(first * ABOUT) if unit in ("word", "character") else 1
    return Length(unit, first - slack, first + slack)


# Tried in this order at every place; the first that fits there says what is meant.
_PHRASES: tuple[tuple[re.Pattern[str], Callable[[str, int, int], Length]], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), meant)
    for pattern, meant in (
        (rf"\b(?:between )?{_N}(?: ?[-–] ?| to | and ){_N}{_UNIT}", lambda unit, a, b: Length(unit, a, b)),
        (rf"\b(?:{_LEAST}) {_N}{_UNIT}", lambda unit, a, _: Length(unit, a, math.inf)),
        (rf"(?<!no )(?<!not )\b(?:more than|over) {_N}{_UNIT}", lambda unit, a, _: Length(unit, a + 1, math.inf)),
        (rf"\b{_N}\+{_UNIT}", lambda unit, a, _: Length(unit, a, math.inf)),
        (rf"\b{_N}{_UNIT} or (?:more|longer)\b", lambda unit, a, _: Length(unit, a, math.inf)),
        (rf"\b{_N} or more{_UNIT}", lambda unit, a, _: Length(unit, a, math.inf)),
        (rf"\b(?:{_MOST}) {_N}{_UNIT}", lambda unit, a, _: Length(unit, 1, a)),
        (rf"\b(?:fewer than|less than|under|below) {_N}{_UNIT}", lambda unit, a, _: Length(unit, 1, a - 1)),
        (
            rf"\b{_N}{_UNIT} (?:or (?:fewer|less|under|shorter)|at most|max(?:imum)?\b)",
            lambda unit, a, _: Length(unit, 1, a),
        ),
        (rf"\b{_N} or (?:fewer|less){_UNIT}", lambda unit, a, _: Length(unit, 1, a)),
        (rf"\b(?:exactly|precisely) {_N}{_UNIT}", lambda unit, a, _: Length(unit, a, a)),
        (rf"(?:\b(?:{_NEAR}) |~){_N}{_UNIT}", _about),
        (rf"\b(?:{_BARE}) {_N}{_UNIT}", _exactly),
    )
)


def objection(prompt: Prompt) -> str | None:
    return None


def applies(prompt: Prompt, rollout: Rollout) -> bool:
    return prompt.language in (None, "en") and bool(lengths_asked(_question(prompt)))


def check(prompt: Prompt, rollout: Rollout) -> Verdict:
    asked = lengths_asked(_question(prompt))
    text = rollout.text or ""
    found = {one.unit: _COUNTED[one.unit](text) for one in asked}
    kept = all(one.least <= found[one.unit] <= one.most for one in asked)
    shown = ", ".join(f"{found[one.unit]} {one.unit}s for {one.least:g} to {one.most:g}" for one in asked)
    return check_result(rollout, name, float(kept), shown)


def lengths_asked(question: str) -> tuple[Length, ...]:
    """At most one for each unit, in the order in which they are asked for."""
    flat = " ".join(question.split())
    found: dict[str, list[Length]] = {}
    taken: list[tuple[int, int]] = []
    for pattern, meant in _PHRASES:
        for match in pattern.finditer(flat):
            if any(match.start() < end and start < match.end() for start, end in taken):
                continue
            taken.append(match.span())
            *numbers, unit = match.groups()
            unit = unit.lower().rstrip("s")
            of_a_part = _PARTS.search(flat[: match.start()].lower()) or _AFTER_PARTS.match(flat[match.end() :].lower())
            first, second = _number(numbers[0]), _number(numbers[-1])
            if not of_a_part:
                found.setdefault(unit, []).append(meant(unit, first, second))
    alone = (each[0] for each in found.values() if len(each) == 1)
    return tuple(one for one in alone if one.least <= one.most)


def _number(written: str) -> int:
    spelled = _SPELLED.get(written.lower())
    return int(written.replace(",", "")) if spelled is None else spelled


def _question(prompt: Prompt) -> str:
    return next((message.content for message in reversed(prompt.messages) if message.role is Role.USER), "")
