"""Which column of anybody's file is what, and what a cell of it says: the answer, the prompt, how it ended, its tokens.

The rule that must not break: a cell is understood or refused with its place. What a file does not say (no finish
reason, no text) is counted by who asks, never made up in silence.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from factory.survey.answer_files import Rows
from schemas.errors import SourceError

TEXT: Final = ("text", "response", "completion")  # the answer's column, unless one is named: the first that is there
REASONING: Final = ("reasoning", "reasoning_content")
GROUPS: Final = ("model", "temperature", "slot")  # grouped by, each by itself, unless others are named
NONE: Final = ""  # named as a column: there is none

LENGTH, REPETITION, STOP = "length", "repetition", "stop"
FINISH_REASONS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("length", "max_tokens", "max_new_tokens", "max_output_tokens", "model_length"), LENGTH),
    REPETITION: REPETITION,
    **dict.fromkeys(("stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", "finished"), STOP),
    **dict.fromkeys(("tool_calls", "tool_use", "function_call", "content_filter"), STOP),
}  # as OpenAI and vLLM, Transformers and TGI, Anthropic, Gemini, Mistral and Cohere write them, in small letters

_HALVES: Final = re.compile("[\ud800-\udfff]")
_TEXT_TYPES: Final = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
)
_SYMBOLS: Final = 0x110000  # token ids lie below, for `factory.detector.periods.symbols`


@dataclass(frozen=True, slots=True)
class Wanted:
    """The columns that somebody asked for. None: the usual ones, where they are there. NONE: none at all."""

    text: str | None = None
    prompt: str | None = None
    finish_reason: str | None = None
    by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a file by what they hold."""

    text: str
    reasoning: str | None
    prompt: str | None
    finish_reason: str | None
    token_ids: str | None
    groups: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        named = (self.text, self.reasoning, self.prompt, self.finish_reason, self.token_ids, *self.groups)
        return list(dict.fromkeys(name for name in named if name))


@dataclass(frozen=True, slots=True)
class Answers:
    """`batch` is as `factory.loops.detect_batch` wants it. `unsaid`: answers of which nobody says how they ended."""

    batch: pa.RecordBatch
    groups: Mapping[str, Sequence[object]]
    unsaid: int


def find_columns(where: str, present: Iterable[str], wanted: Wanted) -> Columns:
    """Raises SourceError, which lists the columns that there are."""
    names = list(present)

    def named(name: str | None, usual: str, option: str) -> str | None:
        if name is None:
            return usual if usual in names else None
        if name != NONE and name not in names:
            raise _missing(where, f"`{name}`", names, option)
        return name or None

    text = wanted.text or next((name for name in TEXT if name in names), None)
    if text is None or text not in names:
        sought = f"`{text}`" if text else ", ".join(f"`{name}`" for name in TEXT[:-1]) + f" or `{TEXT[-1]}`"
        raise _missing(where, sought, names, "--column")
    for name in wanted.by:
        if name not in names:
            raise _missing(where, f"`{name}`", names, "--by")
    return Columns(
        text=text,
        # Somebody who names a column wants that one alone.
        reasoning=None if wanted.text else next((name for name in REASONING if name in names), None),
        prompt=named(wanted.prompt, "prompt", "--prompt-column"),
        finish_reason=named(wanted.finish_reason, "finish_reason", "--finish-column"),
        token_ids="token_ids" if "token_ids" in names else None,
        groups=wanted.by or tuple(name for name in GROUPS if name in names),
    )


def _missing(where: str, sought: str, names: Sequence[str], option: str) -> SourceError:
    there = " ".join(", ".join(names).split()) or "none"
    return SourceError(f"{where}: no column {sought}; name one of {there} with {option}")


def read_answers(rows: Rows, columns: Columns) -> Answers:
    """Raises SourceError at a cell that cannot be understood."""
    text = _texts(rows, columns.text, answer_text)
    if columns.reasoning:
        text = _joined(_texts(rows, columns.reasoning, answer_text), text)
    found = {"text": text}
    reasons: list[object] = [None] * len(rows)
    if columns.finish_reason:
        reasons = _texts(rows, columns.finish_reason, _only_text).to_pylist()
    found["finish_reason"] = pa.array([finish_reason(reason) for reason in reasons], pa.string())
    if columns.prompt:
        found["prompt"] = _texts(rows, columns.prompt, prompt_text)
    if columns.token_ids:
        found["token_ids"] = _token_ids(rows.column(columns.token_ids))
    return Answers(
        batch=pa.RecordBatch.from_pydict(found),
        groups={name: _groups(rows, name) for name in columns.groups},
        unsaid=sum(
            reason is None and known for reason, known in zip(reasons, text.is_valid().to_pylist(), strict=True)
        ),
    )


def finish_reason(reason: object) -> str:
    """`length`, `repetition` or `stop`, or what it says itself where that is not known. What says nothing was cut off."""
    return LENGTH if reason is None else FINISH_REASONS.get(str(reason).strip().lower(), str(reason))


