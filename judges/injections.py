"""Which texts speak to their judge or to a chat template instead of to the person who asked.

A guess by known wordings, in the languages of `judges.injection_words`, made to keep such a text from being chosen; what
keeps it harmless is the quoting (`judges.quoting`). The rule that must not break: a text that only talks of rules, grades
or judges is not accused. So words count together, in one sentence: told to forget the earlier rules, this answer to get
the top grade, a note to the judge. Patterns and text are folded alike before they meet.

Nearly every text holds none of these words, so `judges.injection_triggers` looks first for all that a pattern could begin
with, and the patterns read only the texts that it stops at.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from judges.injection_triggers import trigger
from judges.injection_words import DIGIT, WORDS, Words
from judges.quoting import visible

FORGET_REACH = 40  # characters from the verb to the last word of what is to be forgotten
GRADE_REACH = 100  # from "this answer" to either side

_MARKS = re.compile("[\u0300-\u036f\u0640\u064b-\u0652]")  # accents; Arabic vowel signs and the stroke that widens
_TAGS = {0xE0000 + code: code for code in range(0x20, 0x7F)}  # ASCII that no eye sees
_LOOKALIKES = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u03bf\u03b1\u03bd\u03c1\u0406\u0410\u0415\u041e\u0420\u0421",
    "aeopcyxijsdoavpIAEOPC",
)
_ANY_TAG = re.compile("[\U000e0020-\U000e007e]")
_ANY_LOOKALIKE = re.compile(f"[{''.join(map(chr, _LOOKALIKES))}]")
_OVERRIDE = "\u202e"  # what follows is shown right to left
_SENTENCE_END = re.compile(r"[.!?;\n\u3002\u0964]")

_TEMPLATE = re.compile(
    r"<[|\uff5c](?:im_start|im_end|im_sep|start_header_id|end_header_id|eot_id|eom_id|begin_of_text|end_of_text|startoftext|"
    r"endoftext|start|end|channel|message|return|system|user|assistant|start_of_role|end_of_role|start_of_turn_token|"
    r"end_of_turn_token|(?:begin|end)[_\u2581]of[_\u2581]sentence)[|\uff5c]>"
    r"|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<\|turn>|<turn\|>|\[\|(?:system|user|assistant|endofturn)\|\]"
    r"|^[^\w\n]*Answer\s+to\s+grade\s*:|\bby the rubric, (?:from 1 to 9|A or B)|\bearn by the rubric\b|^[^\w\n]*Digit: ?[1-9]$"
    r"|\[The (?:Start|End) of (?:the )?Assistant|^</?output_[ab]>|^[^\w\n]*(?:Rating|Verdict|Score)\W{1,4}\[\[\w{1,3}\]\]",
    re.IGNORECASE | re.MULTILINE,
)


def looks_injected(text: str) -> bool:
    """Whether a text speaks to its judge or to a chat template. What is hidden from the eye is read as well."""
    return any(_imitates(view) or _pleads(folded(view)) for view in _views(text))


def folded(text: str) -> str:
    """In lower case, compatible forms and accents as the plain letter: `Ｉgnorá` is `ignora`."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFKD", text.lower())))


def _views(text: str) -> Iterator[str]:
    """What is seen; what tag characters spell; what is seen from right to left; look-alikes as the letters they mimic."""
    seen = visible(text)
    yield seen
    if text.isascii():
        return
    if _ANY_TAG.search(text):
        yield visible(text.translate(_TAGS))
    if _OVERRIDE in text:
        yield seen[::-1]
    if _ANY_LOOKALIKE.search(seen):
        yield seen.translate(_LOOKALIKES)


@dataclass(frozen=True, slots=True)
class _Wording:
    forget: re.Pattern[str]
    earlier: re.Pattern[str]
    rules: re.Pattern[str]
    answer: re.Pattern[str]
    grade: re.Pattern[str]
    top: re.Pattern[str]
    judge: re.Pattern[str]
    verb_last: bool
    trigger: Callable[[bytes], object]

    def pleads(self, text: str) -> bool:
        if not self.trigger(text.encode()):
            return False
        return bool(self.judge.search(text)) or self._forgets(text) or self._begs(text)

    def _forgets(self, text: str) -> bool:
        for found in self.forget.finditer(text):
            after = _sentence_after(text, found.end(), FORGET_REACH)
            before = _sentence_before(text, found.start(), FORGET_REACH) if self.verb_last else ""
            if any(self.earlier.search(part) and self.rules.search(part) for part in (after, before)):
                return True
        return False

    def _begs(self, text: str) -> bool:
        for found in self.answer.finditer(text):
            before = _sentence_before(text, found.start(), GRADE_REACH)
            around = before + found[0] + _sentence_after(text, found.end(), GRADE_REACH)
            if self.grade.search(around) and self.top.search(around):
                return True
        return False


def _sentence_after(text: str, place: int, reach: int) -> str:
    end = _SENTENCE_END.search(text, place, place + reach)
    return text[place : end.start() if end else place + reach]


def _sentence_before(text: str, place: int, reach: int) -> str:
    return _SENTENCE_END.split(text[max(0, place - reach) : place])[-1]


def _pattern(words: str) -> re.Pattern[str]:
    return re.compile(folded(words))


def _wording(words: Words) -> _Wording:
    return _Wording(
        forget=_pattern(words.forget),
        earlier=_pattern(words.earlier),
        rules=_pattern(words.rules),
        answer=_pattern(words.answer),
        grade=_pattern(words.grade),
        top=_pattern(f"{words.top}|{DIGIT}"),
        judge=_pattern(words.judge),
        verb_last=words.verb_last,
        trigger=trigger(_beginnings(words)),
    )


def _beginnings(words: Words) -> list[str]:
    """What a text must hold before anything else in it matters."""
    return [folded(pattern) for pattern in (words.forget, words.answer, words.judge)]


_WORDINGS = tuple(map(_wording, WORDS.values()))
_ANY_PLEA = trigger(pattern for words in WORDS.values() for pattern in _beginnings(words))
_ANY_TEMPLATE = trigger([_TEMPLATE.pattern])


def _imitates(text: str) -> bool:
    """Special tokens of chat templates, and lines of the judges' own questions."""
    return bool(_ANY_TEMPLATE(text.encode()) and _TEMPLATE.search(text))


def _pleads(text: str) -> bool:
    return bool(_ANY_PLEA(text.encode())) and any(wording.pleads(text) for wording in _WORDINGS)
