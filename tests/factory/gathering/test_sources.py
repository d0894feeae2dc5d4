"""What can be read as prompts, and what is refused, with its place and the mend."""

import json
import os
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.gathering.raw_prompts import RawPrompt, read_row
from factory.gathering.sources import MAX_LINE, read_source, source_files
from schemas.chat import Message, Role
from schemas.errors import SourceError
from schemas.recipe import Source
from schemas.rows import Constraint

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"b": 1, "a": None}}}


def jsonl(folder: Path, *rows: object, name: str = "x.jsonl") -> Source:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Source(path=path)


def texts(source: Source) -> list[str]:
    return [raw.messages[-1].content for raw in read_source(source)]


def refusal(source: Source) -> str:
    with pytest.raises(SourceError) as caught:
        list(read_source(source))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def parquet(path: Path, rows: Sequence[dict[str, object]], schema: pa.Schema | None = None) -> Source:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pa.Table.from_pylist(list(rows), schema=schema), path)
    return Source(path=path)


def test_read_source_row_with_everything_is_read_whole(tmp_path: Path) -> None:
    row = {
        "prompt": "Hi",
        "system": "Be brief.",
        "tools": [WEATHER],
        "answer": 17,
        "constraints": [{"id": "punctuation:no_comma", "kwargs": {"b": 2, "a": 1, "none": None}}],
        "language": "en-US",
        "whatever": [1],
    }

    (raw,) = read_source(jsonl(tmp_path, row))

    assert raw == RawPrompt(
        place=str(tmp_path / "x.jsonl") + ":1",
        messages=(Message(Role.SYSTEM, "Be brief."), Message(Role.USER, "Hi")),
        tools=json.dumps([WEATHER]),
        answer="17",
        constraints=(Constraint("punctuation:no_comma", '{"a":1,"b":2}'),),
        language="en",
    )


def test_read_source_constraints_as_ifeval_is_published(tmp_path: Path) -> None:
    row: dict[str, object] = {
        "prompt": "Hi",
        "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
        "kwargs": [{}, {"num_words": 3, "relation": "at least", "keyword": None}],
    }
    both = (
        Constraint("punctuation:no_comma", "{}"),
        Constraint("length_constraints:number_words", '{"num_words":3,"relation":"at least"}'),
    )
    assert next(iter(read_source(jsonl(tmp_path, row)))).constraints == both
    assert next(iter(read_source(parquet(tmp_path / "x.parquet", [row])))).constraints == both
    own = row | {"constraints": []}
    assert next(iter(read_source(jsonl(tmp_path, own)))).constraints == ()
    bare = {"prompt": "Hi", "instruction_id_list": ["punctuation:no_comma"]}
    assert next(iter(read_source(jsonl(tmp_path, bare)))).constraints == both[:1]


@pytest.mark.parametrize(
    ("ids", "kwargs", "said"),
    [
        (["a", "b"], [{}], "x.jsonl:1: kwargs: got [{}]; write a list as long as instruction_id_list"),
        ("a", [{}], "x.jsonl:1: instruction_id_list: got 'a'; write a list of instruction ids"),
        ([3], [{}], "x.jsonl:1: constraints.0.id: got 3; write text"),
    ],
)
def test_read_source_ifevals_columns_that_do_not_fit(tmp_path: Path, ids: object, kwargs: object, said: str) -> None:
    row = {"prompt": "Hi", "instruction_id_list": ids, "kwargs": kwargs}
    assert said in refusal(jsonl(tmp_path, row))


def test_read_source_messages_keep_their_order_and_roles(tmp_path: Path) -> None:
    said = [("user", "a"), ("assistant", "b"), ("tool", "c")]

    (raw,) = read_source(jsonl(tmp_path, {"messages": [{"role": role, "content": text} for role, text in said]}))

    assert [(message.role.value, message.content) for message in raw.messages] == said


def test_read_source_row_with_both_columns_reads_the_prompt(tmp_path: Path) -> None:
    both = {"prompt": "yes", "messages": [{"role": "user", "content": "no"}, {"role": "assistant", "content": "no"}]}

    assert texts(jsonl(tmp_path, both)) == ["yes"]


def test_read_source_named_columns_are_read(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {"question": "a"}, {"chat": [{"role": "user", "content": "b"}]}).path

    assert texts(Source(path=path, prompt_column="question", messages_column="chat")) == ["a", "b"]


