"""What counts as done, and what is made of a run folder in which something is damaged."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from factory.ledger.identity import Stage
from factory.recipes.recipe_file import identity, read_recipe, stored_recipe
from factory.run import RunFolder, run_folder
from factory.work import Work
from schemas.chat import Completion
from schemas.errors import DriftError
from schemas.recipe import Recipe
from schemas.rows import Prompt
from schemas.tables import Table
from tests.conftest import Command, RecipeWriter
from tests.fake_engine import FakeEngine
from tests.runs import assert_equal, make, tables
from tests.samples import a_rollout

TIME = datetime(2026, 1, 1, tzinfo=UTC)


class Said:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def begin(self, phase: str, total: int) -> None: ...

    def advance(self, phase: str, steps: int = 1) -> None: ...

    def expect(self, phase: str, more: int) -> None: ...


@pytest.fixture
def recipe(write_recipe: RecipeWriter) -> Recipe:
    return read_recipe(write_recipe())


def work_of(root: Path, recipe: Recipe) -> tuple[Work, Said]:
    said = Said()
    return Work(RunFolder(root), recipe, {"seed": "7", "rollouts.max_tokens": "4"}, said), said


def with_prompts(work: Work, shards: int = 3) -> None:
    parts = [work.run.write_part(Table.PROMPTS, shard, [Prompt(f"p{shard}", "s", ())]) for shard in range(shards)]
    work.close(Stage.PROMPTS, 0, TIME, parts)


def with_rollouts(work: Work, shard: int, text: str = "x") -> None:
    part = work.run.write_part(Table.ROLLOUTS, shard, [a_rollout(f"p{shard}", text=text)])
    work.close(Stage.ROLLOUTS, shard, TIME, [part])


def test_pending_is_what_has_no_record_of_what_lies_there_now(tmp_path: Path, recipe: Recipe) -> None:
    work, _ = work_of(tmp_path, recipe)
    assert (work.shards(), work.pending(Stage.ROLLOUTS)) == (range(0), [])
    with_prompts(work)
    assert work.pending(Stage.ROLLOUTS) == [0, 1, 2]
    with_rollouts(work, 1)

    again, _ = work_of(tmp_path, recipe)

    assert work.pending(Stage.ROLLOUTS) == again.pending(Stage.ROLLOUTS) == [0, 2]
    other = replace(again, identity={"seed": "8"}, _records={})
    assert other.pending(Stage.ROLLOUTS) == [0, 1, 2]


def test_finished_wants_every_part_as_long_as_it_was(tmp_path: Path, recipe: Recipe) -> None:
    work, _ = work_of(tmp_path, recipe)
    with_prompts(work)
    with_rollouts(work, 0)
    part = work.run.part_path(Table.ROLLOUTS, 0)
    assert work.finished(Stage.ROLLOUTS, 0) is not None

    part.write_bytes(part.read_bytes()[:-1])

    assert work.finished(Stage.ROLLOUTS, 0) is None


def test_finished_is_not_what_was_made_from_other_parts(tmp_path: Path, recipe: Recipe) -> None:
    work, _ = work_of(tmp_path, recipe)
    with_prompts(work)
    with_rollouts(work, 0)
    outputs = [work.run.write_part(table, 0, []) for table in (Table.VERDICTS, Table.CANARIES, Table.REASKED)]
    work.close(Stage.VERDICTS, 0, TIME, outputs)
    with_rollouts(work, 0, "the same")
    assert work.finished(Stage.VERDICTS, 0) is None

    with_rollouts(work, 0)

    assert work.finished(Stage.VERDICTS, 0) is not None  # made again as it was, what rests on it counts again


@pytest.mark.parametrize("content", [b"", b"\0" * 700, b"{}", b"\xff\xfe", b'{"stage": "rollouts"'])
def test_record_that_is_none_is_said_once_and_counts_as_none(tmp_path: Path, recipe: Recipe, content: bytes) -> None:
    work, _ = work_of(tmp_path, recipe)
    with_prompts(work)
    with_rollouts(work, 0)
    work.run.record_path("rollouts", 0).write_bytes(content)

    again, said = work_of(tmp_path, recipe)

    assert again.pending(Stage.ROLLOUTS) == again.pending(Stage.ROLLOUTS) == [0, 1, 2]
    assert again.unreadable(Stage.ROLLOUTS, 0)
    assert not again.unreadable(Stage.ROLLOUTS, 1)
    (line,) = said.lines
    assert "rollouts-00000.json: not a record" in line


def test_journal_with_lines_that_cannot_be_read_says_so(tmp_path: Path, recipe: Recipe) -> None:
    work, said = work_of(tmp_path, recipe)
    with_prompts(work)
    journal = work.journal(Stage.ROLLOUTS, 0)
    journal.append(Completion("r", "x", "stop"))
    journal.path.write_bytes(journal.path.read_bytes() + b"garbage")

    assert set(work.journal(Stage.ROLLOUTS, 0).kept) == {"r"}
    assert "1 lines cannot be read" in said.lines[0]


# Whole runs


def damaged(root: Path, *names: str) -> None:
    for name in names:
        (root / name).write_bytes(b"\0" * 64)


@pytest.mark.parametrize(
    "names",
    [
        ["round=0/_records/rollouts-00001.json"],
        ["round=0/_records/prompts-00000.json"],
        ["round=0/_records/prompts-00000.json", "round=0/_records/rollouts-00000.json", "manifest.json"],
        ["round=0/_records/spreads-00000.json", "round=0/_records/pairs-00000.json"],
        ["manifest.json", "recipe.yaml", "catalog.duckdb", ".lock"],
        ["round=0/_records/export-00000.json"],
    ],
    ids=lambda names: " ".join(name.split("/")[-1] for name in names),
)
def test_run_whose_records_are_damaged_is_made_whole_and_sends_nothing(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, prefactory: Command, names: list[str]
) -> None:
    root, _ = make(write_recipe(), Stage.EXPORT)
    rows, recipe = tables(root), stored_recipe(root / "recipe.yaml")
    damaged(root, *names)
    fake_engine.seen.clear()

    ended = prefactory("run", write_recipe({"machine.shard_size": 3}), "--plain")

    assert ended.code == 0, ended.err
    assert fake_engine.questions == []
    assert_equal(tables(root), rows)
    assert identity(stored_recipe(root / "recipe.yaml")) == identity(recipe)
    assert prefactory("verify", root).code == 0


@pytest.mark.parametrize("lose", [Path.unlink, lambda path: path.write_bytes(b"")], ids=["gone", "empty"])
def test_run_without_its_manifest_is_refused_to_another_recipe(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, lose: Callable[[Path], object]
) -> None:
    root, _ = make(write_recipe(), Stage.ROLLOUTS)
    lose(root / "manifest.json")
    fake_engine.seen.clear()

    with pytest.raises(DriftError, match="its rollouts were made with another recipe"):
        make(write_recipe({"rollouts.max_tokens": 300}))

    assert fake_engine.seen == []
    assert run_folder(read_recipe(write_recipe())) == root
