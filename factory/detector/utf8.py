"""UTF-8 and the characters in it. The detector searches bytes and speaks of characters; both directions are here."""

from typing import Final

CONTINUATION: Final = bytes(range(0x80, 0xC0))  # the bytes that start no character


def utf8(text: str) -> bytes:
    """Every Python text has one, lone surrogates too."""
    return text.encode(errors="surrogatepass")


def decoded(raw: bytes) -> str:
    """The text of which `raw` is the UTF-8. Raises UnicodeDecodeError where it is none."""
    return raw.decode(errors="surrogatepass")


def character_at(raw: bytes, place: int) -> int:
    """The index of the first character that starts at or after byte `place`."""
    return place if raw.isascii() else len(raw[:place].translate(None, CONTINUATION))


def next_character(raw: bytes, place: int) -> int:
    """The first byte from `place` on that starts a character, or the end."""
    while place < len(raw) and raw[place] in CONTINUATION:
        place += 1
    return place


def last_character(raw: bytes, place: int) -> int:
    """The last byte up to `place` that starts a character."""
    while place > 0 and place < len(raw) and raw[place] in CONTINUATION:
        place -= 1
    return place