def test_read_source_tools_as_json_text_are_the_same_tools(tmp_path: Path) -> None:
    source = jsonl(tmp_path, {"prompt": "a", "tools": [WEATHER]}, {"prompt": "a", "tools": json.dumps([WEATHER])})

    first, second = read_source(source)

    assert first.tools == second.tools


def test_read_source_byte_order_mark_crlf_and_blank_lines_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "a"}\r\n\r\n   \n{"prompt": "b\xe2\x80\xa8c"}')

    assert texts(Source(path=path)) == ["a", "b\u2028c"]
    assert [raw.place.rsplit(":", 1)[1] for raw in read_source(Source(path=path))] == ["1", "4"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "2: not JSON ("),
        (b'{"prompt": "a"} x', "2: not JSON (Extra data at column 17)"),
        (b'{"prompt": NaN}', "2: not JSON (NaN is not a JSON value)"),
        (b'{"n": ' + b"9" * 5000 + b"}", "2: not JSON ("),
        (b"[" * 100_000, "2: not JSON ("),
        (b'["a"]', "2: got a JSON list; write one object a line"),
        (b'{"prompt": "\xff"}', "2: byte 13 is not UTF-8"),
        (b'{"text": "a", "id": 1}', "2: neither `prompt` nor `messages` is there; columns: text, id"),
        (b'{"a\\nb": 1}', "2: neither `prompt` nor `messages` is there; columns: a b"),
        (b'{"prompt": null}', "2: neither `prompt` nor `messages` is there; columns: prompt"),
        (b'{"prompt": 5}', "2: prompt: got 5; write a list of messages"),
        (b'{"prompt": " \\n"}', "2: prompt: got ' \\n'; write a text that is not empty"),
        (b'{"prompt": "a\\u0000"}', "2: prompt: got 'a\\x00'; take the NUL out"),
        (b'{"prompt": "\\ud83d"}', "2: prompt: got '\\ud83d'; take the half character"),
        (b'{"messages": []}', "2: messages: got []; write a list of messages"),
        (b'{"messages": {"role": "user"}}', "2: messages: got {'role': 'user'}; write a list of messages"),
        (b'{"messages": ["a"]}', "2: messages.0: got 'a'; write a mapping with `role` and `content`"),
        (
            b'{"messages": [{"role": "human", "content": "a"}]}',
            "2: messages.0.role: got 'human'; write one of system, u",
        ),
        (b'{"messages": [{"role": "user"}]}', "2: messages.0.content: got None; write text"),
        (b'{"messages": [{"role": "user", "content": ""}]}', "2: messages.0.content: got ''; write a text that is"),
        (
            b'{"messages": [{"role": "assistant", "content": "a"}]}',
            "2: messages: the last message is from the assistant",
        ),
        (b'{"messages": [{"role": "system", "content": "a"}]}', "2: messages: the last message is from the system"),
        (b'{"messages": [{"role": "assistant", "tool_calls": [1]}]}', "2: messages.0: got {"),
        (b'{"messages": [{"role": ["user"], "content": "a"}]}', "2: messages.0.role: got ['user']; write one of"),
        (b'{"prompt": "a", "system": 1}', "2: system: got 1; write text"),
        (b'{"prompt": "a", "tools": "{"}', "2: tools: got '{'; write JSON"),
        (b'{"prompt": "a", "tools": {"type": "x"}}', "2: tools: got {'type': 'x'}; write a list of tool"),
        (b'{"prompt": "a", "tools": [1]}', "2: tools: got [1]; write a list of tool"),
        (b'{"prompt": "a", "answer": ["b"]}', "2: answer: got ['b']; write text"),
        (b'{"prompt": "a", "answer": true}', "2: answer: got True; write text"),
        (b'{"prompt": "a", "constraints": {"id": 1}}', "2: constraints: got {'id': 1}; write a list such as"),
        (b'{"prompt": "a", "constraints": [{"kwargs": {}}]}', "2: constraints.0.id: got None; write text"),
        (
            b'{"prompt": "a", "constraints": [{"id": "x", "kwargs": 1}]}',
            "2: constraints.0.kwargs: got 1; write a mapping",
        ),
        (b'{"prompt": "a", "language": "English"}', "2: language: got 'English'; write an ISO 639-1 code"),
        (b'{"prompt": "a", "language": 1}', "2: language: got 1; write text"),
    ],
)
def test_read_source_bad_line_is_refused_with_its_place_and_the_mend(tmp_path: Path, line: bytes, said: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"prompt": "fine"}\n' + line + b"\n")

    assert refusal(Source(path=path)).startswith(f"{path}:{said}")


