"""Says in words what is wrong with a recipe's field and what to write instead, from the recipe's own schema.

The rule that must not break: every message ends in a mend, and never shows the value of a key that is not known (it
may be a secret in the wrong place).
"""

import difflib

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import ErrorDetails

from schemas.recipe import Recipe


class _Shape(BaseModel):
    """As much of the recipe's JSON schema as it takes to say what should have been written."""

    model_config = ConfigDict(extra="ignore")

    type: str = ""
    ref: str = Field(default="", alias="$ref")
    any_of: list["_Shape"] = Field(default=[], alias="anyOf")
    items: "_Shape | None" = None
    properties: dict[str, "_Shape"] = {}
    required: list[str] = []
    enum: list[str] = []
    pattern: str = ""
    least: float | None = Field(default=None, alias="minimum")
    most: float | None = Field(default=None, alias="maximum")
    above: float | None = Field(default=None, alias="exclusiveMinimum")
    below: float | None = Field(default=None, alias="exclusiveMaximum")
    shortest: int | None = Field(default=None, alias="minLength")
    fewest: int | None = Field(default=None, alias="minItems")
    longest: int | None = Field(default=None, alias="maxItems")
    definitions: dict[str, "_Shape"] = Field(default={}, alias="$defs")


_RECIPE = _Shape.model_validate(Recipe.model_json_schema())


def explain(error: ErrorDetails) -> str:
    """The message for one of pydantic's errors, without its place."""
    shape = _shape_at(error["loc"])
    match error["type"]:
        case "extra_forbidden":
            return _unknown(str(error["loc"][-1]), list(_shape_at(error["loc"][:-1]).properties))
        case "missing":
            return f"missing; write {_wanted(shape)}"
        case "value_error":
            value = "" if isinstance(error["input"], dict) else f"got {_shown(error['input'])}; "
            return f"{value}{error.get('ctx', {}).get('error', error['msg'])}"
        case "json_invalid":
            return f"cannot be read: {error['msg']}"
    return f"got {_shown(error['input'])}; write {_wanted(shape)}"


def _unknown(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"unknown key; did you mean `{close[0]}`?" if close else f"unknown key; known here: {_names(known)}"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "a mapping"
    text = repr(value)
    return "nothing" if value is None else text if len(text) <= 60 else f"{text[:57]}…"


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _open(shape: _Shape) -> _Shape:
    """The shape itself, where it is a reference or one of two with null."""
    if shape.ref:
        return _RECIPE.definitions[shape.ref.removeprefix("#/$defs/")]
    for choice in shape.any_of:
        if choice.type != "null":
            return _open(choice)
    return shape


def _shape_at(location: tuple[int | str, ...]) -> _Shape:
    shape = _RECIPE
    for step in location:
        inside = shape.items if isinstance(step, int) else shape.properties.get(step)
        shape = _open(inside or _Shape())
    return shape


def _wanted(shape: _Shape) -> str:
    match shape.type:
        case "number" | "integer":
            return f"a {'whole ' if shape.type == 'integer' else ''}number{_range(shape)}"
        case "boolean":
            return "true or false"
        case "array":
            return f"a list{_length(shape)}"
        case "object":
            return f"a mapping with {_names(shape.required or list(shape.properties))}"
        case "string" if shape.enum:
            return f"one of {_names(shape.enum)}"
        case "string" if shape.pattern:
            return f"a text of the form {shape.pattern}"
    return "a text that is not empty" if shape.shortest else "a text (in quotes, if it looks like something else)"


def _range(shape: _Shape) -> str:
    low = f" from {shape.least:.12g}" if shape.least is not None else ""
    low = f" above {shape.above:.12g}" if shape.above is not None else low
    high = f"{' to' if shape.least is not None else ' and up to'} {shape.most:.12g}" if shape.most is not None else ""
    high = f" and below {shape.below:.12g}" if shape.below is not None else high
    return low + high if high else low.replace(" from ", " of at least ")


def _length(shape: _Shape) -> str:
    fewest = f" of at least {shape.fewest}" if shape.fewest else ""
    return fewest or (f" of at most {shape.longest}" if shape.longest else "")
