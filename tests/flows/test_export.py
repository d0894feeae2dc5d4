"""`prefactory export --format`: several datasets of one run, of the same pairs, each said with what it could not hold."""

import json
import shutil

import pytest

from factory.ledger.identity import Stage
from factory.recipes.recipe_file import read_recipe
from factory.run import RunFolder, run_folder
from tests.conftest import Command, RecipeWriter
from tests.fake_hub import TOKEN, FakeHub
from tests.runs import make


@pytest.fixture
def run(write_recipe: RecipeWriter) -> RunFolder:
    root, _ = make(write_recipe(), Stage.EXPORT)
    return RunFolder(root)


def recorded(run: RunFolder) -> list[str]:
    record = run.record("export", 0)
    assert record is not None
    return str(record.notes["formats"]).split()


def folders(run: RunFolder) -> set[str]:
    return {path.name for path in (run.root / "export").iterdir()}


def test_export_formats_are_added_to_what_is_there(
    run: RunFolder, prefactory: Command, write_recipe: RecipeWriter
) -> None:
    before = (run.export_path("trl") / "README.md").stat().st_mtime_ns

    ended = prefactory("export", write_recipe(), "--format", "axolotl", "--format", "kto")

    assert ended.code == 0, ended.err
    assert folders(run) == {"trl", "axolotl", "kto"}
    assert recorded(run) == ["trl", "axolotl", "kto"]
    assert (run.export_path("trl") / "README.md").stat().st_mtime_ns == before
    assert f"Dataset: {run.export_path('axolotl')}  (for axolotl's DPO" in ended.out
    assert prefactory("verify", run.root).code == 0


def test_export_other_split_brings_every_format_up_to_date(
    run: RunFolder, prefactory: Command, write_recipe: RecipeWriter
) -> None:
    prefactory("export", write_recipe(), "--format", "openrlhf")

    prefactory("export", write_recipe({"export.test_share": 0.0}))

    assert {path.name for path in run.export_path("openrlhf").iterdir()} == {"README.md", "images", "train.jsonl"}
    assert {path.name for path in (run.export_path("trl") / "data").iterdir()} == {"train.parquet"}
    assert prefactory("verify", run.root).code == 0


def test_export_says_what_a_format_could_not_hold(prefactory: Command, write_recipe: RecipeWriter) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    path = write_recipe(prompts=[{"prompt": f"{n}", "tools": tools} for n in range(6)])
    make(path, Stage.EXPORT)

    ended = prefactory("export", path, "--format", "torchtune")

    pairs = json.loads(prefactory("status", run_folder(read_recipe(path)), "--json").out)["pairs"]
    assert pairs
    assert "No dataset for `torchtune`: there is nothing to write" in ended.out
    assert f"left out: {pairs} (the loader renders no tool declarations" in " ".join(ended.out.split())
    assert prefactory("verify", run_folder(read_recipe(path))).code == 0


def test_export_formats_of_the_recipe_are_what_a_run_writes(write_recipe: RecipeWriter) -> None:
    root, _ = make(write_recipe({"export.formats": ["sft", "grpo"]}), Stage.EXPORT)

    assert folders(RunFolder(root)) == {"sft", "grpo"}


def test_export_format_that_is_none_names_those_that_are(prefactory: Command, write_recipe: RecipeWriter) -> None:
    ended = prefactory("export", write_recipe(), "--format", "axolot")

    assert ended.code == 2
    assert "trl-tokens" in ended.out + ended.err


@pytest.mark.parametrize("formats", [["axolot"], ["trl", "trl"], []], ids=["unknown", "twice", "none"])
def test_export_formats_in_a_recipe_are_checked(
    prefactory: Command, write_recipe: RecipeWriter, formats: list[str]
) -> None:
    ended = prefactory("plan", write_recipe({"export.formats": formats}))

    assert ended.code == 2
    assert "export.formats" in ended.err


def test_export_that_lost_a_format_is_seen_and_made_again(
    run: RunFolder, prefactory: Command, write_recipe: RecipeWriter
) -> None:
    prefactory("export", write_recipe(), "--format", "axolotl")
    shutil.rmtree(run.export_path("axolotl"))

    seen = prefactory("verify", run.root)
    prefactory("export", write_recipe(), "--format", "axolotl")

    assert seen.code == 2
    assert "export/axolotl" in seen.out
    assert folders(run) == {"trl", "axolotl"}
    assert prefactory("verify", run.root).code == 0


def test_export_licence_of_no_source_is_refused_and_one_that_is_given_later_is_written(
    run: RunFolder, prefactory: Command, write_recipe: RecipeWriter
) -> None:
    refused = prefactory("export", write_recipe({"export.licences": {"nothing": "mit"}}))
    ended = prefactory("export", write_recipe({"export.licences": {"prompts": "mit"}}))

    assert refused.code == 2
    assert "export.licences.nothing: is no source of this recipe; they are prompts" in refused.err
    assert ended.code == 0, ended.err
    assert "license: mit" in (run.export_path("trl") / "README.md").read_text()


def test_export_push_of_several_formats_or_to_no_name_is_refused_before_anything_is_written(
    run: RunFolder, prefactory: Command, write_recipe: RecipeWriter
) -> None:
    several = prefactory("export", write_recipe(), "--format", "kto", "--format", "sft", "--push", "org/pairs")
    unnamed = prefactory("export", write_recipe(), "--format", "kto", "--push", "pairs")

    assert (several.code, unnamed.code) == (2, 2)
    assert "a dataset holds one format, and these are written: kto, sft; name one with --format" in several.err
    assert "write ORG/NAME" in unnamed.err
    assert folders(run) == {"trl"}


def test_export_push_says_where_the_dataset_is(
    run: RunFolder, prefactory: Command, write_recipe: RecipeWriter, fake_hub: FakeHub
) -> None:
    ended = prefactory("export", write_recipe(), "--push", "org/pairs")

    assert ended.code == 0, ended.err
    assert f"Pushed: {fake_hub.url}/datasets/org/pairs (" in ended.out
    assert "data/train.parquet" in fake_hub.repos["org/pairs"]
    assert TOKEN not in ended.out + ended.err