def test_read_source_system_prompt_said_twice_is_refused(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]

    assert "system: got 'c'; leave it out" in refusal(jsonl(tmp_path, {"messages": messages, "system": "c"}))


def test_read_source_rows_before_the_bad_one_come_first(tmp_path: Path) -> None:
    rows = read_source(jsonl(tmp_path, {"prompt": "a"}, {"prompt": 1}))

    assert next(rows).messages[0].content == "a"
    with pytest.raises(SourceError, match=r"x\.jsonl:2"):
        next(rows)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_read_source_file_without_rows_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.jsonl").write_bytes(content)

    assert refusal(Source(path=tmp_path / "x.jsonl")) == f"{tmp_path}/x.jsonl: holds no prompts"


def test_read_source_line_without_end_is_refused_before_it_is_held(tmp_path: Path) -> None:
    """One of many gigabytes: a sparse file."""
    with (tmp_path / "x.jsonl").open("wb") as file:
        file.write(b'{"prompt": "fine"}\n')
        file.truncate(20 * 2**30)
    tracemalloc.start()

    said = refusal(Source(path=tmp_path / "x.jsonl"))

    assert said == f"{tmp_path}/x.jsonl:2: longer than 32 MiB; write one object a line"
    assert tracemalloc.get_traced_memory()[1] < 8 * MAX_LINE
    tracemalloc.stop()


def test_read_source_long_line_is_read(tmp_path: Path) -> None:
    assert len(texts(jsonl(tmp_path, {"prompt": "x" * (20 * 2**20)}))[0]) == 20 * 2**20


def test_read_source_folder_of_links_and_pipes_is_read_and_ends(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    jsonl(tmp_path, {"prompt": "a"})
    (folder / "a.jsonl").symlink_to(tmp_path / "x.jsonl")  # as the hub's own cache is made of links
    (folder / "round").symlink_to(folder)
    (folder / "b.jsonl").symlink_to(folder / "b.jsonl")
    os.mkfifo(folder / "c.jsonl")

    assert texts(Source(path=folder)) == ["a"]


@pytest.mark.parametrize("named", ["set", "set/set.py"])
def test_read_source_dataset_that_is_a_script_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "set.py").write_text(f"open({str(tmp_path / 'was run')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)

    assert "scripts are no longer supported" in refusal(Source(dataset=f"./{named}"))
    assert not (tmp_path / "was run").exists()


def test_read_source_place_is_short_below_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert refusal(jsonl(tmp_path, {"prompt": 1})).startswith("x.jsonl:1: prompt: got 1")


def test_read_source_what_is_no_source_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").touch()
    (tmp_path / "empty").mkdir()

    assert refusal(Source(path=tmp_path / "no.jsonl")).endswith("no such file or folder")
    assert "the name must end in one of" in refusal(Source(path=tmp_path / "x.csv"))
    assert "holds no file that ends in" in refusal(Source(path=tmp_path / "empty"))


def test_read_source_parquet_reads_as_jsonl_does(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"prompt": f"p{number}", "constraints": [{"id": "x", "kwargs": '{"n": 1}'}], "answer": "1", "extra": number}
        for number in range(3000)
    ]

    from_parquet = list(read_source(parquet(tmp_path / "x.parquet", rows)))

    assert from_parquet[2999].place == f"{tmp_path}/x.parquet: row 3000"
    assert [raw.messages for raw in from_parquet] == [raw.messages for raw in read_source(jsonl(tmp_path, *rows))]
    assert from_parquet[0].constraints == (Constraint("x", '{"n":1}'),)


def test_read_source_parquet_tools_hold_no_fields_of_other_rows(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"prompt": "a", "tools": [{"x": {"n": 1}}]}, {"prompt": "b", "tools": [{"y": 2}]}]

    raws = list(read_source(parquet(tmp_path / "x.parquet", rows)))

    assert [raw.tools for raw in raws] == ['[{"x": {"n": 1}}]', '[{"y": 2}]']


