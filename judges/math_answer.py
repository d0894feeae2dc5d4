"""The verifier of final results: is the answer's last value equal to the reference's?

math-verify parses and compares. Of a text without a marked formula it reads what follows the last word "answer", also where
that word stands in the reasoning ("convert the answer to weeks: 28 days"); so where the last line says by a label what
the result is (`#### 4`, `A: 4`, `Answer: 4`), that line alone is read. Its own time limit rests on SIGALRM, which works
in a main thread only, and is switched off here. The rule that must not break: `check` can run for ever (`9**9**9**9`), so
it belongs into a process that can be killed, never into the factory's own.
"""

import logging
import re
from collections.abc import Sequence

from judges.base import check_result, no_score
from judges.tool_calls import expected_calls
from schemas.rows import Prompt, Rollout, Verdict, VerdictStatus

name = "math_answer"
proves = True

_SHOWN_CHARS = 80
_MARKED = re.compile(r"\$|\\\(|\\\[|\\boxed")
_RESULT = re.compile(r"(?:#{4}|[\s*_#>-]*(?:A|(?i:(?:the\s+)?(?:final\s+)?answer))[\s*_]*:)(?P<result>.+)")
_WORD = re.compile(r"(?<!\\)\b[^\W\d_]{2,}")  # a LaTeX command is not a word


def objection(prompt: Prompt) -> str | None:
    return None


def applies(prompt: Prompt, rollout: Rollout) -> bool:
    return bool(prompt.answer and prompt.answer.strip()) and expected_calls(prompt) is None


def check(prompt: Prompt, rollout: Rollout) -> Verdict:
    """Abstains where there is no reference or no value in it; an answer without any value has failed."""
    expected = _values(_reference(prompt.answer or ""))
    if not expected:
        return no_score(rollout, name, VerdictStatus.ABSTAINED, "no value in the reference")
    text = rollout.text or ""
    found = _values(_result(text)) or _values(text)
    from math_verify import verify  # here and not above: slow to import (sympy)

    same = bool(verify(expected, found, timeout_seconds=None))
    return check_result(rollout, name, float(same), f"{_shown(found)} against {_shown(expected)}")


def _result(text: str) -> str:
    """What the last line gives as the result; the whole text where it gives none."""
    lines = text.strip().splitlines()
    labelled = _RESULT.fullmatch(lines[-1]) if lines else None
    return labelled["result"].strip("*_ ") if labelled else text


def _reference(answer: str) -> str:
    """The part that holds the value; a bare formula is marked as one, else half of it is lost."""
    value = _result(answer).strip()
    return value if _MARKED.search(value) or _WORD.search(value) else f"${value}$"


def _values(text: str) -> list[object]:
    """The last value of a text as math-verify reads it: the parsed form, then its characters; empty without one."""
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that the time limit is off, which is on purpose
    from math_verify import parse

    found: list[object] = parse(text, parsing_timeout=None)
    return found


def _shown(values: Sequence[object]) -> str:
    """Only characters that stood in the text: writing out a parsed number can take for ever."""
    characters = [value for value in values if isinstance(value, str)]
    return characters[-1][:_SHOWN_CHARS] if characters else "no value"
