"""Questions from the command line, and each form of an answer."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from factory.recipes.recipe_file import read_recipe
from factory.run import run_folder
from tests.conftest import Command, RecipeWriter

NESTED = "SELECT prompt_id, messages, NULL AS nothing FROM prompts ORDER BY ALL"


@pytest.fixture
def root(prefactory: Command, write_recipe: RecipeWriter) -> Path:
    path = write_recipe()
    prefactory("sample", path)
    return run_folder(read_recipe(path))


def test_query_every_form_holds_the_same_rows(prefactory: Command, root: Path, tmp_path: Path) -> None:
    found = json.loads(prefactory("query", root, NESTED, "--format", "json").out)
    lines = list(csv.DictReader(io.StringIO(prefactory("query", root, NESTED, "--format", "csv").out)))
    prefactory("query", root, NESTED, "--format", "parquet", "--out", tmp_path / "found.parquet")

    assert len(found) == 13
    assert pq.read_table(tmp_path / "found.parquet").to_pylist() == found
    assert [line | {"messages": json.loads(line["messages"]), "nothing": None} for line in lines] == found


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_query_out_file_holds_what_the_terminal_would(
    prefactory: Command, root: Path, tmp_path: Path, form: str
) -> None:
    words = ["query", root, "SELECT count(*) AS n, '<b>[red]é' AS t FROM prompts", "--format", form]
    shown = prefactory(*words).out

    silent = prefactory(*words, "--out", tmp_path / "found")

    assert silent.out == ""
    assert (tmp_path / "found").read_text(encoding="utf-8") == shown
    assert "<b>[red]" in shown


def test_query_without_a_row_is_valid_in_every_form(prefactory: Command, root: Path) -> None:
    words = ["query", root, "SELECT cause FROM pairs", "--format"]

    assert json.loads(prefactory(*words, "json").out) == []
    assert prefactory(*words, "csv").out == "cause\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["SELECT 1", "--format", "parquet"], "--out"),
        (["SELECT 1", "--out", "{root}"], "cannot be written"),
        (["", "--format", "csv"], "nothing is asked"),
        (["DROP VIEW pairs", "--format", "json"], "only SELECT"),
    ],
    ids=["no file", "a folder", "nothing", "no question"],
)
def test_query_that_cannot_be_answered_is_one_line(
    prefactory: Command, root: Path, words: Sequence[str], says: str
) -> None:
    ended = prefactory("query", root, *(word.format(root=root) for word in words))

    assert ended.code != 0
    assert says in ended.error
    assert len(ended.error.strip().splitlines()) == 1


def test_sql_answers_statement_after_statement(
    prefactory: Command, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("SELECT count(*) AS n\nFROM prompts;\nSELECT 'x;y' AS semi"))

    ended = prefactory("sql", root)

    assert ended.code == 0
    assert "13" in ended.out
    assert "x;y" in ended.out


def test_sql_stops_at_a_script_s_first_error(prefactory: Command, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("SELECT nothing;\nSELECT 4711;\n"))

    ended = prefactory("sql", root)

    assert ended.code == 2
    assert "nothing" in ended.error
    assert "4711" not in ended.out
