"""Which judges and verifiers there are, by name.

The tables are written out, so that a name in a recipe leads here and from here to one file. The rule that must not
break: the key is the name of the object and of its file.
"""

import difflib
from collections.abc import Iterable
from dataclasses import replace

from judges import (
    clarity,
    code,
    constraints,
    correctness,
    helpfulness,
    json_answer,
    language,
    length_asked,
    math_answer,
    reward_model,
    tool_calls,
)
from judges.base import Judge, Verifier
from judges.listwise import ListwiseJudge
from judges.pairwise import PairwiseJudge
from judges.pointwise import PointwiseJudge
from judges.reward_model import RewardModel
from schemas.errors import RecipeError
from schemas.recipe import JudgeRef

JUDGES: dict[str, PointwiseJudge | RewardModel] = {
    "helpfulness": helpfulness.JUDGE,
    "correctness": correctness.JUDGE,
    "clarity": clarity.JUDGE,
    "reward_model": reward_model.JUDGE,
}

VERIFIERS: dict[str, Verifier] = {
    "math_answer": math_answer,
    "constraints": constraints,
    "json_answer": json_answer,
    "tool_calls": tool_calls,
    "code": code,
    "language": language,
    "length_asked": length_asked,
}


def seated(ref: JudgeRef, rubric: str | None = None) -> Judge:
    """The judge of a recipe's seat, asked as the seat says; `rubric` stands in the place of its own words.

    Raises RecipeError for a name that is not known, and for a reward model that is told how to grade.
    """
    judge = find_judge(ref.judge)
    if isinstance(judge, RewardModel):
        if rubric is not None or ref.samples > 1 or ref.thinking_tokens or ref.protocol != "pointwise":
            raise RecipeError(
                f"jury.judges: {ref.seat!r} is a reward model: it has no rubric, protocol, samples or thinking_tokens; "
                "leave them out"
            )
        return replace(judge, name=ref.seat)
    protocol = ListwiseJudge if ref.protocol == "listwise" else PointwiseJudge
    return protocol(ref.seat, rubric or judge.rubric, ref.samples, ref.thinking_tokens)


def confirming(ref: JudgeRef, rubric: str | None = None) -> PairwiseJudge | None:
    """The judge that compares the final pair for a seat; None for a reward model, which compares nothing."""
    judge = find_judge(ref.judge)
    return None if isinstance(judge, RewardModel) else PairwiseJudge(ref.seat, rubric or judge.rubric)


def find_judge(name: str) -> PointwiseJudge | RewardModel:
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
