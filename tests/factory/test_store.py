"""Parquet and DuckDB: what is written comes back, whole or not at all, and a query can only look."""

import contextlib
import math
import os
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory import store
from factory.run import RunFolder
from schemas.errors import Fixable, SchemaError, StorageError
from schemas.rows import Cause, Dropped, DropReason, Pair, Prompt, Rollout, Row, Scorecard, Verdict, VerdictStatus
from schemas.tables import SCHEMAS, Table
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


@contextlib.contextmanager
def no_room() -> Iterator[None]:
    """No file can grow: what a full disk looks like to a writer."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


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


def test_write_catalog_no_room_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    store.write_catalog(path, tmp_path)
    before = path.read_bytes()

    with no_room(), pytest.raises(StorageError):
        store.write_catalog(path, tmp_path)

    assert path.read_bytes() == before
    assert names(tmp_path) == ["catalog.duckdb"]


def test_copy_query_no_room_is_a_storage_error(tmp_path: Path) -> None:
    with no_room(), pytest.raises(StorageError):
        store.copy_query(tmp_path, "SELECT range FROM range(1000)", tmp_path / "out.parquet")


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


# The catalog


VERDICT = Verdict("p", "p:0:t0", "clarity", VerdictStatus.OK, score=7.5)
PAIR = Pair("p", (), "a", "b", "p:0:t0", "p:0:t1", 1.0, -1.0, 2.0, 1.0, Cause.JURY, (1,), (2,), None, False, True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A run folder with two rounds of prompts, a pair, and nothing of the rest."""
    for number in range(2):
        run = RunFolder(tmp_path / "run", number)
        run.write_part(Table.PROMPTS, 0, [replace(PROMPT, prompt_id=f"p{number}")])
        run.write_part(Table.PROMPTS, 1, [replace(PROMPT, prompt_id=f"q{number}")])
    RunFolder(tmp_path / "run").write_part(Table.PAIRS, 0, [PAIR])
    return tmp_path / "run"


