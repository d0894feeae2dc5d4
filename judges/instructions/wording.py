"""IFEval's kinds about which words, letters and signs stand in the text, and in which case."""

import re
from collections.abc import Mapping, Sequence

from judges.instructions.reading import Check, Count, Relation, words
from judges.language import is_in

_COMMAS = frozenset(",，،")


def existence(text: str, *, keywords: Sequence[str]) -> bool:
    """Every keyword stands in the text, in any case, also as a part of a word."""
    return all(keyword.casefold() in text.casefold() for keyword in keywords)


def frequency(text: str, *, keyword: str, frequency: Count, relation: Relation) -> bool:
    """The keyword stands there so often, in any case, also as a part of a word."""
    return relation.holds(text.casefold().count(keyword.strip().casefold()), frequency)


def forbidden_words(text: str, *, forbidden_words: Sequence[str]) -> bool:
    """None of them stands there as a word of its own, in any case."""
    return not any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) for word in forbidden_words)


def letter_frequency(text: str, *, letter: str, let_frequency: Count, let_relation: Relation) -> bool:
    """The letter (or sign) stands there so often, in any case."""
    return let_relation.holds(text.casefold().count(letter.casefold()), let_frequency)


def response_language(text: str, *, language: str) -> bool | None:
    """The whole text is in this language (ISO 639-1); not told of a text too short to tell."""
    return is_in(language, text)[0]


def capital_word_frequency(text: str, *, capital_frequency: Count, capital_relation: Relation) -> bool:
    """So many words are in capitals throughout."""
    return capital_relation.holds(sum(map(str.isupper, words(text))), capital_frequency)


def english_capital(text: str) -> bool:
    """English in capital letters alone."""
    return text.isupper() and is_in("en", text.lower())[0] is not False


def english_lowercase(text: str) -> bool:
    """English in small letters alone."""
    return text.islower() and is_in("en", text)[0] is not False


def no_comma(text: str) -> bool:
    """No comma, the full-width and the Arabic one included."""
    return _COMMAS.isdisjoint(text)


def end_checker(text: str, *, end_phrase: str) -> bool:
    """Ends with exactly this phrase, in any case; a closing quotation mark may follow."""
    return text.strip().strip('"').casefold().endswith(end_phrase.strip().casefold())


def quotation(text: str) -> bool:
    """The whole text is wrapped in double quotation marks."""
    stripped = text.strip()
    return len(stripped) > 1 and stripped[0] == stripped[-1] == '"'


KINDS: Mapping[str, Check] = {
    "keywords:existence": existence,
    "keywords:frequency": frequency,
    "keywords:forbidden_words": forbidden_words,
    "keywords:letter_frequency": letter_frequency,
    "language:response_language": response_language,
    "change_case:capital_word_frequency": capital_word_frequency,
    "change_case:english_capital": english_capital,
    "change_case:english_lowercase": english_lowercase,
    "punctuation:no_comma": no_comma,
    "startend:end_checker": end_checker,
    "startend:quotation": quotation,
}