def answer_text(value: object) -> str | None:
    """The answer in a cell: text, or a message or the last of the assistant's, with its reasoning before it.

    None where there is none. Raises ValueError with the mend.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        said = [item for item in value if isinstance(item, Mapping) and item.get("role") == "assistant"]
        if value and not said:
            raise ValueError("write text, or messages with `role` and `content` of which one is the assistant's")
        return answer_text(said[-1]) if said else None
    if isinstance(value, Mapping) and "content" in value:
        thought = next((value[name] for name in REASONING if isinstance(value.get(name), str)), None)
        content = _content(value["content"])
        return None if thought is None and content is None else str(thought or "") + (content or "")
    raise ValueError("write text, or a list of messages with `role` and `content`")


def prompt_text(value: object) -> str | None:
    """What was asked: text, or all messages of a conversation. Raises ValueError with the mend."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, Mapping) and "content" in item for item in value):
        return "\n".join(_content(item["content"]) or "" for item in value)
    raise ValueError("write text, or messages with `role` and `content`; --prompt-column '' reads no prompts")


def _content(value: object) -> str | None:
    """Text, or the text among parts of several kinds."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, Mapping) for part in value):
        return "".join(str(part["text"]) for part in value if part.get("text") is not None)
    raise ValueError("write text as `content`")


def _only_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise ValueError("write text; --finish-column '' takes every answer as cut off")


def _texts(rows: Rows, name: str, read: Callable[[object], str | None]) -> pa.Array:
    column = rows.column(name)
    if isinstance(column, pa.Array):
        return _arrow_texts(rows, name, column, read)
    return _string_array([_read(rows, name, index, value, read) for index, value in enumerate(column)])


def _arrow_texts(rows: Rows, name: str, column: pa.Array, read: Callable[[object], str | None]) -> pa.Array:
    """Columns of text are taken as they are, all others value by value."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    try:
        if pa.types.is_null(kind) or any(is_kind(kind) for is_kind in _TEXT_TYPES):
            texts = column.cast(pa.large_string())
            texts.validate(full=True)
            return texts
        values = column.to_pylist()
    except (pa.ArrowInvalid, UnicodeDecodeError):
        last = rows.place(len(rows) - 1).rpartition(" ")[2]
        raise SourceError(f"{rows.place(0)} to {last}: `{name}` holds bytes that are not UTF-8") from None
    return _string_array([_read(rows, name, index, value, read) for index, value in enumerate(values)])


def _read(rows: Rows, name: str, index: int, value: object, read: Callable[[object], str | None]) -> str | None:
    try:
        return read(value)
    except ValueError as error:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else f"{shown[:57]}…"
        raise SourceError(f"{rows.place(index)}: {name}: got {shown}; {error}") from None


def _string_array(texts: Sequence[str | None]) -> pa.Array:
    """Half characters, which JSON can write and UTF-8 cannot, become U+FFFD: as many bytes, so that offsets hold."""
    try:
        return pa.array(texts, pa.large_string())
    except UnicodeEncodeError:
        return pa.array([text and _HALVES.sub("\ufffd", text) for text in texts], pa.large_string())


def _joined(first: pa.Array, second: pa.Array) -> pa.Array:
    """NULL only where both are."""
    nothing = pa.scalar("", pa.large_string())
    both = pc.binary_join_element_wise(pc.fill_null(first, nothing), pc.fill_null(second, nothing), nothing)
    return pc.if_else(pc.or_(first.is_valid(), second.is_valid()), both, pa.scalar(None, pa.large_string()))


def _token_ids(column: pa.Array | list[object]) -> pa.Array:
    """NULL where a row has no list of ids that a vocabulary can have."""
    kind = pa.list_(pa.int64())
    values = column
    if isinstance(column, pa.Array):
        if pa.types.is_list(column.type) and pa.types.is_integer(column.type.value_type):
            ids = column.flatten()
            span = pc.min_max(ids).as_py()
            if not ids.null_count and (span["min"] or 0) >= 0 and (span["max"] or 0) < _SYMBOLS:
                return column
        values = column.to_pylist()
    return pa.array([ids if _is_ids(ids) else None for ids in values], kind)


def _is_ids(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < _SYMBOLS for item in value)


def _groups(rows: Rows, name: str) -> list[object]:
    """Values that can be told apart and sorted: numbers, text, NULL."""
    column = rows.column(name)
    values = column.to_pylist() if isinstance(column, pa.Array) else column
    return [_group(rows, name, index, value) for index, value in enumerate(values)]


def _group(rows: Rows, name: str, index: int, value: object) -> object:
    if isinstance(value, list | Mapping):
        raise SourceError(f"{rows.place(index)}: {name}: got a {type(value).__name__}; group by numbers or text")
    if isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
        return str(value)
    return value if value is None or isinstance(value, str | int | float) else str(value)
