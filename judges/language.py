"""The verifier of the answer's language: is it the one that the prompt declares?

It can only veto. It abstains on what is short, on code, and wherever the detector is not sure. A text is read in parts,
since the detector is sure of a text in two languages as well: an answer that quotes a poem must not fail by that.

lingua runs in its low-accuracy mode with every language that it knows. That mode reads trigrams alone, which is as good
on texts of the length that is checked here; with all languages it holds 70 MB and wakes in half a second, where the
full models of all of them take 900 MB and 9 s. Leaving languages out would be cheaper still, and wrong: an answer in a
language that the detector was not told of is taken for one of those that it was.
"""

import math
import re
from functools import cache
from typing import TYPE_CHECKING

from judges.base import check_result, no_score
from schemas.rows import Prompt, Rollout, Verdict, VerdictStatus

if TYPE_CHECKING:
    from lingua import LanguageDetector

name = "language"
proves = False

SMALLEST_BYTES = 120  # of letters in UTF-8: 120 in English, 60 in Russian, 40 in Chinese
SMALLEST_LETTER_SHARE = 0.75  # of what is not white space; code and tables lie under it, prose near 0.95
SURE = 0.99  # how sure the detector must be of a part's language; it calls a list of first names Latin at 0.92
FAILS = 0.8  # of the parts in other languages
PASSES = 0.5  # of the parts in the declared one
READ_CHARS = 8000

# Written so alike, or declared so loosely, that a detector's choice among them says nothing.
_ALIKE = (
    frozenset({"no", "nb", "nn", "da"}),
    frozenset({"sh", "hr", "bs", "sr"}),
    frozenset({"id", "ms"}),
)
_NOT_PROSE = re.compile(
    r"(?s:```.*?(?:```|\Z))|`[^`\n]*`|https?://\S+|<\|[^<>\n]{0,64}\|>"
    r"|^(?: {4}|\t).*$|^.*(?:[;{}]|\):)[ \t]*$",  # lines that are indented, or end as statements do
    re.MULTILINE,
)


def objection(prompt: Prompt) -> str | None:
    return None


def applies(prompt: Prompt, rollout: Rollout) -> bool:
    return bool(prompt.language) and _is_enough(_prose(rollout.text or ""))


def check(prompt: Prompt, rollout: Rollout) -> Verdict:
    if not prompt.language or not applies(prompt, rollout):
        return no_score(rollout, name, VerdictStatus.ABSTAINED)
    told, compared = is_in(prompt.language, rollout.text or "")
    if told is None:
        return no_score(rollout, name, VerdictStatus.ABSTAINED, compared)
    return check_result(rollout, name, float(told), compared)


def is_in(language: str, text: str) -> tuple[bool | None, str]:
    """Whether a text is in the language (ISO 639-1), None where that cannot be told; and what was found, in words."""
    wanted = _family(language)
    if not wanted & _known():
        return None, f"{language} is not known"
    prose = _prose(text)
    if not _is_enough(prose):
        return None, "too short to tell"
    found = [_language_of(part) for part in _parts(prose)]
    here = sum(code in wanted for code in found) / len(found)
    elsewhere = sum(code is not None and code not in wanted for code in found) / len(found)
    told = False if elsewhere >= FAILS else True if here >= PASSES else None
    return told, f"{language} {here:.2f}, others {elsewhere:.2f} of {len(found)} parts"


def _language_of(part: str) -> str | None:
    """ISO 639-1 code; None where the detector is not sure."""
    best = _detector().compute_language_confidence_values(part)[0]
    return best.language.iso_code_639_1.name.lower() if best.value >= SURE else None


def _is_enough(prose: str) -> bool:
    enough = _letter_bytes(prose) >= SMALLEST_BYTES
    return enough and sum(map(str.isalpha, prose)) >= SMALLEST_LETTER_SHARE * _marks(prose)


def _parts(prose: str) -> list[str]:
    """Pieces of one length, each with about SMALLEST_BYTES of letters."""
    size = math.ceil(len(prose) / max(1, _letter_bytes(prose) // SMALLEST_BYTES))
    return [prose[start : start + size] for start in range(0, len(prose), size)]


def _letter_bytes(text: str) -> int:
    return len("".join(filter(str.isalpha, text)).encode())


def _family(language: str) -> frozenset[str]:
    """The codes that count as the declared one; `pt-BR` is `pt`."""
    code = re.split(r"[-_]", language.strip().lower())[0]
    return next((alike for alike in _ALIKE if code in alike), frozenset({code}))


def _prose(text: str) -> str:
    """Without code, addresses and special tokens; cut to READ_CHARS, which is plenty to tell."""
    return _NOT_PROSE.sub(" ", text)[:READ_CHARS].encode(errors="ignore").decode()


def _marks(text: str) -> int:
    """How many characters are not white space. Combining marks count as letters' parts, not as symbols."""
    return sum(1 for one in text if one.isalpha() or (one.isascii() and not one.isspace()))


@cache
def _detector() -> "LanguageDetector":
    from lingua import LanguageDetectorBuilder  # 100 MB of models in its library: loaded where it is needed

    return LanguageDetectorBuilder.from_all_languages().with_low_accuracy_mode().build()


@cache
def _known() -> frozenset[str]:
    from lingua import Language

    return frozenset(language.iso_code_639_1.name.lower() for language in Language.all())
