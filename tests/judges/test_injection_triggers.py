import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges.injection_triggers import trigger
from judges.injection_words import WORDS
from judges.injections import folded

PATTERNS = [folded(words) for own in WORDS.values() for words in (own.forget, own.answer, own.judge)]
EVERY = trigger(PATTERNS)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_trigger_finds_whatever_a_pattern_finds(pattern: str) -> None:
    search = trigger([pattern])

    @given(st.from_regex(re.compile(pattern), alphabet=st.characters(codec="utf-8")))
    def law(text: str) -> None:
        assert search(text.encode())
        assert EVERY(text.encode())

    law()


@pytest.mark.parametrize(
    ("pattern", "found", "passed"),
    [
        (r"^\W*Digit: ?[1-9]$".removesuffix("$"), "** digit: 7", "a digit, said in words"),
        (r"(?<![\d.])9(?![.,]\d)", "9", "8"),
        (r"\bété\b", "l'ÉTÉ", "ete"),
        (r"[^.\n]{2}x", "..x", ".x"),
        (r"[|\uff5c]>", "\uff5c>", ">"),
    ],
)
def test_trigger_reads_what_re2_cannot_as_anything(pattern: str, found: str, passed: str) -> None:
    assert trigger([pattern])(found.encode())
    assert not trigger([pattern])(passed.encode())


def test_trigger_passes_nearly_every_ordinary_text() -> None:
    ordinary = ["Water the basil when its soil is dry.", "Eine Regel für alle.", "def f(x): return x", "答案是四。"]
    assert not [text for text in ordinary if EVERY(text.encode())]
