"""SQL over a run's tables: the catalog opens anywhere, and a question can only look."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from factory.files import is_temporary
from factory.ledger.part_queries import tables_over
from factory.looking import queries
from factory.looking.views import VIEWS
from factory.run import RunFolder
from schemas.errors import Fixable, StorageError
from schemas.rows import Cause, Pair, Prompt
from schemas.tables import OF_ROUNDS, SCHEMAS, Table
from tests.full_disk import names, no_room
from tests.reports import a_manifest

PROMPT = Prompt("p", "file", ())
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
    queries.write_catalog(root / "catalog.duckdb", root)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    with duckdb.connect(str(root / "catalog.duckdb"), read_only=True) as client:
        found = client.execute("SELECT prompt_id, round FROM prompts ORDER BY ALL").fetchall()
        cause = client.execute("SELECT cause FROM pairs").fetchall()

    assert found == [("p0", 0), ("p1", 1), ("q0", 0), ("q1", 1)]
    assert cause == [("jury",)]


def asked_of(catalog: Path, *statements: str) -> Sequence[object]:
    """By a program that knows nothing of us."""
    with duckdb.connect(str(catalog), read_only=True) as client:
        return [client.execute(sql).fetchall() for sql in statements][-1:]


COUNTED = "SELECT count(*) FROM prompts"


def test_catalog_sees_what_came_since_it_was_written(tmp_path: Path) -> None:
    root = tmp_path / "run"
    RunFolder(root).write_manifest(a_manifest())
    queries.write_catalog(root / "catalog.duckdb", root)
    assert asked_of(root / "catalog.duckdb", COUNTED) == [[(0,)]]

    for number in range(2):
        RunFolder(root, number).write_part(Table.PROMPTS, 0, [PROMPT])

    assert asked_of(root / "catalog.duckdb", "SELECT round, prompt_id FROM prompts ORDER BY ALL") == [
        [(0, PROMPT.prompt_id), (1, PROMPT.prompt_id)]
    ]
    assert asked_of(root / "catalog.duckdb", "SELECT step, prompts FROM funnel ORDER BY round") == [
        [("prompts", 1), ("prompts", 1)]
    ]


@pytest.mark.parametrize("name", ["moved", "it's [moved] *", "r\u00fcn"])
def test_catalog_of_a_run_that_was_moved_is_an_error_until_it_is_told_or_kept(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    RunFolder(root).write_manifest(a_manifest())
    queries.write_catalog(root / "catalog.duckdb", root)
    moved = tmp_path / name
    root.rename(moved)
    catalog = moved / "catalog.duckdb"

    for view in ("prompts", "dropped", "rounds", "funnel"):
        with pytest.raises(duckdb.Error, match="No files found"):
            asked_of(catalog, f"FROM {view}")
    monkeypatch.chdir(moved)
    for view in ("dropped", "rounds", "funnel"):
        asked_of(Path("catalog.duckdb"), "SET VARIABLE run = '.'", f"FROM {view}")
    assert asked_of(Path("catalog.duckdb"), "SET VARIABLE run = '.'", COUNTED) == [[(4,)]]

    monkeypatch.chdir(tmp_path)
    queries.keep_catalog(catalog, moved)

    assert asked_of(catalog, COUNTED) == [[(4,)]]
    written = catalog.read_bytes()
    queries.keep_catalog(catalog, moved)
    assert catalog.read_bytes() == written  # it was right already


def test_catalog_that_cannot_be_kept_is_left_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StorageError("no room")

    monkeypatch.setattr(queries, "write_catalog", full)

    queries.keep_catalog(root / "catalog.duckdb", root)

    assert queries.ask(root, COUNTED).rows == ((4,),)


def test_catalog_every_table_has_its_columns_rows_or_not(root: Path) -> None:
    queries.write_catalog(root / "catalog.duckdb", root)

    with duckdb.connect(str(root / "catalog.duckdb"), read_only=True) as client:
        for table, schema in SCHEMAS.items():
            described = client.execute(f"SELECT * FROM {table} LIMIT 0").description or []
            assert [column[0] for column in described] == [*schema.names, "round"]


@pytest.mark.parametrize("table", SCHEMAS)
def test_catalog_empty_table_has_the_types_of_a_full_one(tmp_path: Path, table: Table) -> None:
    empty, full = tmp_path / "empty", tmp_path / "full"
    RunFolder(full).write_part(table, 0, [])

    types = [queries.ask(root, f"SELECT column_type FROM (DESCRIBE {table})").rows for root in (empty, full)]

    assert types[0] == types[1]


def test_catalog_every_column_is_explained(root: Path) -> None:
    queries.write_catalog(root / "catalog.duckdb", root)

    with duckdb.connect(str(root / "catalog.duckdb"), read_only=True) as client:
        found = client.execute(
            "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal"
        ).fetchall()
        explained = client.execute("SELECT view_name, comment FROM duckdb_views() WHERE NOT internal").fetchall()

    of_tables = {
        (str(name), column.name): column.metadata[b"comment"].decode()
        for name, schema in [*SCHEMAS.items(), *OF_ROUNDS.items()]
        for column in schema
        if column.name != "round"
    }
    comments = {(table, column): comment for table, column, comment in found}
    assert comments.items() >= of_tables.items()
    assert all(comments.values())
    assert {name for name, comment in explained if comment} >= {view.name for view in VIEWS}


@pytest.mark.parametrize("name", ["it's", "with space", "größe", "run[1]", "what?", "a*b", "{a,b}"])
def test_query_folder_of_any_name_is_read(tmp_path: Path, name: str) -> None:
    RunFolder(tmp_path / name).write_part(Table.PROMPTS, 0, [PROMPT])

    assert queries.ask(tmp_path / name, "SELECT prompt_id FROM prompts").rows == (("p",),)


# Queries


def test_query_gives_columns_and_rows_of_plain_values(root: Path) -> None:
    found = queries.ask(root, "SELECT prompt_id, messages, margin, chosen_token_ids, rejected_token_ids FROM pairs")

    assert found.columns == ("prompt_id", "messages", "margin", "chosen_token_ids", "rejected_token_ids")
    assert found.rows == (("p", [], 2.0, [2], None),)


def test_query_parameters_are_values_and_never_sql(root: Path) -> None:
    found = queries.ask(root, "SELECT count(*) FROM prompts WHERE prompt_id = ?", ["p0' OR true --"])

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
        queries.ask(root, sql.format(root=root, outside=tmp_path / "outside", cwd=Path.cwd()))

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
    assert queries.ask(root, sql).rows


@pytest.mark.parametrize("sql", ["SELEC 1", "SELECT nothing FROM prompts", "SELECT\n1/\n'x'", "SELECT 1; SELEC 2"])
def test_query_error_is_one_line(root: Path, sql: str) -> None:
    with pytest.raises(Fixable) as caught:
        queries.ask(root, sql)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("sql", ["", ";", "-- nothing"])
def test_query_of_no_statement_is_refused_with_an_example(root: Path, sql: str) -> None:
    with pytest.raises(Fixable, match="nothing is asked; for example"):
        queries.ask(root, sql)


def test_query_of_a_damaged_part_is_an_error_of_ours(root: Path) -> None:
    RunFolder(root).part_path(Table.PROMPTS, 0).write_bytes(b"PAR1 and then nothing")

    with pytest.raises(Fixable):
        queries.ask(root, "SELECT count(*) FROM prompts")


def test_copy_writes_what_the_query_says_and_counts_it(root: Path, tmp_path: Path) -> None:
    rows = queries.copy(root, "SELECT prompt_id FROM prompts ORDER BY 1", tmp_path / "it's" / "out.parquet")

    assert rows == 4
    assert pq.read_table(tmp_path / "it's" / "out.parquet").to_pydict() == {"prompt_id": ["p0", "p1", "q0", "q1"]}


def test_what_does_not_fit_into_memory_lies_where_it_is_known_as_unfinished(root: Path, tmp_path: Path) -> None:
    """So that what a killed query leaves is cleared up."""
    where = "SELECT current_setting('temp_directory') AS spill"
    queries.copy(root, where, root / "export" / "x.parquet")
    with tables_over(root, {}) as ask:
        ((checked,),) = ask(where)
    ((asked,),) = queries.ask(root, where).rows
    ((copied,),) = duckdb.read_parquet(str(root / "export" / "x.parquet")).fetchall()

    spills = [Path(str(spill)) for spill in (asked, checked, copied)]
    assert [spill.parent for spill in spills] == [root, root, root / "export"]
    assert all(is_temporary(spill.name) for spill in spills)
    assert len(set(spills)) == 3


def test_write_catalog_no_room_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    queries.write_catalog(path, tmp_path)
    before = path.read_bytes()

    with no_room(), pytest.raises(StorageError):
        queries.write_catalog(path, tmp_path)

    assert path.read_bytes() == before
    assert names(tmp_path) == ["catalog.duckdb"]


def test_copy_no_room_is_a_storage_error(tmp_path: Path) -> None:
    with no_room(), pytest.raises(StorageError):
        queries.copy(tmp_path, "SELECT range FROM range(1000)", tmp_path / "out.parquet")
