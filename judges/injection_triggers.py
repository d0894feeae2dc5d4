"""One automaton for many patterns: which texts are worth the reading.

RE2 reads a text once for all of them together, in time linear in the text whatever the text. It knows letters, digits and
their borders in ASCII alone, and looks neither ahead nor back. So what a pattern says of borders is left out here, and any
character stands for a kind of character. The rule that must not break: a trigger finds something wherever one of its
patterns does, and may find more.
"""

import re
from collections.abc import Callable, Iterable
from typing import Final

import re2

_ESCAPED: Final = re.compile(r"\\u([0-9a-f]{4})")
_KIND: Final = re.compile(r"\\[wWsSdD]|\[\^[^\]]*\]")
_LOOK: Final = re.compile(r"\(\?<?[=!][^()]*\)")
_BORDER: Final = re.compile(r"\\b|(?<![\[\\])\^")


def trigger(patterns: Iterable[str]) -> Callable[[bytes], object]:
    """A search of UTF-8, upper and lower case alike; what it finds is None or not None.

    The patterns are of Python's `re`, without parentheses inside a look ahead or back and without `$`.
    """
    wide = "|".join(f"(?:{_widened(pattern)})" for pattern in patterns)
    search: Callable[[bytes], object] = re2.compile(f"(?is){wide}".encode()).search
    return search


def _widened(pattern: str) -> str:
    plain = _ESCAPED.sub(lambda code: chr(int(code[1], 16)), pattern)
    return _KIND.sub(".", _BORDER.sub("", _LOOK.sub("", plain)))
