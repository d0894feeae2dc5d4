"""The masked text against its definition, and the way back to the text."""

from hypothesis import given
from hypothesis import strategies as st

from factory.detector.masked import masked, unmasked


@given(st.text(st.characters() | st.sampled_from("0123 \n\tİß"), max_size=60))
def test_masked_text_is_a_fixed_point_and_never_longer(text: str) -> None:
    assert len(masked(text)) <= len(text)
    assert masked(masked(text)) == masked(text)


def test_masked_digits_case_and_white_space_are_folded() -> None:
    assert masked("12. The  Sea\r\n\n٣ İst 4.50") == "0. the sea 0 İst 0.0"


def by_hand(text: str) -> tuple[str, list[int]]:
    """The masked text character by character, and where each of its characters stands in the text."""
    out, places = "", list[int]()
    for at, character in enumerate(text):
        low = character.lower()
        fold = "0" if character.isdecimal() else " " if character.isspace() else low if len(low) == 1 else character
        if fold in "0 " and out.endswith(fold):
            continue
        out, places = out + fold, [*places, at]
    return out, places


MIXED = st.text(st.characters() | st.sampled_from("0123٣４ \n\t\r\u00a0\u3000İßẞKé让"), max_size=60)


@given(MIXED)
def test_masked_text_and_the_way_back_equal_the_definition(text: str) -> None:
    mask, places = by_hand(text)
    assert masked(text) == mask
    assert [unmasked(text, at) for at in range(len(mask))] == places
