"""How a text is read by every check: what counts as a word, a sentence, a paragraph, a line.

Words are runs of letters, digits and underscores, as IFEval counts them; sentences are found by the rules of their
language. Nothing here loads data from a network.
"""

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated

import sentencex
from pydantic import Field

Check = Callable[..., bool | None]
"""`check(text, **arguments)`: whether the text does what was asked; None where that cannot be told.

Arguments are keyword-only and annotated with the types that the data sets give them: text, whole numbers, lists of text.
One that is called `prompt` is no argument of the data set: it is given the prompt that the text answers.
"""

Count = Annotated[int, Field(ge=0)]

_WORD = re.compile(r"\w+")


class Relation(StrEnum):
    """How IFEval compares a count."""

    AT_LEAST = "at least"
    LESS_THAN = "less than"

    def holds(self, count: int, bound: int) -> bool:
        return count >= bound if self is Relation.AT_LEAST else count < bound


def words(text: str) -> list[str]:
    return _WORD.findall(text)


def sentences(text: str, language: str = "en") -> list[str]:
    """In order, stripped; `language` is an ISO 639-1 code.

    Marks alone are none, such as what closes bold type after a full stop.
    """
    return [found.strip() for found in sentencex.segment(language, text) if any(map(str.isalnum, found))]


def paragraphs(text: str) -> list[str]:
    """What blank lines part, stripped, without empty ones."""
    return [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]


def lines(text: str) -> list[str]:
    """Lines that are not blank, as they stand."""
    return [line for line in text.splitlines() if line.strip()]
