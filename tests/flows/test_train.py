"""The verb `train`.

prefactory train RUN                       on the run's pairs, as its recipe's section `train` says
prefactory train RUN --recipe other.yaml   the same pairs with other settings, into a folder of its own
"""

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("trl", reason="the trainer's libraries are not installed")

from factory.ledger.rounds import round_recipe
from factory.recipes.recipe_file import read_recipe
from factory.recipes.recipe_file import write_recipe as write_recipe_file
from factory.run import RunFolder
from factory.training.token_pairs import FORMAT
from schemas.recipe import ModelRef
from schemas.semi_online import RoundOutcome, Story
from tests.conftest import Command, RecipeWriter
from tests.runs import make
from tests.tiny_model import save_tiny_model
from tests.token_export import pairs, write_export

SETTINGS: dict[str, object] = {"train.max_steps": 2, "train.device": "cpu", "train.learning_rate": 1e-3}


@pytest.fixture
def run(write_recipe: RecipeWriter, tmp_path: Path) -> Path:
    """A run whose policy is a tiny model, and pairs with its token ids."""
    model = save_tiny_model(tmp_path / "tiny")
    root, _ = make(write_recipe({"policy.model": str(model)} | SETTINGS))
    write_export(RunFolder(root).export_path(FORMAT), pairs(20), pairs(4, first=100))
    return root


def test_train_makes_a_checkpoint_and_finds_it_again(prefactory: Command, run: Path) -> None:
    first = prefactory("train", run)

    assert first.code == 0, first.err
    assert f"Checkpoint: {run / 'train' / 'checkpoint'}" in first.out
    assert "step 2 of 2: loss" in first.err

    again = prefactory("train", run, "--json")

    found = json.loads(again.out)
    assert (again.code, found["status"], found["steps"]) == (0, "finished", 2)
    assert "step 2 of 2" not in again.err
    assert found["digest"][:16] in first.out


def test_train_with_another_recipe_goes_to_a_folder_of_its_own(
    prefactory: Command, run: Path, write_recipe: RecipeWriter
) -> None:
    recipe = write_recipe({"train.guards.min_pairs": 500}, name="other")

    ended = prefactory("train", run, "--recipe", recipe)

    (folder,) = (run / "train").iterdir()
    assert ended.code == 2
    assert ended.error == (f"{folder}: training stopped: 20 pairs to train on, fewer than train.guards.min_pairs 500")
    assert json.loads((folder / "result.json").read_text())["status"] == "tripped"
    assert json.loads(prefactory("train", run, "--recipe", recipe, "--json").out)["status"] == "tripped"

    assert prefactory("train", run, "--recipe", recipe, "--name", "mine").code == 2
    assert (run / "train" / "mine" / "result.json").exists()


def test_train_with_settings_that_changed_is_refused(
    prefactory: Command, run: Path, write_recipe: RecipeWriter
) -> None:
    def named(changes: dict[str, object]) -> Path:
        return write_recipe({"train.guards.min_pairs": 500} | changes, name="other")

    prefactory("train", run, "--recipe", named({}), "--name", "mine")

    ended = prefactory("train", run, "--recipe", named({"train.beta": 1.0}), "--name", "mine")

    assert (ended.code, "train.beta: 5.0 -> 1.0" in ended.error) == (2, True)


def test_train_without_token_ids_names_the_command_that_writes_them(prefactory: Command, run: Path) -> None:
    (RunFolder(run).export_path(FORMAT) / "data" / "train.parquet").unlink()

    ended = prefactory("train", run)

    assert ended.code == 2
    assert "prefactory export RECIPE --format trl-tokens" in ended.error


def test_train_of_a_round_that_was_never_begun_is_one_line(prefactory: Command, run: Path) -> None:
    ended = prefactory("train", run, "--round", 2)

    assert ended.code == 2
    assert "round=2: no run there" in ended.error
    assert "prefactory semi-online" in ended.error


@pytest.mark.parametrize("name", ["checkpoint", "state", "round-1", "../out", "a/b", ".hidden", ""])
def test_train_refuses_a_name_that_is_no_folder_of_its_own(prefactory: Command, run: Path, name: str) -> None:
    ended = prefactory("train", run, "--name", name)

    assert (ended.code, f"--name {name}: write letters" in ended.error) == (2, True)


def test_train_of_a_folder_that_is_no_run_says_so(prefactory: Command, tmp_path: Path) -> None:
    ended = prefactory("train", tmp_path)

    assert (ended.code, "no run there" in ended.error) == (2, True)


def test_train_takes_the_settings_of_the_recipe_that_the_run_was_last_started_with(
    prefactory: Command, write_recipe: RecipeWriter, run: Path
) -> None:
    changes: dict[str, object] = {"policy.model": str(run.parents[1] / "tiny"), "train.guards.min_pairs": 500}
    make(write_recipe(SETTINGS | changes))

    assert "fewer than train.guards.min_pairs 500" in prefactory("train", run).error


@pytest.mark.parametrize("reference", ["previous", "base"])
def test_train_of_a_round_starts_from_what_answered_it_wherever_the_run_lies_by_now(
    prefactory: Command, write_recipe: RecipeWriter, run: Path, tmp_path: Path, reference: str
) -> None:
    """Stopped by a guard, so that the plan alone is made."""
    changes: dict[str, object] = {"policy.model": str(tmp_path / "tiny"), "train.guards.min_pairs": 500}
    make(path := write_recipe(SETTINGS | changes | {"semi_online.reference": reference}))
    promoted = run / "train" / "round-0" / "checkpoint"
    shutil.copytree(tmp_path / "tiny", promoted)
    outcome = RoundOutcome(round=0, policy="d", reference="d", promoted="e", folder="train/round-0/checkpoint")
    RunFolder(run).story_path.write_text(Story(rounds=[outcome]).model_dump_json())
    later = RunFolder(run, 1)
    recipe = round_recipe(read_recipe(path), ModelRef(model=str(promoted)))
    later.recipe_path.parent.mkdir()
    write_recipe_file(recipe, later.recipe_path)
    later.manifest_path.write_text(RunFolder(run).manifest_path.read_text())
    write_export(later.export_path(FORMAT), pairs(20), pairs(4, first=100))
    moved = run.rename(run.with_name("moved"))

    ended = prefactory("train", moved, "--round", "1")

    plan = json.loads((moved / "train" / "round-1" / "plan.json").read_text())
    assert "min_pairs 500" in ended.error
    assert plan["model"] == str(moved / "train" / "round-0" / "checkpoint")
    assert plan["reference"] == (plan["model"] if reference == "previous" else str(tmp_path / "tiny"))
