"""JSON answers against their schema."""

import json
from dataclasses import replace

import pytest

from judges import json_answer
from schemas.rows import Constraint, Prompt
from tests.samples import a_prompt, a_rollout

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "born": {"$ref": "#/$defs/day"}},
    "required": ["name"],
    "additionalProperties": False,
    "$defs": {"day": {"type": "string", "format": "date"}},
}


def asking(schema: object) -> Prompt:
    return replace(a_prompt(), constraints=(Constraint("json:schema", json.dumps({"schema": schema})),))


@pytest.mark.parametrize(
    "text", ['{"name": "Ada"}', ' {"name": "Ada", "born": "1815-12-10"}\n', '```json\n{"name": "Ada"}\n```']
)
def test_check_answer_that_fits(text: str) -> None:
    assert json_answer.check(asking(SCHEMA), a_rollout(text=text)).score == 1.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no JSON"),
        ('Here it is: {"name": "Ada"}', "no JSON"),
        ('{"name": "Ada"', "no JSON"),
        ("{'name': 'Ada'}", "no JSON"),
        ('{"name": NaN}', "no JSON: NaN is no JSON value"),
        ("[" * 100_000, "no JSON"),
        ('{"name": 3}', "$.name: 3 is not of type 'string'"),
        ("{}", "$: 'name' is a required property"),
        ('{"name": "Ada", "age": 3}', "$: Additional properties"),
        ('{"name": "Ada", "born": "yesterday"}', "$.born: 'yesterday' is not a 'date'"),
        ("[]", "$: [] is not of type 'object'"),
    ],
)
def test_check_answer_that_does_not(text: str, said: str) -> None:
    verdict = json_answer.check(asking(SCHEMA), a_rollout(text=text))
    assert verdict.score == 0.0
    assert (verdict.reply or "").startswith(said)


def test_applies_where_a_schema_is_given() -> None:
    assert json_answer.applies(asking(SCHEMA), a_rollout())
    assert not json_answer.applies(a_prompt(), a_rollout())


def test_check_reference_out_of_the_schema_is_never_fetched() -> None:
    with pytest.raises(Exception, match="Unresolvable"):
        json_answer.check(asking({"$ref": "http://127.0.0.1:9/schema.json"}), a_rollout(text="{}"))


@pytest.mark.parametrize("schema", [{"type": "objekt"}, [], None, {"properties": 3}])
def test_objection_to_a_schema_that_is_none(schema: object) -> None:
    assert (json_answer.objection(asking(schema)) or "").startswith("constraints.0.kwargs.schema: ")


def test_objection_to_nothing_else() -> None:
    assert json_answer.objection(asking(SCHEMA)) is None
    assert json_answer.objection(a_prompt()) is None
