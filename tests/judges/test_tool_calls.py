"""Tool calls in three forms, against the tools that the prompt declares."""

import json
from dataclasses import replace

import pytest

from judges import math_answer, tool_calls
from judges.tool_calls import Call, calls_in
from schemas.rows import Prompt, VerdictStatus
from tests.samples import a_prompt, a_rollout

TIMER = {
    "name": "set_timer",
    "parameters": {
        "type": "object",
        "properties": {"minutes": {"type": "number", "exclusiveMinimum": 0}, "label": {"type": "string"}},
        "required": ["minutes"],
    },
}
TOOLS = [{"type": "function", "function": TIMER}, {"name": "stop"}]


def asking(answer: str | None = None, tools: object = TOOLS) -> Prompt:
    return replace(a_prompt(answer=answer), tools=json.dumps(tools))


def lfm2(inner: str) -> str:
    return f"<|tool_call_start|>{inner}<|tool_call_end|>"


def hermes(call: object) -> str:
    return f"<tool_call>\n{json.dumps(call)}\n</tool_call>"


NINE = Call("set_timer", {"minutes": 9})
OPENAI = {"name": "set_timer", "arguments": {"minutes": 9}}


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        (lfm2("[set_timer(minutes=9)]"), [NINE]),
        (lfm2("set_timer(minutes=9)"), [NINE]),
        ("Sure. " + lfm2("[set_timer(minutes=9), stop()]") + "<|im_end|>", [NINE, Call("stop", {})]),
        (lfm2("[set_timer(minutes=9)]") + lfm2("[stop()]"), [NINE, Call("stop", {})]),
        ("[set_timer(minutes=9)]", [NINE]),
        ("[]", []),
        (lfm2(json.dumps([OPENAI])), [NINE]),
        (lfm2("[a.b(x={'k': [1, None, True]}, y=-1.5)]"), [Call("a.b", {"x": {"k": [1, None, True]}, "y": -1.5})]),
        (hermes(OPENAI) + "\n" + hermes({"name": "stop", "arguments": {}}), [NINE, Call("stop", {})]),
        (json.dumps(OPENAI), [NINE]),
        (json.dumps({"type": "function", "function": OPENAI | {"arguments": '{"minutes": 9}'}}), [NINE]),
        (json.dumps({"tool_calls": [{"function": OPENAI}]}), [NINE]),
        (json.dumps({"name": "set_timer", "parameters": {"minutes": 9}}), [NINE]),
        ("```json\n" + json.dumps([OPENAI]) + "\n```", [NINE]),
        ("I set a timer (9 minutes).", None),
        ('{"name": "Bob"}', None),
        ("[1, 2]", None),
        ("[see above]", None),
        ("", None),
    ],
)
def test_calls_in_every_form(text: str, calls: list[Call] | None) -> None:
    assert calls_in(text) == calls


@pytest.mark.parametrize(
    "text",
    [
        lfm2("[set_timer(9)]"),
        lfm2("[set_timer(**x)]"),
        lfm2("[set_timer(minutes=nine)]"),
        lfm2("[set_timer(minutes=3*3)]"),
        lfm2("[set_timer(minutes=__import__('os').getpid())]"),
        lfm2("[set_timer(minutes=9, minutes=10)]"),
        lfm2("[set_timer(minutes=9"),
        lfm2("[9]"),
        lfm2("not a call"),
        lfm2(""),
        lfm2("[" * 5000),
        "<|tool_call_start|>[set_timer(minutes=9)]",
        "<tool_call>" + json.dumps(OPENAI),
        '<tool_call>{"minutes": 9}</tool_call>',
        "<tool_call>{oops}</tool_call>",
    ],
)
def test_calls_in_what_cannot_be_read(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        calls_in(text)
    assert tool_calls.check(asking(), a_rollout(text=text)).score == 0.0


@pytest.mark.parametrize(
    ("inner", "said"),
    [
        ("[set_alarm(time='6:30')]", "set_alarm is not declared"),
        ("[set_timer()]", "set_timer: $: 'minutes' is a required property"),
        ("[set_timer(minutes='9')]", "set_timer: $.minutes: '9' is not of type 'number'"),
        ("[set_timer(minutes=0)]", "set_timer: $.minutes: 0 is less than or equal to the minimum of 0"),
        ("[set_timer(minutes=9, loud=True)]", "set_timer: has no argument loud"),
        ("[set_timer(minutes={9})]", "set_timer: an argument is no JSON value"),
        ("[stop(), stop(now=True)]", "stop: has no argument now"),
    ],
)
def test_check_call_that_fits_no_tool_fails(inner: str, said: str) -> None:
    verdict = tool_calls.check(asking(), a_rollout(text=lfm2(inner)))
    assert (verdict.score, verdict.reply) == (0.0, said)


def test_check_without_a_reference_a_call_that_fits_is_not_lifted() -> None:
    for text in (lfm2("[set_timer(minutes=9)]"), "It is done."):
        verdict = tool_calls.check(asking(), a_rollout(text=text))
        assert (verdict.status, verdict.score) == (VerdictStatus.ABSTAINED, None)


@pytest.mark.parametrize(
    ("expected", "text", "score"),
    [
        ("[set_timer(minutes=9)]", json.dumps(OPENAI), 1.0),
        ("[set_timer(minutes=9)]", lfm2("[set_timer(minutes=9.0)]"), 1.0),
        ("[set_timer(minutes=9), stop()]", lfm2("[stop(), set_timer(minutes=9)]"), 1.0),
        ("[set_timer(minutes=9)]", lfm2("[set_timer(minutes=8)]"), 0.0),
        ("[set_timer(minutes=9)]", lfm2("[set_timer(minutes=9), stop()]"), 0.0),
        ("[set_timer(minutes=9)]", "It is done.", 0.0),
        ("[]", "No tool can do that.", 1.0),
        ("[]", lfm2("[stop()]"), 0.0),
    ],
)
def test_check_against_the_calls_that_are_right(expected: str, text: str, score: float) -> None:
    assert tool_calls.check(asking(expected), a_rollout(text=text)).score == score


def test_math_answer_leaves_reference_calls_alone() -> None:
    assert not math_answer.applies(asking("[set_timer(minutes=9)]"), a_rollout())
    assert math_answer.applies(asking("9"), a_rollout())


def test_applies_where_tools_are_declared() -> None:
    assert tool_calls.applies(asking(), a_rollout())
    assert not tool_calls.applies(a_prompt(), a_rollout())


@pytest.mark.parametrize(
    ("tools", "said"),
    [
        (TOOLS, None),
        ([{"type": "function"}], "tools.0: has no name"),
        ([TIMER, {"name": "x", "parameters": {"type": "objekt"}}], "tools.1.parameters: 'objekt'"),
    ],
)
def test_objection_to_a_declaration_that_nothing_can_fit(tools: object, said: str | None) -> None:
    found = tool_calls.objection(asking(tools=tools))
    assert found is None if said is None else (found or "").startswith(said)
