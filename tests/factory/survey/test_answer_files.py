"""Which files of answers can be read, in what pieces, and what is refused with its place."""

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from factory.survey.answer_files import AnswerFile, ArrowRows, JsonRows, answer_files, column_types, read_rows
from schemas.errors import SourceError


def jsonl(path: Path, *rows: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def texts(path: Path) -> list[object]:
    return [
        value if not isinstance(value, pa.Scalar) else value.as_py()
        for file in answer_files(path)
        for rows in read_rows(file, ["text"])
        for value in rows.column("text")
    ]


def refusal(path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        texts(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_read_rows_lines_keep_their_bytes_and_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [b'{"text":  "a", "n": 123456789012345678901234567890}', b'{"n": NaN, "text": "b"}']
    path.write_bytes(b"\xef\xbb\xbf" + lines[0] + b"\r\n\n  \n" + lines[1])

    (rows,) = read_rows(AnswerFile(path, answer_files(path)[0].kind), None)

    assert isinstance(rows, JsonRows)
    assert rows.lines == lines
    assert [rows.place(0), rows.place(1)] == [f"{path}:1", f"{path}:4"]
    assert rows.rows[0]["n"] == 123456789012345678901234567890


def test_read_rows_many_rows_come_in_pieces_with_every_row_once(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [str(number) for number in range(3000)], "other": ["x" * 100] * 3000}), path)

    pieces = list(read_rows(answer_files(path)[0], ["text"]))

    assert all(isinstance(piece, ArrowRows) and piece.batch.schema.names == ["text"] for piece in pieces)
    assert max(map(len, pieces)) <= 1024
    assert texts(path) == [str(number) for number in range(3000)]
    assert pieces[1].place(0) == f"{path}: row {len(pieces[0]) + 1}"


def test_read_rows_large_rows_come_in_small_pieces(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows = [f"{number}" * 200_000 for number in range(60)]
    pq.write_table(pa.table({"text": rows}), path, compression="none", use_dictionary=False)

    assert max(map(len, read_rows(answer_files(path)[0], None))) < 40
    assert texts(path) == rows


def test_answer_files_compressed_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "a"}\n'))

    assert texts(path) == ["a"]


def test_answer_files_saved_dataset_is_read_with_all_its_splits(tmp_path: Path) -> None:
    dataset = datasets.Dataset.from_dict({"text": ["b", "a"]})
    datasets.DatasetDict(train=dataset, test=dataset.select([1])).save_to_disk(tmp_path / "saved")

    assert texts(tmp_path / "saved") == ["a", "b", "a"]
    assert texts(tmp_path / "saved" / "train") == ["b", "a"]


def test_answer_files_folder_is_read_by_name_without_what_describes_it(tmp_path: Path) -> None:
    jsonl(tmp_path / "b" / "x.jsonl", {"text": "second"})
    pq.write_table(pa.table({"text": ["first"]}), tmp_path / "a.parquet")
    for name in ("README.md", "info.json", ".x.jsonl.7.tmp", ".cache.jsonl"):
        (tmp_path / name).write_text("no rows")

    assert texts(tmp_path) == ["first", "second"]


def test_answer_files_of_no_kind_are_refused_and_named(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"\0")

    assert refusal(tmp_path / "nowhere") == f"{tmp_path}/nowhere: no such file or folder"
    assert ".jsonl" in refusal(tmp_path / "x.bin")
    assert refusal(tmp_path).endswith("there is .bin")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"text": "a"}\n{"text": \n', ":2: not JSON"),
        (b'{"text": "a"}\n\n["b"]\n', ":3: got a JSON list; write one object a line"),
        (b'{"text": "a\xff"}\n', ":1: byte 12 is not UTF-8"),
    ],
)
def test_read_rows_line_that_is_no_row_is_named(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)

    assert expected in refusal(tmp_path / "a.jsonl")


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl.gz"])
def test_read_rows_file_that_is_not_what_its_name_says_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("not that")

    assert f"{tmp_path}/{name}: not readable as" in refusal(tmp_path / name)


@pytest.mark.parametrize("cut", [1, 40])
def test_read_rows_file_that_is_cut_off_is_refused(tmp_path: Path, cut: int) -> None:
    whole = gzip.compress("".join(f'{{"text": "{number**9}"}}\n' for number in range(999)).encode())
    (tmp_path / "a.jsonl.gz").write_bytes(whole[:-cut])

    assert "a.jsonl.gz" in refusal(tmp_path / "a.jsonl.gz")


def test_read_rows_packed_line_without_end_is_refused_before_it_is_held(tmp_path: Path) -> None:
    """What is small on the disk and has no end in memory."""
    with gzip.open(tmp_path / "x.jsonl.gz", "wb", compresslevel=1) as file:
        file.write(b'{"text": "fine"}\n')
        for _ in range(40):
            file.write(b"[" * 2**20)

    assert refusal(tmp_path / "x.jsonl.gz").endswith("x.jsonl.gz:2: longer than 32 MiB; write one object a line")


def test_column_types_are_arrows_or_unknown(tmp_path: Path) -> None:
    rows: Sequence[Mapping[str, object]] = [{"text": "a"}, {"text": "b", "n": 1}]
    pq.write_table(pa.table({"text": ["a"], "n": [1]}), tmp_path / "a.parquet")
    (tmp_path / "empty.jsonl").write_text("\n")

    assert column_types(answer_files(jsonl(tmp_path / "a.jsonl", *rows))[0]) == {"text": None, "n": None}
    assert column_types(answer_files(tmp_path / "a.parquet")[0]) == {"text": pa.string(), "n": pa.int64()}
    assert column_types(answer_files(tmp_path / "empty.jsonl")[0]) == {}
