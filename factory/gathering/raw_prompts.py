"""Says what a row of a source means: its messages, tools, reference answer, constraints and language.

The rule that must not break: what a row holds is understood or refused, never guessed at and never left out without a
word. Columns: `prompt` (text, or a list of messages) or `messages`; where a row has both, `prompt` counts. Optional:
`system`, `tools`, `answer`, `constraints` (or IFEval's own `instruction_id_list` and `kwargs`), `language`. Other columns
are nobody's business here.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from factory.recipes.recipe_file import canonical_json
from schemas.chat import Message, Role
from schemas.errors import SourceError
from schemas.rows import Constraint

Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class RawPrompt:
    """A prompt as its source has it; `place` is where, for messages to a person."""

    place: str
    messages: tuple[Message, ...]
    tools: str | None = None  # JSON list, keys in the source's order: templates show them in that order
    answer: str | None = None
    constraints: tuple[Constraint, ...] = ()
    language: str | None = None


def read_row(row: Row, place: str, prompt_column: str, messages_column: str) -> RawPrompt:
    """The prompt in a row. Raises SourceError with the place, the column, what is there, and what to write."""
    cell = _Cell(place, messages_column, row.get(messages_column))
    if row.get(prompt_column) is not None:
        cell = _Cell(place, prompt_column, row[prompt_column])
    if cell.value is None:
        there = _one_line(", ".join(row)) or "none"
        raise SourceError(f"{place}: neither `{prompt_column}` nor `{messages_column}` is there; columns: {there}")
    return RawPrompt(
        place=place,
        messages=_with_system(cell.messages(), _Cell(place, "system", row.get("system"))),
        tools=_Cell(place, "tools", row.get("tools")).tools(),
        answer=_Cell(place, "answer", row.get("answer")).answer(),
        constraints=_constraints(row, place),
        language=_Cell(place, "language", row.get("language")).language(),
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _with_system(messages: tuple[Message, ...], cell: "_Cell") -> tuple[Message, ...]:
    system = cell.text() if cell.value is not None else ""
    if not system.strip():
        return messages
    if any(message.role is Role.SYSTEM for message in messages):
        raise cell.refusal("leave it out, because the messages have a system prompt of their own")
    return (Message(Role.SYSTEM, system), *messages)


def _constraints(row: Row, place: str) -> tuple[Constraint, ...]:
    """From the column of that name, else from the two that IFEval and IFBench are published with."""
    own, ids = row.get("constraints"), _Cell(place, "instruction_id_list", row.get("instruction_id_list"))
    if own is not None or ids.value is None:
        return _Cell(place, "constraints", own).constraints()
    kwargs = _Cell(place, "kwargs", row.get("kwargs"))
    if not isinstance(ids.value, list):
        raise ids.refusal("write a list of instruction ids")
    given = [None] * len(ids.value) if kwargs.value is None else kwargs.value
    if not isinstance(given, list) or len(given) != len(ids.value):
        raise kwargs.refusal("write a list as long as instruction_id_list, with the arguments of each")
    both = [{"id": name, "kwargs": arguments} for name, arguments in zip(ids.value, given, strict=True)]
    return _Cell(place, "constraints", both).constraints()


@dataclass(frozen=True, slots=True)
class _Cell:
    """One value of a row, with what it takes to complain about it."""

    place: str
    column: str
    value: object

    def refusal(self, mend: str) -> SourceError:
        text = repr(self.value)
        return SourceError(f"{self.place}: {self.column}: got {text if len(text) <= 60 else text[:57] + '…'}; {mend}")

    def inside(self, name: str | int, value: object) -> "_Cell":
        return _Cell(self.place, f"{self.column}.{_one_line(str(name))}", value)

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.refusal("write text")
        if "\0" in self.value:
            raise self.refusal("take the NUL out")
        if any("\ud800" <= letter <= "\udfff" for letter in self.value):
            raise self.refusal("take the half character (a lone surrogate) out")
        return self.value

    def messages(self) -> tuple[Message, ...]:
        """A conversation that waits for an answer; plain text is a user's message."""
        if isinstance(self.value, str):
            return (Message(Role.USER, self._filled()),)
        if not isinstance(self.value, list) or not self.value:
            raise self.refusal("write a list of messages, each with `role` and `content`")
        messages = tuple(self.inside(index, item)._message() for index, item in enumerate(self.value))
        if messages[-1].role not in (Role.USER, Role.TOOL):
            raise SourceError(
                f"{self.place}: {self.column}: the last message is from the {messages[-1].role}; "
                "end with one from the user (or a tool), for the answer to follow"
            )
        return messages

    def tools(self) -> str | None:
        value = self._from_json()
        if value is None or value == []:
            return None
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.refusal("write a list of tool declarations, or the same as a JSON string")
        return json.dumps(self.inside("as JSON", value)._plain(), ensure_ascii=False, allow_nan=False)

    def answer(self) -> str | None:
        if isinstance(self.value, int | float) and not isinstance(self.value, bool):
            return str(self.value)
        return None if self.value is None else self.text()

    def constraints(self) -> tuple[Constraint, ...]:
        value = self._from_json()
        if value is None:
            return ()
        if not isinstance(value, list):
            raise self.refusal('write a list such as [{"id": "punctuation:no_comma", "kwargs": {}}]')
        return tuple(self.inside(index, item)._constraint() for index, item in enumerate(value))

    def language(self) -> str | None:
        if self.value is None or not self.text().strip():
            return None
        found = re.fullmatch(r"([a-z]{2,3})([-_].*)?", self.text().strip().lower())
        if not found:
            raise self.refusal("write an ISO 639-1 code such as en")
        return found[1]

    def _filled(self) -> str:
        if not self.text().strip():
            raise self.refusal("write a text that is not empty, or leave the row out")
        return self.text()

    def _message(self) -> Message:
        if not isinstance(self.value, Mapping):
            raise self.refusal("write a mapping with `role` and `content`")
        if self.value.get("tool_calls"):
            raise self.refusal("write the calls into `content`, in the model's own form: `tool_calls` is not read")
        role = self.inside("role", self.value.get("role"))
        if role.value not in tuple(Role):
            raise role.refusal(f"write one of {', '.join(Role)}")
        return Message(Role(role.text()), self.inside("content", self.value.get("content"))._filled())

    def _constraint(self) -> Constraint:
        if not isinstance(self.value, Mapping):
            raise self.refusal("write a mapping with `id` and `kwargs`")
        name = self.inside("id", self.value.get("id"))._filled()
        cell = self.inside("kwargs", self.value.get("kwargs"))
        kwargs = cell._from_json()
        if not isinstance(kwargs, Mapping | None):
            raise cell.refusal("write a mapping, or the same as a JSON string")
        given = {key: item for key, item in (kwargs or {}).items() if item is not None}
        return Constraint(name, canonical_json(cell.inside("as JSON", given)._plain()))

    def _from_json(self) -> object:
        """The value itself, or what its JSON text says."""
        if not isinstance(self.value, str):
            return self.value
        try:
            return json.loads(self.text()) if self.text().strip() else None
        except (ValueError, RecursionError):
            raise self.refusal("write JSON") from None

    def _plain(self) -> JsonValue:
        """The value, once it is known to be of JSON's own types, with sound text throughout."""
        if isinstance(self.value, str):
            return self.text()
        if isinstance(self.value, Mapping):
            items = self.value.items()
            return {self.inside("key", key).text(): self.inside(str(key), item)._plain() for key, item in items}
        if isinstance(self.value, list):
            return [self.inside(index, item)._plain() for index, item in enumerate(self.value)]
        if self.value is None or isinstance(self.value, bool | int):
            return self.value
        if isinstance(self.value, float) and self.value - self.value == 0:  # not infinite, not NaN
            return self.value
        raise self.refusal("write a JSON value")
