"""Records that are lost: written anew over parts that vouch for it, and over no others."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from factory.judging.trust import cost_rows
from factory.ledger.identity import Stage
from factory.ledger.salvage import salvaged
from factory.progress import Silent
from factory.recipes.recipe_file import read_recipe
from factory.run import RunFolder
from factory.work import Work
from schemas.chat import Completion
from schemas.manifest import UNCOUNTED
from schemas.rows import Prompt, Rollout
from schemas.tables import Table
from tests.conftest import RecipeWriter
from tests.runs import make

Change = Callable[[Work], object]


@pytest.fixture
def folder(write_recipe: RecipeWriter) -> RunFolder:
    root, _ = make(write_recipe(), Stage.ROLLOUTS)
    return RunFolder(root)


def at_work(folder: RunFolder, write_recipe: RecipeWriter, **changed: object) -> Work:
    """As a process finds the folder that has not seen it before."""
    manifest = folder.known()
    identity = manifest.identity | {field.replace("__", "."): json.dumps(value) for field, value in changed.items()}
    return Work(folder, read_recipe(write_recipe()), identity, Silent())


def test_salvaged_record_names_the_parts_that_the_lost_one_named(folder: RunFolder, write_recipe: RecipeWriter) -> None:
    before = folder.record("rollouts", 1)
    folder.record_path("rollouts", 1).unlink()

    after = salvaged(at_work(folder, write_recipe), Stage.ROLLOUTS, 1)

    assert before is not None
    assert after == folder.record("rollouts", 1)
    assert after is not None
    assert (after.fingerprint, after.inputs, after.outputs) == (before.fingerprint, before.inputs, before.outputs)
    assert {name: after.notes[name] for name in ("hard_loops", "to_judge")} == {
        name: before.notes[name] for name in ("hard_loops", "to_judge")
    }


def test_salvaged_leaves_a_record_that_can_be_read_as_it_is(folder: RunFolder, write_recipe: RecipeWriter) -> None:
    before = folder.record_path("rollouts", 1).read_bytes()

    assert salvaged(at_work(folder, write_recipe), Stage.ROLLOUTS, 1) is None
    assert folder.record_path("rollouts", 1).read_bytes() == before


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def other_prompts(work: Work) -> None:
    rows = [Prompt(f"p{shard}", "file", ()) for shard in work.shards()]
    record = work.record(Stage.PROMPTS, 0)
    parts = [work.run.write_part(Table.PROMPTS, shard, [rows[shard]]) for shard in work.shards()]
    work.run.write_record(record.model_copy(update={"outputs": parts}))


UNVOUCHED: dict[str, Change] = {
    "says nothing": lambda work: work.run.write_part(Table.ROLLOUTS, 1, work.run.read_rows(Rollout, 1)),
    "is not there": lambda work: work.run.part_path(Table.ROLLOUTS, 1).unlink(),
    "cannot be read": lambda work: cut(work.run.part_path(Table.ROLLOUTS, 1)),
    "has a journal": lambda work: work.journal(Stage.ROLLOUTS, 1).append(Completion("r", "x", "stop")),
    "was made from other prompts": other_prompts,
}


@pytest.mark.parametrize("case", UNVOUCHED)
def test_salvaged_is_none_where_a_part_does_not_vouch_for_it(
    folder: RunFolder, write_recipe: RecipeWriter, case: str
) -> None:
    UNVOUCHED[case](at_work(folder, write_recipe))
    folder.record_path("rollouts", 1).unlink()

    assert salvaged(at_work(folder, write_recipe), Stage.ROLLOUTS, 1) is None
    assert not folder.record_path("rollouts", 1).exists()


def test_salvaged_is_none_where_something_else_is_wanted_now(folder: RunFolder, write_recipe: RecipeWriter) -> None:
    folder.record_path("rollouts", 1).unlink()

    assert salvaged(at_work(folder, write_recipe, rollouts__max_tokens=399), Stage.ROLLOUTS, 1) is None
    assert salvaged(at_work(folder, write_recipe), Stage.ROLLOUTS, 1) is not None


def test_salvaged_of_a_part_with_any_other_bit_is_none_or_has_the_rows_that_were_there(
    folder: RunFolder, write_recipe: RecipeWriter
) -> None:
    path, rows = folder.part_path(Table.ROLLOUTS, 1), folder.read_rows(Rollout, 1)
    whole = path.read_bytes()
    for at in range(0, len(whole), len(whole) // 60):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        folder.record_path("rollouts", 1).unlink(missing_ok=True)

        if salvaged(at_work(folder, write_recipe), Stage.ROLLOUTS, 1) is not None:
            assert folder.read_rows(Rollout, 1) == rows
            assert path.read_bytes() == whole


def test_cost_rows_of_a_record_that_was_written_anew_are_not_known(folder: RunFolder) -> None:
    record = folder.record("rollouts", 0)
    assert record is not None
    kept, anew = (
        record.model_copy(update={"notes": notes}) for notes in ({"cost.clarity.calls": 3.0}, {UNCOUNTED: 1.0})
    )

    assert [row.value for row in cost_rows([kept])] == [3.0]
    assert cost_rows([kept, anew]) == []
