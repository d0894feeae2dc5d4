"""The verifier of JSON answers: is the whole answer JSON that fits the prompt's schema?

The schema is a constraint of the prompt: `{"id": "json:schema", "kwargs": {"schema": {...}}}`. A code fence around the
answer is allowed, other words around it are not. A schema's references are looked up inside it alone, never fetched.
"""

import json
import re
from functools import lru_cache

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, best_match
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from referencing import Registry

from judges.base import check_result
from schemas.rows import Prompt, Rollout, Verdict

name = "json_answer"
proves = True

KIND = "json:schema"
_SHOWN_CHARS = 120
_FENCED = re.compile(r"\A```\w*[ \t]*\n(.*?)\n?```\Z", re.DOTALL)


def objection(prompt: Prompt) -> str | None:
    for number, constraint in enumerate(prompt.constraints):
        if constraint.id != KIND:
            continue
        schema = json.loads(constraint.kwargs).get("schema")
        if found := schema_objection(schema):
            return f"constraints.{number}.kwargs.schema: {found}"
    return None


def schema_objection(schema: object) -> str | None:
    """What is wrong with a JSON schema, on one line."""
    if not isinstance(schema, dict):
        return "write a JSON schema, as a mapping"
    try:
        validator_for(schema, Draft202012Validator).check_schema(schema)
    except SchemaError as error:
        return " ".join(error.message.split())[:_SHOWN_CHARS]
    return None


def applies(prompt: Prompt, rollout: Rollout) -> bool:
    return any(constraint.id == KIND for constraint in prompt.constraints)


def check(prompt: Prompt, rollout: Rollout) -> Verdict:
    try:
        value = read_json(rollout.text or "")
    except ValueError as error:
        return check_result(rollout, name, 0.0, f"no JSON: {error}"[:_SHOWN_CHARS])
    for constraint in prompt.constraints:
        if constraint.id == KIND and (found := misfit(value, json.dumps(json.loads(constraint.kwargs)["schema"]))):
            return check_result(rollout, name, 0.0, found)
    return check_result(rollout, name, 1.0, "fits")


def read_json(text: str) -> object:
    """The value that a text is, with or without a code fence. Raises ValueError; NaN and Infinity are no JSON."""
    stripped = text.strip()
    fenced = _FENCED.match(stripped)
    try:
        return json.loads(fenced[1] if fenced else stripped, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is no JSON value")


def misfit(value: object, schema: str) -> str | None:
    """Where a value does not fit a schema (as JSON text), and why, on one line; None where it fits.

    Raises referencing.exceptions.Unresolvable for a reference that leads out of the schema.
    """
    error = best_match(_validator(schema).iter_errors(value))  # type: ignore[arg-type]  # any JSON value
    return None if error is None else f"{error.json_path}: {' '.join(error.message.split())}"[:_SHOWN_CHARS]


@lru_cache(maxsize=256)
def _validator(schema: str) -> Validator:
    read = json.loads(schema)
    found = validator_for(read, Draft202012Validator)
    return found(read, registry=Registry(), format_checker=found.FORMAT_CHECKER)