def test_read_source_bad_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    numbers = parquet(tmp_path / "numbers.parquet", [{"prompt": 1}])
    other = parquet(tmp_path / "other.parquet", [{"text": "a", "id": 1}])
    empty = parquet(tmp_path / "none.parquet", [], pa.schema([pa.field("prompt", pa.string())]))
    latin = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xe9"))
    pyarrow.parquet.write_table(pa.table({"prompt": latin}), tmp_path / "latin.parquet")

    assert "broken.parquet: not readable as Parquet (" in refusal(Source(path=tmp_path / "broken.parquet"))
    assert "numbers.parquet: row 1: prompt: got 1; write" in refusal(numbers)
    assert "no column `prompt` or `messages`; name one of text, id as `prompt_column`" in refusal(other)
    assert refusal(empty).endswith("none.parquet: holds no prompts")
    assert "latin.parquet: rows 1 to 1 hold bytes that are not UTF-8" in refusal(
        Source(path=tmp_path / "latin.parquet")
    )


def test_read_source_folder_reads_the_files_of_the_split_in_order(tmp_path: Path) -> None:
    parquet(tmp_path / "data" / "train-00001-of-00002.parquet", [{"prompt": "b"}])
    parquet(tmp_path / "data" / "train-00000-of-00002.parquet", [{"prompt": "a"}])
    jsonl(tmp_path, {"prompt": "c"}, name="data/test.jsonl")
    (tmp_path / "dataset_info.json").write_text("{}")

    assert texts(Source(path=tmp_path)) == ["a", "b"]
    assert texts(Source(path=tmp_path, split="test")) == ["c"]
    assert refusal(Source(path=tmp_path, split="dev")).endswith("no split 'dev'; write one of test, train as `split`")


def test_read_source_folder_that_names_no_split_is_read_whole(tmp_path: Path) -> None:
    jsonl(tmp_path, {"prompt": "b"}, name="restrained.jsonl")
    jsonl(tmp_path, {"prompt": "a"}, name="latest.jsonl")

    assert texts(Source(path=tmp_path)) == ["a", "b"]
    assert [path.name for path in source_files(Source(path=tmp_path))] == ["latest.jsonl", "restrained.jsonl"]


def test_read_source_saved_dataset_is_read_with_and_without_splits(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_list([{"prompt": "a", "n": 1}, {"prompt": "b", "n": 2}])
    rows.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": rows, "test": rows.select([1])}).save_to_disk(tmp_path / "splits")

    assert texts(Source(path=tmp_path / "one")) == ["a", "b"]
    assert texts(Source(path=tmp_path / "splits", split="test")) == ["b"]
    assert refusal(Source(path=tmp_path / "splits", split="x")).endswith("write one of test, train as `split`")
    assert [path.suffix for path in source_files(Source(path=tmp_path / "one"))] == [".arrow"]


def test_read_source_hub_dataset_is_read_and_its_absence_said(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def load_dataset(name: str, config: str | None, *, split: str, revision: str | None) -> object:
        if name != "some/set":
            raise datasets.exceptions.DatasetNotFoundError(f"Dataset '{name}' doesn't exist\non the Hub")
        return datasets.Dataset.from_list([{"prompt": f"{config} {split} {revision}"}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)

    pinned = Source(dataset="some/set", config="main", split="train[:1]", revision="v2")
    assert texts(pinned) == ["main train[:1] v2"]
    assert refusal(Source(dataset="no/set")) == (
        "dataset no/set: split 'train' cannot be loaded: Dataset 'no/set' doesn't exist on the Hub"
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
COLUMNS = ("prompt", "messages", "system", "tools", "answer", "constraints", "language")


@given(
    st.dictionaries(st.sampled_from(COLUMNS), JSON | st.lists(st.fixed_dictionaries({"role": JSON, "content": JSON})))
)
def test_read_row_any_row_is_read_or_refused(row: dict[str, object]) -> None:
    try:
        found: RawPrompt | str = read_row(row, "place", "prompt", "messages")
    except SourceError as error:
        found = str(error)

    if isinstance(found, RawPrompt):
        assert found.messages[-1].content.strip()
    else:
        assert found.startswith("place: ")
        assert "\n" not in found
