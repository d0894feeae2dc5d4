"""Parquet: what is written comes back, whole or not at all."""

import math
import os
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory import store
from schemas.errors import SchemaError, StorageError
from schemas.rows import Dropped, DropReason, Prompt, Rollout, Row, Scorecard, Verdict, VerdictStatus
from schemas.tables import SCHEMAS, Table
from tests.full_disk import names, no_room
from tests.samples import a_rollout

briefly = settings(max_examples=25)
text = st.text(st.characters(codec="utf-8"))
strategies = st.sampled_from(list(store.ROW_TYPES.values())).flatmap(
    lambda kind: st.tuples(st.just(kind), st.lists(st.builds(kind), max_size=4))
)
st.register_type_strategy(str, text)
st.register_type_strategy(int, st.integers(0, 127))  # the narrowest column is a tier, a byte
st.register_type_strategy(float, st.floats(allow_nan=False))

PROMPT = Prompt("p", "file", ())
DROPPED = Dropped("p", DropReason.ALL_SAME)


# Round trips


@given(drawn=strategies)
@briefly
def test_part_rows_come_back_equal(
    tmp_path_factory: pytest.TempPathFactory, drawn: tuple[type[Row], list[Row]]
) -> None:
    kind, rows = drawn
    table = next(name for name, row_type in store.ROW_TYPES.items() if row_type is kind)
    path = tmp_path_factory.mktemp("part") / "part-00000.parquet"

    written = store.write_part(path, table, rows)

    assert store.read_part(path, kind) == rows  # type: ignore[type-var]  # one of them, which a value cannot show
    assert written == store.Written(store.sha256_of(path), len(rows), path.stat().st_size)
    assert pq.read_schema(path).equals(SCHEMAS[table])


def test_part_says_what_it_was_made_from_and_is_else_the_same(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    store.write_part(one, Table.DROPPED, [DROPPED], "a fingerprint")
    store.write_part(other, Table.DROPPED, [DROPPED])

    assert (store.made_from(one), store.made_from(other)) == ("a fingerprint", None)
    assert store.read_part(one, Dropped) == store.read_part(other, Dropped)
    assert store.has_form_of(one, Table.DROPPED)


def test_part_columns_that_are_not_wanted_are_none(tmp_path: Path) -> None:
    path = tmp_path / "part-00000.parquet"
    rows = [replace(DROPPED, prompt_id=name, detail=f"why {name}") for name in "ab"]
    store.write_part(path, Table.DROPPED, rows)

    assert store.read_part(path, Dropped, without=("detail",)) == [replace(row, detail=None) for row in rows]


def test_part_strange_texts_come_back_as_they_were(tmp_path: Path) -> None:
    for letters in ("", "\x00", "\r\n\u2028", "🏔️ e\u0301 \U0010ffff", "'; DROP TABLE pairs; --"):
        path = tmp_path / "part-00000.parquet"
        store.write_part(path, Table.DROPPED, [replace(DROPPED, prompt_id=letters, detail=letters)])

        assert store.read_part(path, Dropped) == [replace(DROPPED, prompt_id=letters, detail=letters)]


def test_part_none_and_empty_are_two_things(tmp_path: Path) -> None:
    path = tmp_path / "part-00000.parquet"
    rows = [replace(DROPPED, detail=None), replace(DROPPED, detail="")]

    store.write_part(path, Table.DROPPED, rows)

    assert store.read_part(path, Dropped) == rows


def test_part_equal_rows_make_equal_bytes(tmp_path: Path) -> None:
    one = store.write_part(tmp_path / "a.parquet", Table.PROMPTS, [PROMPT])

    assert store.write_part(tmp_path / "b.parquet", Table.PROMPTS, [PROMPT]) == one


@pytest.mark.parametrize(
    ("table", "row"),
    [
        (Table.PROMPTS, replace(PROMPT, source=None)),  # type: ignore[arg-type]  # the very fault
        (Table.PROMPTS, DROPPED),
        (Table.SCORECARDS, Scorecard("p", "r", tier=1000, score=None, spread=None, judges=1, eligible=True)),
        (Table.VERDICTS, Verdict("p", "r", "j", VerdictStatus.OK, prompt_tokens=2**70)),
        (Table.DROPPED, replace(DROPPED, detail="half a character: \ud800")),
    ],
    ids=["NULL", "another table's row", "a number too large", "a number far too large", "no text"],
)
def test_part_row_that_does_not_fit_is_refused_and_nothing_written(tmp_path: Path, table: Table, row: Row) -> None:
    path = tmp_path / "part-00000.parquet"

    with pytest.raises(SchemaError, match=f"does not fit the table `{table}`"):
        store.write_part(path, table, [row])

    assert names(tmp_path) == []


def test_part_with_a_bit_flipped_in_its_pages_is_refused(tmp_path: Path) -> None:
    """Pages carry checksums: what is read is what was written."""
    path = tmp_path / "part-00000.parquet"
    rows = [replace(DROPPED, detail=str(hash((number, "detail")))) for number in range(900)]
    store.write_part(path, Table.DROPPED, rows)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    with pytest.raises(SchemaError, match=r"part-00000\.parquet"):
        store.read_part(path, Dropped)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all, whatever its name may say"])
def test_part_that_is_none_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "part-00000.parquet"
    path.write_bytes(content)

    with pytest.raises(SchemaError, match=r"part-00000\.parquet: not a readable Parquet part"):
        store.read_part(path, Prompt)


def test_part_that_is_not_there_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"part-00000\.parquet"):
        store.read_part(tmp_path / "part-00000.parquet", Prompt)


