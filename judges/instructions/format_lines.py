"""IFBench, `format:*`, across lines: bullets, stairs, one word a line, sections with a thesis."""

import re
from collections.abc import Mapping
from itertools import pairwise

from judges.instructions.english import chunks, spelled
from judges.instructions.reading import Check, lines, sentences

_COMMON_BULLETS = ("* ", "- ", "+ ", "• ")
_BULLET = re.compile(r"\s*\*\s+\S")
_SUB_BULLET = re.compile(r"\s*-\s+\S")
_HEADING = re.compile(r"\s*(?:#{1,6}\s.*|\*\*[^*]+\*\*:?|<(h[1-6]|b|strong)\b[^>]*>.*</\1>:?)\s*", re.IGNORECASE)
_PLAIN_HEADING = re.compile(
    r"\s*[^\W\d_].*[^\s.!?…;,>]\s*"
)  # only where a blank line, or the text's start, is above it
_PLAIN_HEADING_WORDS = 10
_THESIS = re.compile(
    r"(?:\s*<(?!/?(?:i|em)\b)[^<>]*>)*\s*<(i|em)\b[^<>]*>(?P<thesis>.*?)</\1\s*>(?P<rest>.*)", re.IGNORECASE | re.DOTALL
)
_TAG = re.compile(r"<[^<>]*>")


def list_(text: str, *, sep: str) -> bool:
    """At least two lines are items that start with the given mark, and none is a bullet of the common kind."""
    found, mark = [line.strip() for line in lines(text)], sep.strip()
    items = [line for line in found if line.startswith(mark) and chunks(line[len(mark) :])]
    others = [line for line in found if line.startswith(_COMMON_BULLETS) and not line.startswith(mark)]
    return bool(mark) and len(items) > 1 and not others


def sub_bullets(text: str) -> bool:
    """There are bullets marked with `*`, and below each, before the next, one marked with `-`."""
    marks = [bool(_BULLET.match(line)) for line in lines(text) if _BULLET.match(line) or _SUB_BULLET.match(line)]
    return any(marks) and not marks[-1] and not any(one and other for one, other in pairwise(marks))


def no_bullets_bullets(text: str) -> bool:
    """At least two sentences that end with a period, then at least two bullets marked with `*`."""
    found = lines(text)
    bullets = [place for place, line in enumerate(found) if _BULLET.match(line)]
    before = [sentence for line in found[: bullets[0]] for sentence in sentences(line)] if bullets else []
    return len(bullets) > 1 and sum(sentence.rstrip("*_\"'”’)").endswith(".") for sentence in before) > 1


def newline(text: str) -> bool:
    """Each word has a line of its own."""
    counts = [len(spelled(line)) for line in lines(text)]
    return max(counts, default=0) == 1


def line_indent(text: str) -> bool:
    """Each line is indented further than the one above it."""
    indents = [len(line) - len(line.lstrip()) for line in map(str.expandtabs, lines(text))]
    return len(indents) > 1 and all(one < other for one, other in pairwise(indents))


def thesis(text: str) -> bool:
    """Each section starts with a statement in `<i>` or `<em>`, and goes on after it; headings part the sections."""
    bodies = [body for body in _sections(text) if chunks(_TAG.sub(" ", body))]
    return bool(bodies) and all(map(_has_thesis, bodies))


def _has_thesis(body: str) -> bool:
    found = _THESIS.match(body)
    return found is not None and all(chunks(_TAG.sub(" ", found[part])) for part in ("thesis", "rest"))


def _sections(text: str) -> list[str]:
    """What stands below each heading; where there is something above the first one, that too."""
    parts: list[list[str]] = [[]]
    above = ""
    for line in text.splitlines():
        if _is_heading(line, above):
            parts.append([])
        else:
            parts[-1].append(line)
        above = line
    return ["\n".join(part) for part in parts]


def _is_heading(line: str, above: str) -> bool:
    if _HEADING.fullmatch(line):
        return True
    short = not above.strip() and len(line.split()) <= _PLAIN_HEADING_WORDS
    return short and _PLAIN_HEADING.fullmatch(line) is not None


KINDS: Mapping[str, Check] = {
    "format:list": list_,
    "format:sub-bullets": sub_bullets,
    "format:no_bullets_bullets": no_bullets_bullets,
    "format:newline": newline,
    "format:line_indent": line_indent,
    "format:thesis": thesis,
}
