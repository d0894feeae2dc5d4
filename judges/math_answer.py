"""The verifier of final results: is the answer's last value equal to the reference's?

math-verify parses and compares. Its own time limit rests on SIGALRM, which works in a main thread only, so it is
switched off here. The rule that must not break: `check` can run for ever (`9**9**9**9`), so it belongs into a process
that can be killed, never into the factory's own.
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
    found = _values(rollout.text or "")
    from math_verify import verify  # here and not above: slow to import (sympy)

    same = bool(verify(expected, found, timeout_seconds=None))
    return check_result(rollout, name, float(same), f"{_shown(found)} against {_shown(expected)}")


def _reference(answer: str) -> str:
    """The part that holds the value: what follows `####`; a bare formula is marked as one, else half of it is lost."""
    last = answer.rsplit("####", 1)[-1].strip()
    return last if _MARKED.search(last) or _WORD.search(last) else f"${last}$"


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
