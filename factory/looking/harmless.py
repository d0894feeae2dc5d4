"""Words of a model or a server as a person may see them.

The rule that must not break: they are never obeyed. Control characters, marks that turn the direction of writing and what else
does not print are shown as what they are. Whoever writes HTML or a terminal's markup escapes that on top of this.
"""

import unicodedata

_HARMLESS = "\n\u200c\u200d"  # the two joiners are part of how Persian and emoji are written


def visible(text: str) -> str:
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character.isprintable() or character in _HARMLESS or unicodedata.category(character) == "Zs":
        return character
    if ord(character) < 0x100:
        return f"\\x{ord(character):02x}"
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"


def shortened(text: str, most: int) -> str:
    """At most so many characters of it, and how many more there are."""
    return text if len(text) <= most else f"{text[:most]} … and {len(text) - most:,} characters more"
