"""The verb `train`.

prefactory train RUN                       on the run's pairs, as its recipe's section `train` says
prefactory train RUN --recipe other.yaml   the same pairs with other settings, into a folder of its own
"""

import json
from pathlib import Path

import pytest

pytest.importorskip("trl", reason="the trainer's libraries are not installed")

from factory.run import RunFolder
from factory.training.token_pairs import FORMAT
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
