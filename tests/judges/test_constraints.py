"""The verifier of instructions on form."""

import json
from dataclasses import replace

from judges import constraints
from schemas.rows import Constraint, Prompt, VerdictStatus
from tests.samples import a_prompt, a_rollout

NO_COMMA = Constraint("punctuation:no_comma", "{}")
TITLE = Constraint("detectable_format:title", "{}")
FRENCH = Constraint("language:response_language", '{"language":"fr"}')
SCHEMA = Constraint("json:schema", json.dumps({"schema": {"type": "object"}}))


def asking(*asked: Constraint) -> Prompt:
    return replace(a_prompt(), constraints=asked)


def test_check_every_one_must_hold() -> None:
    prompt = asking(NO_COMMA, TITLE)
    both = constraints.check(prompt, a_rollout(text="<<Rain>> falls"))
    assert (both.status, both.score, both.reply) == (VerdictStatus.OK, 1.0, "all kept")
    one = constraints.check(prompt, a_rollout(text="rain falls"))
    assert (one.score, one.reply) == (0.0, "broken: detectable_format:title")
    none = constraints.check(prompt, a_rollout(text="rain, falls"))
    assert none.reply == "broken: punctuation:no_comma, detectable_format:title"


def test_check_what_cannot_be_told_neither_passes_nor_fails() -> None:
    abstained = constraints.check(asking(FRENCH), a_rollout(text="Oui"))
    assert (abstained.status, abstained.score) == (VerdictStatus.ABSTAINED, None)
    assert constraints.check(asking(FRENCH, NO_COMMA), a_rollout(text="Oui")).score == 1.0
    assert constraints.check(asking(FRENCH, NO_COMMA), a_rollout(text="Oui, oui")).score == 0.0


def test_check_empty_answer_keeps_nothing() -> None:
    assert constraints.check(asking(NO_COMMA), a_rollout(text="")).score == 0.0


def test_applies_to_prompts_with_constraints_of_its_own() -> None:
    assert constraints.applies(asking(NO_COMMA), a_rollout())
    assert not constraints.applies(asking(), a_rollout())
    assert not constraints.applies(asking(SCHEMA), a_rollout())


def test_objection_names_the_constraint() -> None:
    assert constraints.objection(asking(NO_COMMA, SCHEMA)) is None
    found = constraints.objection(asking(NO_COMMA, Constraint("punctuation:no_coma", "{}")))
    assert found == "constraints.1.id: got 'punctuation:no_coma'; write 'punctuation:no_comma'"
