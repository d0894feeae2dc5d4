"""What a model wrote, as a person may see it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.looking.harmless import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\nlines", "plain\nlines"),
        ("a\x00b\x1b[31m", "a\\x00b\\x1b[31m"),
        ("\u202egnorw", "\\u202egnorw"),
        ("\U000e0041", "\\U000e0041"),
        ("mi\u200cxam می\u200cخواهم", "mi\u200cxam می\u200cخواهم"),
        ("wide\u00a0space", "wide\u00a0space"),
    ],
)
def test_visible_shows_what_would_be_obeyed(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text())
def test_visible_text_stays_as_it_is(text: str) -> None:
    assert visible(visible(text)) == visible(text)
