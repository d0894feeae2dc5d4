"""Which column is what, and what its cells say: text, messages, finish reasons, token ids."""

from collections.abc import Callable, Sequence

import pyarrow as pa
import pytest

from factory.survey.answer_columns import (
    NONE,
    Answers,
    Columns,
    Wanted,
    answer_text,
    find_columns,
    finish_reason,
    prompt_text,
    read_answers,
)
from factory.survey.answer_files import ArrowRows, JsonRows, Rows
from schemas.errors import SourceError


def json_rows(*rows: dict[str, object]) -> JsonRows:
    return JsonRows("a.jsonl", range(1, len(rows) + 1), [b""] * len(rows), rows)


def arrow_rows(*rows: dict[str, object]) -> ArrowRows:
    return ArrowRows("a.parquet", 1, pa.RecordBatch.from_pylist(list(rows)))


def read(rows: Rows, wanted: Wanted | None = None) -> Answers:
    present = rows.batch.schema.names if isinstance(rows, ArrowRows) else rows.rows[0]
    return read_answers(rows, find_columns("a", present, wanted or Wanted()))


def column(answers: Answers, name: str) -> list[object]:
    values: list[object] = answers.batch.column(name).to_pylist()
    return values


def refusal(rows: Rows, wanted: Wanted | None = None) -> str:
    with pytest.raises(SourceError) as caught:
        read(rows, wanted)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_find_columns_takes_the_usual_ones() -> None:
    present = ["completion", "response", "prompt", "finish_reason", "token_ids", "model", "seed", "temperature"]

    found = find_columns("a", present, Wanted())

    assert found == Columns(
        text="response",
        reasoning=None,
        prompt="prompt",
        finish_reason="finish_reason",
        token_ids="token_ids",
        groups=("model", "temperature"),
    )


def test_find_columns_named_ones_are_taken_and_no_others() -> None:
    present = ["text", "answer", "reasoning", "prompt", "finish_reason", "why", "model", "seed"]

    found = find_columns("a", present, Wanted("answer", NONE, "why", ("seed", "why")))

    assert found == Columns("answer", None, None, "why", None, ("seed", "why"))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(), "a: no column `text`, `response` or `completion`; name one of b, c d with --column"),
        (Wanted(text="x"), "a: no column `x`; name one of b, c d with --column"),
        (Wanted("b", prompt="x"), "a: no column `x`; name one of b, c d with --prompt-column"),
        (Wanted("b", finish_reason="x"), "a: no column `x`; name one of b, c d with --finish-column"),
        (Wanted("b", by=("b", "x")), "a: no column `x`; name one of b, c d with --by"),
    ],
)
def test_find_columns_missing_one_is_named_with_those_that_there_are(wanted: Wanted, expected: str) -> None:
    with pytest.raises(SourceError) as caught:
        find_columns("a", ["b", "c\nd"], wanted)

    assert str(caught.value) == expected


