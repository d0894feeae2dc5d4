"""The verifier of tool calls: does every call in the answer fit a tool that the prompt declares?

A call is read in LFM2's Pythonic form (`<|tool_call_start|>[f(a=1)]<|tool_call_end|>`, or the bare list where a server
left the markers out), in Hermes' (`<tool_call>{...}</tool_call>`), and as OpenAI's JSON. Nothing is ever evaluated: a
Pythonic argument must be a literal.

Where the prompt's `answer` says which calls are right (in any of these forms; `[]`: none), those and no others pass, in any
order. Without it a call that fits no declared tool fails, and one that fits abstains: whether a call was wanted at all
is not known, so a call does not outrank words by being one.
"""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from judges.base import check_result, no_score
from judges.json_answer import misfit, read_json, schema_objection
from schemas.rows import Prompt, Rollout, Verdict, VerdictStatus

name = "tool_calls"
proves = True

_OPENING, _CLOSING = r"<\|tool_call_start\|>|<tool_call>", r"<\|tool_call_end\|>|</tool_call>"
_MARKED = re.compile(rf"(?:{_OPENING})(.*?)(?:{_CLOSING}|\Z)", re.DOTALL)
_UNCLOSED = re.compile(rf"(?:{_OPENING})(?!.*(?:{_CLOSING}))", re.DOTALL)
_BARE = re.compile(r"\A\[\s*(?:[A-Za-z_][\w.]*\s*\(.*\)\s*)?\]\Z", re.DOTALL)
_SHOWN_CHARS = 120


@dataclass(frozen=True, slots=True)
class Call:
    tool: str
    arguments: Mapping[str, object]


def objection(prompt: Prompt) -> str | None:
    for number, declared in enumerate(_declared(prompt)):
        if not isinstance(declared.get("name"), str):
            return f"tools.{number}: has no name; write {{'type': 'function', 'function': {{'name': ..., 'parameters': ...}}}}"
        if found := schema_objection(declared.get("parameters", {})):
            return f"tools.{number}.parameters: {found}"
    return None


def applies(prompt: Prompt, rollout: Rollout) -> bool:
    return prompt.tools is not None


def check(prompt: Prompt, rollout: Rollout) -> Verdict:
    try:
        calls = calls_in(rollout.text or "")
    except ValueError as error:
        return check_result(rollout, name, 0.0, f"cannot be read: {error}"[:_SHOWN_CHARS])
    tools = {str(declared.get("name")): declared.get("parameters", {}) for declared in _declared(prompt)}
    for call in calls or ():
        if found := _misfit(call, tools):
            return check_result(rollout, name, 0.0, found[:_SHOWN_CHARS])
    expected = expected_calls(prompt)
    if expected is None:
        return no_score(rollout, name, VerdictStatus.ABSTAINED, "fits" if calls else "no call")
    same = _same(calls or (), expected)
    shown = ", ".join(call.tool for call in calls or ()) or "no call"
    return check_result(rollout, name, float(same), f"{shown}: {'as' if same else 'not as'} expected"[:_SHOWN_CHARS])


def expected_calls(prompt: Prompt) -> Sequence[Call] | None:
    """The calls that the prompt's `answer` names; None where it names none: it is another kind of answer."""
    if prompt.tools is None or prompt.answer is None:
        return None
    try:
        return calls_in(prompt.answer)
    except ValueError:
        return None


def calls_in(text: str) -> list[Call] | None:
    """The calls in a text, in order; None where it holds none. Raises ValueError for a call that cannot be read."""
    if _UNCLOSED.search(text):
        raise ValueError("the call is not closed")
    if marked := _MARKED.findall(text):
        return [call for inner in marked for call in _read(inner.strip())]
    stripped = text.strip()
    if _BARE.match(stripped):
        return _pythonic(stripped)
    try:
        return _from_json(read_json(stripped))
    except ValueError:
        return None


def _read(inner: str) -> list[Call]:
    """What stands between the marks of a call."""
    if inner.startswith("{") or inner.startswith('[{"'):
        found = _from_json(read_json(inner))
        if found is None:
            raise ValueError("the JSON names no tool")
        return found
    return _pythonic(inner)


def _pythonic(source: str) -> list[Call]:
    """`[f(a=1), g()]` or `f(a=1)`, without evaluating any of it."""
    try:
        tree = ast.parse(source.strip(), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"no Python: {error}") from None
    return [_one(node) for node in (tree.elts if isinstance(tree, ast.List | ast.Tuple) else [tree])]


def _one(node: ast.expr) -> Call:
    if not isinstance(node, ast.Call):
        raise ValueError("something that is no call stands in the list")
    if node.args or any(keyword.arg is None for keyword in node.keywords):
        raise ValueError("arguments must have names")
    if len({keyword.arg for keyword in node.keywords}) < len(node.keywords):
        raise ValueError("an argument is there twice")
    try:
        arguments = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords}
    except (ValueError, RecursionError, MemoryError):
        raise ValueError("an argument is no literal") from None
    return Call(ast.unparse(node.func), arguments)


def _from_json(value: object) -> list[Call] | None:
    """OpenAI's forms: a call, `{"function": call}`, a list of these, or `{"tool_calls": [...]}`; None: no calls."""
    if isinstance(value, Mapping) and isinstance(value.get("tool_calls"), list):
        value = value["tool_calls"]
    items = value if isinstance(value, list) else [value]
    found = [_json_call(item) for item in items]
    calls = [call for call in found if call is not None]
    return calls if len(calls) == len(items) else None


def _json_call(value: object) -> Call | None:
    """Raises ValueError for a call whose arguments are no object."""
    if isinstance(value, Mapping) and isinstance(value.get("function"), Mapping):
        value = value["function"]
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", value.get("parameters"))
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    if not isinstance(arguments, Mapping):
        return None
    return Call(value["name"], arguments)


def _misfit(call: Call, tools: Mapping[str, object]) -> str | None:
    """Why a call fits no declared tool. An argument that the tool does not declare is wrong unless it allows others."""
    if call.tool not in tools:
        return f"{call.tool} is not declared"
    schema = tools[call.tool]
    try:
        arguments, wanted = json.loads(json.dumps(call.arguments)), json.dumps(schema)
    except (TypeError, ValueError):
        return f"{call.tool}: an argument is no JSON value"
    if found := misfit(arguments, wanted):
        return f"{call.tool}: {found}"
    if isinstance(schema, Mapping) and "additionalProperties" not in schema and "patternProperties" not in schema:
        unknown = sorted(set(arguments) - set(schema.get("properties", ())))
        if unknown and "$ref" not in schema:
            return f"{call.tool}: has no argument {unknown[0]}"
    return None


def _same(calls: Sequence[Call], expected: Sequence[Call]) -> bool:
    left = list(expected)
    for call in calls:
        if call not in left:
            return False
        left.remove(call)
    return not left


def _declared(prompt: Prompt) -> list[Mapping[str, object]]:
    """Name and parameters of each tool, in OpenAI's form or without the frame around it."""
    read = json.loads(prompt.tools) if prompt.tools else []
    return [item["function"] if isinstance(item.get("function"), Mapping) else item for item in read]
