"""IFEval's kinds about how long the text is and which parts it has."""

import json
import re
from collections.abc import Mapping

from judges.instructions.reading import Check, Count, Relation, sentences, words
from schemas.rows import Prompt

_FIXED_ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_FENCED = re.compile(r"\A```(?:json)?\s*\n?(.*?)\n?```\Z", re.DOTALL | re.IGNORECASE)
_POSTSCRIPTS = {"P.S.": r"p\.\s?s\.", "P.P.S": r"p\.\s?p\.\s?s"}  # as the data set writes them, with or without a space


def number_sentences(text: str, *, prompt: Prompt, num_sentences: Count, relation: Relation) -> bool:
    """So many sentences, by the rules of the prompt's language."""
    return relation.holds(len(sentences(text, prompt.language or "en")), num_sentences)


def number_words(text: str, *, num_words: Count, relation: Relation) -> bool:
    """So many words."""
    return relation.holds(len(words(text)), num_words)


def number_paragraphs(text: str, *, num_paragraphs: Count) -> bool:
    """Exactly so many paragraphs, parted by ***; none of them empty."""
    parts = [part.strip() for part in text.strip().split("***")]
    inner = parts[not parts[0] : len(parts) - (not parts[-1])]
    return all(inner) and len(inner) == num_paragraphs


def nth_paragraph_first_word(text: str, *, num_paragraphs: Count, nth_paragraph: Count, first_word: str) -> bool:
    """So many paragraphs, parted by two line breaks, and the nth begins with this word (in any case)."""
    parts = [part.strip() for part in text.split("\n\n") if part.strip()]
    if len(parts) != num_paragraphs or not 1 <= nth_paragraph <= len(parts):
        return False
    found = re.match(r"[\W_]*([^\s.,!?\"]+)", parts[nth_paragraph - 1])
    return found is not None and found[1].strip("'\"").casefold() == first_word.strip().casefold()


def number_placeholders(text: str, *, num_placeholders: Count) -> bool:
    """At least so many placeholders in square brackets."""
    return len(re.findall(r"\[[^\[\]\n]*\]", text)) >= num_placeholders


def postscript(text: str, *, postscript_marker: str) -> bool:
    """A postscript that begins with the marker."""
    marker = postscript_marker.strip()
    return re.search(_POSTSCRIPTS.get(marker, re.escape(marker)), text, re.IGNORECASE) is not None


def number_bullet_lists(text: str, *, num_bullets: Count) -> bool:
    """Exactly so many Markdown bullet points, * or -."""
    return len(re.findall(r"^[ \t]*(?:\*(?!\*)|-)[^\n]", text, re.MULTILINE)) == num_bullets


def constrained_response(text: str) -> bool:
    """One of the three fixed answers stands there."""
    return any(answer in text for answer in _FIXED_ANSWERS)


def number_highlighted_sections(text: str, *, num_highlights: Count) -> bool:
    """At least so many parts that Markdown highlights, *so* or **so**."""
    found = re.findall(r"(?<!\*)(\*{1,3})(?!\*)([^*\n]+)\1(?!\*)", text)
    return sum(bool(inner.strip()) for _, inner in found) >= num_highlights


def multiple_sections(text: str, *, section_spliter: str, num_sections: Count) -> bool:
    """At least so many sections that begin with the word and a number."""
    return len(re.findall(rf"{re.escape(section_spliter.strip())}\s?\d+", text)) >= num_sections


def json_format(text: str) -> bool:
    """The whole text is JSON; a code fence around it is allowed."""
    fenced = _FENCED.match(text.strip())
    try:
        json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return False
    return True


def title(text: str) -> bool:
    """A title wrapped in double angular brackets."""
    return any(inner.strip() for inner in re.findall(r"<<([^\n<>]+)>>", text))


def two_responses(text: str) -> bool:
    """Two different answers, parted by six asterisks."""
    parts = [part.strip() for part in text.strip().split("******")]
    inner = parts[not parts[0] : len(parts) - (not parts[-1])]
    return len(inner) == 2 and all(inner) and inner[0] != inner[1]


def repeat_prompt(text: str, *, prompt_to_repeat: str) -> bool:
    """The request is repeated first, word for word (in any case)."""
    return text.strip().casefold().startswith(prompt_to_repeat.strip().casefold())


KINDS: Mapping[str, Check] = {
    "length_constraints:number_sentences": number_sentences,
    "length_constraints:number_words": number_words,
    "length_constraints:number_paragraphs": number_paragraphs,
    "length_constraints:nth_paragraph_first_word": nth_paragraph_first_word,
    "detectable_content:number_placeholders": number_placeholders,
    "detectable_content:postscript": postscript,
    "detectable_format:number_bullet_lists": number_bullet_lists,
    "detectable_format:constrained_response": constrained_response,
    "detectable_format:number_highlighted_sections": number_highlighted_sections,
    "detectable_format:multiple_sections": multiple_sections,
    "detectable_format:json_format": json_format,
    "detectable_format:title": title,
    "combination:two_responses": two_responses,
    "combination:repeat_prompt": repeat_prompt,
}