def test_catalog_opens_in_a_plain_client_from_anywhere(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write_catalog(root / "catalog.duckdb", root)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    with duckdb.connect(str(root / "catalog.duckdb"), read_only=True) as client:
        found = client.execute("SELECT prompt_id, round FROM prompts ORDER BY ALL").fetchall()
        cause = client.execute("SELECT cause FROM pairs").fetchall()

    assert found == [("p0", 0), ("p1", 1), ("q0", 0), ("q1", 1)]
    assert cause == [("jury",)]


def test_catalog_every_table_has_its_columns_rows_or_not(root: Path) -> None:
    store.write_catalog(root / "catalog.duckdb", root)

    with duckdb.connect(str(root / "catalog.duckdb"), read_only=True) as client:
        for table, schema in SCHEMAS.items():
            described = client.execute(f"SELECT * FROM {table} LIMIT 0").description or []
            assert [column[0] for column in described] == [*schema.names, "round"]


@pytest.mark.parametrize("table", SCHEMAS)
def test_catalog_empty_table_has_the_types_of_a_full_one(tmp_path: Path, table: Table) -> None:
    empty, full = tmp_path / "empty", tmp_path / "full"
    RunFolder(full).write_part(table, 0, [])

    types = [store.query(root, f"SELECT column_type FROM (DESCRIBE {table})").rows for root in (empty, full)]

    assert types[0] == types[1]


def test_catalog_every_column_is_explained(root: Path) -> None:
    store.write_catalog(root / "catalog.duckdb", root)

    with duckdb.connect(str(root / "catalog.duckdb"), read_only=True) as client:
        found = client.execute(
            "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal AND column_name <> 'round'"
        ).fetchall()

    assert {(table, column): comment for table, column, comment in found} == {
        (table.value, column.name): column.metadata[b"comment"].decode()
        for table, schema in SCHEMAS.items()
        for column in schema
    }


@pytest.mark.parametrize("name", ["it's", "with space", "größe", "run[1]", "what?", "a*b", "{a,b}"])
def test_query_folder_of_any_name_is_read(tmp_path: Path, name: str) -> None:
    RunFolder(tmp_path / name).write_part(Table.PROMPTS, 0, [PROMPT])

    assert store.query(tmp_path / name, "SELECT prompt_id FROM prompts").rows == (("p",),)


# Queries


def test_query_gives_columns_and_rows_of_plain_values(root: Path) -> None:
    found = store.query(root, "SELECT prompt_id, messages, margin, chosen_token_ids, rejected_token_ids FROM pairs")

    assert found.columns == ("prompt_id", "messages", "margin", "chosen_token_ids", "rejected_token_ids")
    assert found.rows == (("p", [], 2.0, [2], None),)


def test_query_parameters_are_values_and_never_sql(root: Path) -> None:
    found = store.query(root, "SELECT count(*) FROM prompts WHERE prompt_id = ?", ["p0' OR true --"])

    assert found.rows == ((0,),)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM read_text('{root}/../secret')",
        "COPY (SELECT 1) TO '{outside}'",
        "COPY (SELECT 1) TO '{root}/new.parquet'",
        "COPY (SELECT 1 AS prompt_id) TO '{root}/round=0/pairs/part-00000.parquet' (FORMAT parquet)",
        "EXPORT DATABASE '{root}/export'",
        "ATTACH '{outside}' AS other",
        "ATTACH '{root}/new.duckdb' AS other",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET allowed_directories = ['/']",
        "RESET allowed_directories",
        "SELECT * FROM 'http://127.0.0.1:1/x.parquet'",
        "SELECT * FROM read_csv('https://127.0.0.1:1/x.csv')",
        "SELECT * FROM read_blob('s3://bucket/x')",
        "SELECT * FROM read_text('file:///etc/passwd')",
        "SELECT * FROM read_text('{root}/link')",
        "SELECT * FROM read_text('{root}/folder/secret')",
        "SELECT * FROM read_text('{root}/folder/../../secret')",
        "SELECT * FROM glob('{root}/../*')",
        "SELECT * FROM glob('{root}/folder/*')",
        "SELECT * FROM read_text(['{root}/manifest.json', '/etc/passwd'])",
        "SELECT * FROM read_text('/proc/self/environ')",
        "SELECT * FROM read_json('/proc/self/environ')",
        "SELECT * FROM sniff_csv('/etc/passwd')",
        "SELECT * FROM parquet_metadata('/etc/passwd')",
        "SELECT * FROM glob('{cwd}/.tmp/*')",
        "DESCRIBE SELECT * FROM read_csv('/etc/passwd')",
        "SELECT getenv('HOME')",
        "SELECT * FROM duckdb_secrets()",
        "SELECT * FROM duckdb_extensions()",
        "SELECT * FROM sqlite_scan('/etc/x', 'y')",
        "SELECT * FROM query('COPY (SELECT 1) TO ''{outside}''')",
        "SELECT * FROM asked",
        "SELECT * FROM enable_logging()",
        "CREATE SECRET (TYPE s3)",
        "CREATE TABLE t AS SELECT 1",
        "PRAGMA database_list",
        "PRAGMA enable_profiling",
        "CALL pragma_version()",
        "IMPORT DATABASE '{root}'",
        "UPDATE EXTENSIONS",
        "PREPARE asked AS SELECT 1",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{root}/new.csv'",
        "/**/ EXPLAIN ANALYZE COPY (SELECT 1) TO '{root}/new.csv'",
        "EXPLAIN (ANALYZE) COPY (SELECT 1) TO '{root}/new.csv'",
        "EXPLAIN /* /* */ SELECT 1 --*/ ANALYZE COPY (SELECT 1) TO '{root}/new.csv'",
        "WITH a AS (COPY (SELECT 1) TO '{root}/new.csv') SELECT * FROM a",
        "EXPLAIN ANALYZE WITH a AS (COPY (SELECT 1) TO '{root}/new.csv') SELECT * FROM a",
        "WITH a AS (SELECT 1), b AS (COPY (FROM a) TO '{root}/new.csv') SELECT * FROM a UNION ALL FROM b",
        "SELECT 1; WITH a AS (COPY (SELECT 1) TO '{root}/new.csv') SELECT * FROM a",
        "SELECT 1; COPY (SELECT 1) TO '{root}/new.csv'",
        "SELECT " + "1 + " * 900 + "1",
    ],
)
def test_query_can_only_look_and_only_at_the_run(root: Path, tmp_path: Path, sql: str) -> None:
    (tmp_path / "outer").mkdir()
    (tmp_path / "outer" / "secret").write_text("secret")
    (tmp_path / "secret").write_text("secret")
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(tmp_path / "outer")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    with pytest.raises(Fixable, match=r"^query: "):
        store.query(root, sql.format(root=root, outside=tmp_path / "outside", cwd=Path.cwd()))

    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "sql",
    [
        "EXPLAIN SELECT 1",
        "explain analyze SELECT count(*) FROM prompts",
        "WITH a AS MATERIALIZED (SELECT 1 AS x) SELECT * FROM a UNION ALL SELECT 2 ORDER BY x",
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 3) SELECT max(n) FROM t",
        "SELECT (SELECT count(*) FROM pairs), list_transform([1], lambda x: x + 1)",
        "FROM prompts SELECT prompt_id",
        "SUMMARIZE prompts",
        "DESCRIBE pairs",
        "SHOW TABLES",
        "VALUES (1); SELECT 2",
    ],
)
def test_query_every_way_to_look_is_open(root: Path, sql: str) -> None:
    assert store.query(root, sql).rows


@pytest.mark.parametrize("sql", ["SELEC 1", "SELECT nothing FROM prompts", "SELECT\n1/\n'x'", "SELECT 1; SELEC 2"])
def test_query_error_is_one_line(root: Path, sql: str) -> None:
    with pytest.raises(Fixable) as caught:
        store.query(root, sql)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("sql", ["", ";", "-- nothing"])
def test_query_of_no_statement_has_no_rows(root: Path, sql: str) -> None:
    assert store.query(root, sql) == store.Answer((), ())


def test_query_of_a_damaged_part_is_an_error_of_ours(root: Path) -> None:
    RunFolder(root).part_path(Table.PROMPTS, 0).write_bytes(b"PAR1 and then nothing")

    with pytest.raises(Fixable):
        store.query(root, "SELECT count(*) FROM prompts")


def test_copy_query_writes_what_the_query_says_and_counts_it(root: Path, tmp_path: Path) -> None:
    rows = store.copy_query(root, "SELECT prompt_id FROM prompts ORDER BY 1", tmp_path / "it's" / "out.parquet")

    assert rows == 4
    assert pq.read_table(tmp_path / "it's" / "out.parquet").to_pydict() == {"prompt_id": ["p0", "p1", "q0", "q1"]}


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
