"""IFBench, `format:*`, within the line: brackets, quotes, cases, emoji, and answers of a fixed form."""

import re
import unicodedata
from collections.abc import Mapping
from string import punctuation

from emoji import emoji_list

from judges.instructions.english import MINOR_WORDS, chunks
from judges.instructions.reading import Check, sentences

BRACKET_LEVELS = 5
QUOTE_LEVELS = 3

_CLOSES = {")": "(", "]": "[", "}": "{"}
_KINDS_OF_QUOTE = {'"': '"', "“": '"', "”": '"', "'": "'", "‘": "'", "’": "'"}
_LABELS = {"My Answer:": "[answer]", "My Conclusion:": "[conclusion]", "Future Outlook:": "[outlook]"}


def parentheses(text: str) -> bool:
    """Brackets of any kinds, rightly closed, at least five levels deep."""
    nest = _Nest()
    for mark in text:
        if mark in "([{":
            nest.open(mark)
        elif mark in _CLOSES and nest.opened:
            if nest.opened[-1] == _CLOSES[mark]:
                nest.close()
            else:
                nest = _Nest(nest.deepest)
    return nest.deepest >= BRACKET_LEVELS


def quotes(text: str) -> bool:
    """Quotes within quotes, three levels deep, double and single ones by turns."""
    nest = _Nest()
    for place, mark in enumerate(text):
        kind = _KINDS_OF_QUOTE.get(mark)
        if kind is None or _is_apostrophe(text, place):
            continue
        within_same = nest.opened[-1:] == [kind]
        if _may_open(text, place) and (not within_same or text[place - 1 : place].isspace()):
            if within_same:
                nest.drop()  # never closed, so it was no quote
            nest.open(kind)
        elif within_same:
            nest.close()
        elif kind in nest.opened[-2:]:
            nest.drop()
            nest.close()
    return nest.deepest >= QUOTE_LEVELS


def quote_unquote(text: str) -> bool:
    """There is a phrase in double quotes, and words without quotes follow each one."""
    parts = re.split(r'["“”]', text)
    return len(parts) > 1 and len(parts) % 2 == 1 and all(chunks(part) for part in parts[2::2])


def options(text: str, *, options: str) -> bool:
    """One of the options and nothing else; an option with a bracket, `a)`, must be written so."""
    said = text.strip().replace("’", "'")
    allowed = {option.strip().replace("’", "'") for option in _split_options(options)} - {""}
    if all(option.endswith(")") for option in allowed):
        return said in allowed
    return _bare(said) in set(map(_bare, allowed)) - {""}


def emoji(text: str) -> bool:
    """Each sentence ends with an emoji, before or after its mark."""
    found = [sentence for sentence in sentences(text) if not all(map(_is_mark, sentence))]
    ends = [_ends_with_emoji(sentence) for sentence in found]
    starts = [_starts_with_emoji(sentence) for sentence in found[1:]]
    return bool(found) and all(end or start for end, start in zip(ends, [*starts, False], strict=True))


def title_case(text: str) -> bool:
    """Each word but articles, conjunctions and short prepositions has a capital, and not all letters have."""
    found = [word for word in (chunk.strip(punctuation + "“”‘’") for chunk in chunks(text)) if word[:1].isalpha()]
    if not found or text.isupper() or not found[0][0].isupper():
        return False
    return all(word in MINOR_WORDS or not word[0].islower() or _is_brand(word) for word in found)


def output_template(text: str) -> bool:
    """The three labels once each and in order, nothing before the first, something after each."""
    places = [text.find(label) for label in _LABELS]
    if min(places) < 0 or places != sorted(places) or any(text.count(label) > 1 for label in _LABELS):
        return False
    parts = re.split("|".join(map(re.escape, _LABELS)), text)
    filled = all(
        chunks(part) and part.strip() != blank for part, blank in zip(parts[1:], _LABELS.values(), strict=True)
    )
    return filled and not chunks(parts[0])


def no_whitespace(text: str) -> bool:
    """No white space at all, not even at the end."""
    return bool(text) and not any(map(str.isspace, text))


class _Nest:
    """Open marks, and how deep the deepest group is that was closed."""

    def __init__(self, deepest: int = 0) -> None:
        self.opened: list[str] = []
        self.deepest = deepest
        self._within: list[int] = []  # for each open mark, the depth of what it holds

    def open(self, mark: str) -> None:
        self.opened.append(mark)
        self._within.append(0)

    def close(self) -> None:
        self.opened.pop()
        depth = self._within.pop() + 1
        self.deepest = max(self.deepest, depth)
        if self._within:
            self._within[-1] = max(self._within[-1], depth)

    def drop(self) -> None:
        self.opened.pop()
        self._within.pop()


def _is_apostrophe(text: str, place: int) -> bool:
    return text[place] in "'’" and text[max(place - 1, 0) : place].isalnum() and text[place + 1 : place + 2].isalnum()


def _may_open(text: str, place: int) -> bool:
    before, after = text[max(place - 1, 0) : place], text[place + 1 : place + 2]
    return text[place] not in "”’" and not before.isalnum() and bool(after) and not after.isspace()


def _split_options(options: str) -> list[str]:
    return options.split("/") if "/" in options else re.split(r",\s*(?:or\s)?|\sor\s", options)


def _bare(text: str) -> str:
    return text.strip(punctuation + " ").casefold()


def _is_brand(word: str) -> bool:
    """As in iPhone."""
    return word[1:2].isupper() and not word[1:].isupper()


def _ends_with_emoji(sentence: str) -> bool:
    return any(all(map(_is_mark, sentence[found["match_end"] :])) for found in emoji_list(sentence)[-1:])


def _starts_with_emoji(sentence: str) -> bool:
    return any(all(map(_is_mark, sentence[: found["match_start"]])) for found in emoji_list(sentence)[:1])


def _is_mark(mark: str) -> bool:
    return mark.isspace() or unicodedata.category(mark).startswith("P")


KINDS: Mapping[str, Check] = {
    "format:parentheses": parentheses,
    "format:quotes": quotes,
    "format:quote_unquote": quote_unquote,
    "format:options": options,
    "format:emoji": emoji,
    "format:title_case": title_case,
    "format:output_template": output_template,
    "format:no_whitespace": no_whitespace,
}
