"""Rows written again with the loop columns: everything else stays what it was."""

import gzip
import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from factory.survey.answer_columns import Wanted
from factory.survey.answer_files import answer_files
from factory.survey.answer_output import check_output, replaced_columns
from factory.survey.loop_survey import survey
from schemas.errors import SourceError, StorageError
from schemas.tables import LOOPS

UNIT = "and then she said it to him once more, "
LOOP = "Well" + UNIT * 50


def write(source: Path, target: Path) -> None:
    files = answer_files(source)
    check_output(target, source, files)
    survey(files, Wanted(), 1, target)


def refusal(source: Path, target: Path) -> str:
    with pytest.raises(SourceError) as caught:
        write(source, target)
    assert not target.is_file() or target == source
    return str(caught.value)


def test_write_lines_stay_as_they_are_and_get_the_evidence_at_their_end(tmp_path: Path) -> None:
    lines = [
        '{"n": 123456789012345678901234567890, "x": 1.10, "text": "short", "same": 1, "same": 2}',
        f'{{ "text" : "{LOOP}", "deep": {{"b": [1, NaN], "a": "\\ud800 ü"}} }}',
        "{}",
    ]
    source, target = tmp_path / "a.jsonl", tmp_path / "out" / "b.jsonl"
    source.write_text("\n".join([*lines[:1], " ", *lines[1:]]) + "\n")

    write(source, target)

    written = target.read_text().splitlines()
    assert [line.startswith(before.rstrip("} ")) for line, before in zip(written, lines, strict=True)] == [True] * 3
    loops = [{name: json.loads(line)[name] for name in LOOPS.names} for line in written]
    assert [loop["loop"] for loop in loops] == ["clean", "hard", None]
    assert (loops[1]["loop_onset"], loops[1]["loop_period"]) == (len("Well" + UNIT), len(UNIT))
    assert written[2] == json.dumps(loops[2])


def test_write_lines_evidence_of_before_is_replaced_where_it_stood(tmp_path: Path) -> None:
    source, target = tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"
    source.write_text(json.dumps({"text": LOOP, "loop": "clean", "loop_rule": None, "n": 10**30, "x": "\ud800"}) + "\n")

    assert replaced_columns(answer_files(source)) == ["loop", "loop_rule"]
    write(source, target)

    row = json.loads(gzip.decompress(target.read_bytes()))
    assert list(row)[:5] == ["text", "loop", "loop_rule", "n", "x"]
    assert (row["loop"], row["loop_rule"], row["n"], row["x"]) == ("hard", "exact", 10**30, "\ud800")


def test_write_parquet_keeps_columns_types_and_metadata(tmp_path: Path) -> None:
    source, target = tmp_path / "a.parquet", tmp_path / "b.parquet"
    before = pa.table(
        {"loop": [7, 8], "text": ["short", LOOP], "when": pa.array([1, None], pa.timestamp("us")), "b": [b"\xff", b""]}
    ).replace_schema_metadata({"whose": "ours"})
    pq.write_table(before, source)

    write(source, target)

    after = pq.read_table(target)
    assert after.schema.names == ["loop", "text", "when", "b", *LOOPS.names[1:]]
    assert after.select(["text", "when", "b"]).equals(before.select(["text", "when", "b"]))
    assert after.column("loop").to_pylist() == ["clean", "hard"]
    assert after.schema.metadata[b"whose"] == b"ours"
    assert after.column("loop_onset").type == pa.int64()


def test_write_saved_dataset_becomes_parquet_that_datasets_reads(tmp_path: Path) -> None:
    rows = [{"text": text, "label": 0} for text in ("short", LOOP)]
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no"])})
    datasets.Dataset.from_list(rows, features=features).save_to_disk(tmp_path / "saved")

    write(tmp_path / "saved", tmp_path / "b.parquet")

    loaded = datasets.load_dataset("parquet", data_files=str(tmp_path / "b.parquet"), cache_dir=str(tmp_path / "cache"))
    assert loaded["train"]["loop"][:] == ["clean", "hard"]
    assert loaded["train"]["text"][:] == ["short", LOOP]


def test_check_output_place_that_cannot_be_is_refused_before_any_work(tmp_path: Path) -> None:
    lines, typed = tmp_path / "in" / "a.jsonl", tmp_path / "in" / "b.parquet"
    lines.parent.mkdir()
    lines.write_text('{"text": "a"}\n')
    pq.write_table(pa.table({"text": ["a"]}), typed)

    assert "is the input" in refusal(lines, lines)
    assert "write a name in .jsonl" in refusal(lines, tmp_path / "x.parquet")
    assert "write a name in .parquet" in refusal(typed, tmp_path / "x.csv")
    assert "one of the two at a time" in refusal(lines.parent, tmp_path / "x.jsonl")
    lines.unlink()
    assert "or inside it" in refusal(typed.parent, typed.parent / "x.parquet")
    (tmp_path / "folder.parquet").mkdir()
    assert "is a folder" in refusal(typed, tmp_path / "folder.parquet")


def test_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    source, target = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    source.write_text('{"text": "a"}\n{"text": 7}\n')
    target.write_text("old")

    with pytest.raises(SourceError, match=r"a\.jsonl:2"):
        write(source, target)

    assert target.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "b.jsonl"]


def test_write_parquet_files_of_different_columns_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"text": ["a"], "n": [1]}), tmp_path / "in" / "a.parquet")
    pq.write_table(pa.table({"text": ["a"], "n": ["1"]}), tmp_path / "in" / "b.parquet")

    assert "b.parquet: its columns differ from the first file's: n" in refusal(tmp_path / "in", tmp_path / "x.parquet")


def test_write_where_nothing_can_be_written_names_the_option(tmp_path: Path) -> None:
    source, target = tmp_path / "a.jsonl", tmp_path / "a.jsonl.d" / "b.jsonl"
    source.write_text('{"text": "a"}\n')
    target.parent.write_text("a file where a folder is wanted")

    with pytest.raises(StorageError, match="name another file with --out"):
        write(source, target)