@pytest.mark.parametrize("rows", [json_rows, arrow_rows])
def test_read_answers_of_a_run_are_reasoning_and_text_together(rows: Callable[..., Rows]) -> None:
    answers = read(
        rows(
            {"text": "b", "reasoning": "<think>a</think>"},
            {"text": "b", "reasoning": None},
            {"text": None, "reasoning": "a"},
            {"text": None, "reasoning": None},
        )
    )

    assert column(answers, "text") == ["<think>a</think>b", "b", "a", None]
    assert answers.unsaid == 3


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("length", "length"),
        ("MAX_TOKENS", "length"),
        ("repetition", "repetition"),
        ("eos_token", "stop"),
        ("end_turn", "stop"),
        ("tool_calls", "stop"),
        ("gave up", "gave up"),
        (None, "length"),
    ],
)
def test_finish_reason_known_ones_are_one_of_three_and_none_was_cut_off(reason: str | None, expected: str) -> None:
    assert finish_reason(reason) == expected


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ([{"role": "assistant", "content": "a"}], "a"),
        ([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "a"),
        ([{"role": "assistant", "content": None}, {"role": "tool", "content": "t"}], None),
        ([{"role": "assistant", "content": "a", "reasoning_content": "why "}], "why a"),
        ([{"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "image"}]}], "a"),
        ({"role": "assistant", "content": "a"}, "a"),
        ([], None),
    ],
)
def test_answer_text_of_messages_is_what_the_assistant_said_last(cell: object, expected: str | None) -> None:
    assert answer_text(cell) == expected


@pytest.mark.parametrize(
    "cell", [7, True, ["a"], [{"role": "user", "content": "q"}], {"text": "a"}, [{"content": "a"}]]
)
def test_answer_text_of_anything_else_is_refused(cell: object) -> None:
    with pytest.raises(ValueError, match="write text"):
        answer_text(cell)


def test_prompt_text_of_a_conversation_is_all_of_it() -> None:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]

    assert [prompt_text(cell) for cell in (messages, "u", None)] == ["s\nu", "u", None]
    with pytest.raises(ValueError, match="--prompt-column ''"):
        prompt_text({"question": "u"})


def test_read_answers_cell_that_is_no_text_is_named_with_its_place() -> None:
    assert refusal(json_rows({"text": "a"}, {"text": 7})).startswith("a.jsonl:2: text: got 7; write text")
    assert refusal(arrow_rows({"text": 7.5})).startswith("a.parquet: row 1: text: got 7.5; write text")
    assert "a.jsonl:1: finish_reason: got 3" in refusal(json_rows({"text": "a", "finish_reason": 3}))
    assert "a.jsonl:1: tags: got a list" in refusal(json_rows({"text": "a", "tags": ["b"]}), Wanted(by=("tags",)))
    assert len(refusal(json_rows({"text": ["x" * 999]}))) < 250


def test_read_answers_parquet_text_that_is_not_utf8_is_refused() -> None:
    broken = pa.array([b"good", b"\xff"]).view(pa.string())
    rows = ArrowRows("a.parquet", 1, pa.RecordBatch.from_arrays([broken], ["text"]))

    assert refusal(rows) == "a.parquet: row 1 to 2: `text` holds bytes that are not UTF-8"


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.dictionary(pa.int32(), pa.string())]
)
def test_read_answers_text_of_any_arrow_type_is_read(kind: pa.DataType) -> None:
    column_of_kind = pa.array(["ä", None]).cast(kind)

    assert column(read(ArrowRows("a", 1, pa.RecordBatch.from_arrays([column_of_kind], ["text"]))), "text") == [
        "ä",
        None,
    ]


def test_read_answers_half_a_character_keeps_its_place_and_size() -> None:
    (text,) = column(read(json_rows({"text": "a\ud800b"})), "text")

    assert text == "a\ufffdb"


@pytest.mark.parametrize("ids", [[1, -1], [1, 0x110000], [1, None], ["1"], "1", 7, [True]])
def test_read_answers_token_ids_that_no_vocabulary_has_are_not_known(ids: object) -> None:
    answers = read(json_rows({"text": "a", "token_ids": [5, 6]}, {"text": "a", "token_ids": ids}))

    assert column(answers, "token_ids") == [[5, 6], None]


@pytest.mark.parametrize("ids", [[1, -1], [1, 0x110000], [1, None]])
def test_read_answers_typed_token_ids_that_no_vocabulary_has_are_not_known(ids: Sequence[int | None]) -> None:
    answers = read(arrow_rows({"text": "a", "token_ids": [5, 6]}, {"text": "a", "token_ids": ids}))

    assert column(answers, "token_ids") == [[5, 6], None]


def test_read_answers_groups_are_values_that_can_be_told_apart() -> None:
    values = [0, 0.5, "a", None, True, float("nan")]
    answers = read(json_rows(*({"text": "a", "model": value} for value in values)))

    assert answers.groups == {"model": [0, 0.5, "a", None, "True", "nan"]}
