"""The masked text: what is left when numbers, case and white space no longer tell two copies apart.

The rule that must not break: a character of the masked text stands for one or more of the text, in order, so that every
place in it can be found again in the text (`unmasked`).
"""

import re
from typing import Final

from factory.detector.utf8 import decoded, utf8

_DIGITS: Final = b"0123456789"
_SPACES: Final = b"\t\n\v\f\r\x1c\x1d\x1e\x1f "
_FOLDED: Final = bytes.maketrans(_DIGITS + _SPACES, b"0" * len(_DIGITS) + b" " * len(_SPACES))
_OTHER: Final = re.compile(r"([^\D\x00-\x7f])|[^\S\x00-\x7f]")  # digits and white space beyond ASCII
_FOLDS: Final = re.compile(r"\d+|\s+")


def masked(text: str) -> str:
    """The text with digit runs as `0`, in lower case, and with runs of white space as one blank."""
    return decoded(masked_bytes(utf8(text)))


def masked_bytes(raw: bytes) -> bytes:
    """The masked text of UTF-8, as UTF-8."""
    if raw.isascii():
        folded = raw.lower()
    else:
        lowered = _lowered(decoded(raw))
        folded = utf8(_OTHER.sub(lambda match: "0" if match[1] else " ", lowered))
    return _squeezed(_squeezed(folded.translate(_FOLDED), b"0"), b" ")


def _squeezed(raw: bytes, symbol: bytes) -> bytes:
    """Runs of the symbol as one. Each round halves the runs, so the work is linear."""
    while symbol * 2 in raw:
        raw = raw.replace(symbol * 2, symbol)
    return raw


def _lowered(text: str) -> str:
    """Lower case of the same length: the few characters that grow (İ) stay as they are."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(low if len(low := character.lower()) == 1 else character for character in text)


def unmasked(text: str, place: int) -> int:
    """Where the character at `place` of the masked text stands in `text`."""
    folded = 0
    for match in _FOLDS.finditer(text):
        if match.start() - folded >= place:
            break
        folded += len(match[0]) - 1
    return place + folded
