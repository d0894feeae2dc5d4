"""Every kind of instruction by its id, and how one constraint of a prompt is read and checked.

The rule that must not break: an id that is not known, or arguments that do not fit it, are never a passed or a failed
check; `objection_to` says so before anything is spent.
"""

import difflib
import inspect
from collections.abc import Mapping
from functools import cache

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from judges.instructions import (
    counts,
    custom,
    custom_csv,
    custom_places,
    format_lines,
    formats,
    layout,
    ratios,
    repeats,
    sentence_games,
    word_games,
    word_places,
    wording,
)
from judges.instructions.reading import Check
from schemas.rows import Constraint, Prompt

_IFEVAL = (wording, layout)
_IFBENCH = (
    *(counts, ratios, word_games, word_places, sentence_games, formats, format_lines),
    *(custom, custom_csv, custom_places, repeats),
)
KINDS: Mapping[str, Check] = {kind: check for module in (*_IFEVAL, *_IFBENCH) for kind, check in module.KINDS.items()}


def objection_to(constraint: Constraint) -> str | None:
    """What is wrong with a constraint, and the mend, on one line; None for one that can be checked."""
    if constraint.id not in KINDS:
        near = difflib.get_close_matches(constraint.id, KINDS, n=1)
        return f"id: got {constraint.id!r}; " + (f"write {near[0]!r}" if near else "write an id of IFEval or IFBench")
    try:
        _arguments(KINDS[constraint.id]).model_validate_json(constraint.kwargs)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return f"kwargs.{'.'.join(map(str, first['loc']))}: {first['msg']} (for {constraint.id})"
    return None


def holds(constraint: Constraint, prompt: Prompt, text: str) -> bool | None:
    """Whether a text keeps a constraint; None where that cannot be told. An empty text keeps none.

    Raises KeyError for an id that is not known, and ValidationError for arguments that do not fit.
    """
    check = KINDS[constraint.id]
    arguments = _arguments(check).model_validate_json(constraint.kwargs)
    given = {name: getattr(arguments, name) for name in type(arguments).model_fields}
    if "prompt" in inspect.signature(check).parameters:
        given["prompt"] = prompt
    return check(text, **given) if text.strip() else False


@cache
def _arguments(check: Check) -> type[BaseModel]:
    """The check's keyword arguments as a model that refuses what is missing, does not fit, or is too much."""
    fields = {
        name: (parameter.annotation, ...)
        for name, parameter in inspect.signature(check, eval_str=True).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name != "prompt"
    }
    return create_model("Arguments", __config__=ConfigDict(extra="forbid"), **fields)  # type: ignore[call-overload,no-any-return]
