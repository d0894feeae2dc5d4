"""Which judges and verifiers there are, by name.

The tables are written out, so that a name in a recipe leads here and from here to one file. The rule that must not
break: the key is the name of the object and of its file.
"""

import difflib
from collections.abc import Iterable

from judges import clarity, correctness, helpfulness, language, math_answer
from judges.base import Judge, Verifier
from schemas.errors import RecipeError

JUDGES: dict[str, Judge] = {
    "helpfulness": helpfulness.JUDGE,
    "correctness": correctness.JUDGE,
    "clarity": clarity.JUDGE,
}

VERIFIERS: dict[str, Verifier] = {
    "math_answer": math_answer,
    "language": language,
}


def find_judge(name: str) -> Judge:
    """Raises RecipeError with the nearest known name."""
    if name not in JUDGES:
        raise RecipeError(_unknown("jury.judges", name, JUDGES))
    return JUDGES[name]


def find_verifier(name: str) -> Verifier:
    """Raises RecipeError with the nearest known name."""
    if name not in VERIFIERS:
        raise RecipeError(_unknown("jury.verifiers", name, VERIFIERS))
    return VERIFIERS[name]


def _unknown(field: str, name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
    return f"{field}: {name!r} is not known; {hint}"