def test_part_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "part-00000.parquet"
    pq.write_table(pa.table({"prompt_id": ["p"], "reason": ["all_same"], "why": ["?"]}), path)

    with pytest.raises(SchemaError, match="not in the form of the table `dropped`"):
        store.read_part(path, Dropped)


def test_part_with_a_word_that_no_row_knows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "part-00000.parquet"
    rows = pa.Table.from_pylist(
        [{"prompt_id": "p", "reason": "boredom", "detail": None}], schema=SCHEMAS[Table.DROPPED]
    )
    pq.write_table(rows, path)

    with pytest.raises(SchemaError, match="boredom"):
        store.read_part(path, Dropped)


# Whole or not at all


def test_write_part_no_room_leaves_the_old_part_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "part-00000.parquet"
    store.write_part(path, Table.PROMPTS, [PROMPT])

    with no_room(), pytest.raises(StorageError, match=r"part-00000\.parquet: cannot be written: .*File too large"):
        store.write_part(path, Table.PROMPTS, [PROMPT, PROMPT])

    assert store.read_part(path, Prompt) == [PROMPT]
    assert names(tmp_path) == ["part-00000.parquet"]


def test_write_text_no_room_leaves_the_old_text_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    store.write_text(path, "old")

    with no_room(), pytest.raises(StorageError):
        store.write_text(path, "new" * 1000)

    assert path.read_text() == "old"
    assert names(tmp_path) == ["manifest.json"]


def test_writing_error_in_the_block_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def interrupted() -> None:
        with store.writing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("folder", ["file/below", "/proc/below"], ids=["below a file", "where nobody may write"])
def test_write_part_folder_that_cannot_be_is_a_storage_error(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StorageError, match=f"{folder}.*cannot be written.*machine.runs"):
        store.write_part(tmp_path / folder / "part-00000.parquet", Table.PROMPTS, [PROMPT])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to every folder")
def test_write_part_read_only_folder_is_a_storage_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    with pytest.raises(StorageError, match="Permission denied"):
        store.write_part(tmp_path / "part-00000.parquet", Table.PROMPTS, [PROMPT])


# Rows


VERDICT = Verdict("p", "p:0:t0", "clarity", VerdictStatus.OK, score=7.5)


def test_rows_nan_is_kept_as_it_is(tmp_path: Path) -> None:
    store.write_part(tmp_path / "v.parquet", Table.VERDICTS, [replace(VERDICT, score=math.nan)])

    (row,) = store.read_part(tmp_path / "v.parquet", Verdict)

    assert row.score is not None
    assert math.isnan(row.score)


def test_rows_rollout_of_the_longest_kind_comes_back(tmp_path: Path) -> None:
    ids = tuple(range(20_000))
    rollout = replace(
        a_rollout(text="x" * 100_000),
        seed=2**53 - 1,
        finish_reason="length",
        prompt_token_ids=ids,
        token_ids=ids,
        loop=None,
    )

    store.write_part(tmp_path / "r.parquet", Table.ROLLOUTS, [rollout])

    assert store.read_part(tmp_path / "r.parquet", Rollout) == [rollout]
