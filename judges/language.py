"""The verifier of the answer's language: is it the one that the prompt declares?

It can only veto. It abstains on what is short, on code, and wherever the detector is not sure.

lingua runs in its low-accuracy mode with every language that it knows. That mode reads trigrams alone, which is as good
on texts of the length that is checked here; with all languages it holds 70 MB and wakes in half a second, where the
full models of all of them take 900 MB and 9 s. Leaving languages out would be cheaper still, and wrong: an answer in a
language that the detector was not told of is taken for one of those that it was.
"""

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
SURE = 0.9  # how sure the detector must be of another language to fail an answer
READ_CHARS = 8000

# Written so alike, or declared so loosely, that a detector's choice among them says nothing.
_ALIKE = (
    frozenset({"no", "nb", "nn", "da"}),
    frozenset({"sh", "hr", "bs", "sr"}),
    frozenset({"id", "ms"}),
)
_NOT_PROSE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+|<\|[^<>\n]{0,64}\|>", re.DOTALL)


def applies(prompt: Prompt, rollout: Rollout) -> bool:
    if not prompt.language:
        return False
    prose = _prose(rollout.text or "")
    letters = "".join(filter(str.isalpha, prose))
    enough = len(letters.encode(errors="ignore")) >= SMALLEST_BYTES
    return enough and len(letters) >= SMALLEST_LETTER_SHARE * _marks(prose)


def check(prompt: Prompt, rollout: Rollout) -> Verdict:
    if not prompt.language or not applies(prompt, rollout):
        return no_score(rollout, name, VerdictStatus.ABSTAINED)
    wanted = _family(prompt.language)
    confidence = {
        found.language.iso_code_639_1.name.lower(): found.value
        for found in _detector().compute_language_confidence_values(_prose(rollout.text or ""))
    }
    if not wanted & confidence.keys():
        return no_score(rollout, name, VerdictStatus.ABSTAINED, f"{prompt.language} is not known")
    other = max(confidence.keys() - wanted, key=lambda code: (confidence[code], code))
    here = sum(confidence.get(code, 0.0) for code in wanted)
    compared = f"{prompt.language} {here:.2f}, {other} {confidence[other]:.2f}"
    if confidence[other] >= SURE:
        return check_result(rollout, name, 0.0, compared)
    if here >= SURE:
        return check_result(rollout, name, 1.0, compared)
    return no_score(rollout, name, VerdictStatus.ABSTAINED, compared)


def _family(language: str) -> frozenset[str]:
    """The codes that count as the declared one; `pt-BR` is `pt`."""
    code = re.split(r"[-_]", language.strip().lower())[0]
    return next((alike for alike in _ALIKE if code in alike), frozenset({code}))


def _prose(text: str) -> str:
    """Without code blocks, code spans, addresses and special tokens; cut to READ_CHARS, which is plenty to tell."""
    return _NOT_PROSE.sub(" ", text)[:READ_CHARS].encode(errors="ignore").decode()


def _marks(text: str) -> int:
    """How many characters are not white space. Combining marks count as letters' parts, not as symbols."""
    return sum(1 for one in text if one.isalpha() or (one.isascii() and not one.isspace()))


@cache
def _detector() -> "LanguageDetector":
    from lingua import LanguageDetectorBuilder  # 100 MB of models in its library: loaded where it is needed

    return LanguageDetectorBuilder.from_all_languages().with_low_accuracy_mode().build()
