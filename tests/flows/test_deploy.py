"""Runs that a real Prefect server schedules and a real worker takes, with nobody there.

prefactory deploy RECIPE --cron "0 2 * * *"
"""

from pathlib import Path

import pytest

from factory.looking import queries
from factory.recipes.recipe_file import read_recipe
from factory.run import run_folder
from tests.conftest import PROMPTS, Command, RecipeWriter
from tests.fake_engine import FakeEngine, hang, no_faults, whenever
from tests.prefect_scene import prefect_scene

OFTEN = "* * * * * */20"  # seconds
NEW = [{"prompt": f"Write a sentence about the letter {letter}."} for letter in "abc"]
OLD = PROMPTS[7:12]


def test_deploy_schedule_adds_a_round_of_new_prompts_and_survives_a_killed_worker(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, tmp_path: Path, prefactory: Command
) -> None:
    recipe = write_recipe(prompts=OLD)
    root = run_folder(read_recipe(recipe))
    with prefect_scene(tmp_path, {"XDG_CACHE_HOME": str(tmp_path / "cache")}) as scene:
        said = scene.prefactory("deploy", str(recipe), "--cron", OFTEN)
        assert "Deployed: prefactory-round/small" in said
        scene.start_worker()
        scene.wait(lambda: bool(scene.runs("Completed")), "the first round")
        assert {"progress", "table", "markdown"} <= {str(one["type"]) for one in scene.artifacts()}
        assert {"small-export", "small-report"} <= {str(one["key"]) for one in scene.artifacts()}
        assert (root / "report" / "index.html").is_file()

        fake_engine.faults = whenever(lambda seen: "the letter" in seen.asked, hang)
        write_recipe(prompts=[*OLD, *NEW])
        scene.wait(lambda: any("the letter" in seen.asked for seen in fake_engine.questions), "the second round")
        scene.kill("worker")
        fake_engine.faults = no_faults
        scene.start_worker()
        scene.wait(lambda: len(scene.runs("Completed")) == 2, "the worker after it")
        runs = scene.runs()

    found = queries.ask(
        root, "SELECT round, count(*), count(DISTINCT prompt_id) FROM prompts GROUP BY 1 ORDER BY 1"
    ).rows
    assert found == ((0, len(OLD), len(OLD)), (1, len(NEW), len(NEW)))
    assert prefactory("verify", root).code == 0
    assert not [run for run in runs if run.type == "FAILED"]
    killed = [run for run in runs if run.type == "CRASHED"]
    assert [run.message for run in killed] == ["its process was killed; a later run goes on from where it was"]
    assert all(run.message.startswith("missed") for run in runs if run.name == "Skipped")
    assert all("taken by an earlier round" in run.message for run in runs if run.name == "NothingNew")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--cron", "every night"), "--cron 'every night'"),
        (("--schedule", "semi-online", "--cron", "0 2 * * *"), "this recipe is deployed as round, export, verify"),
    ],
)
def test_deploy_schedule_that_cannot_be_is_refused_before_a_server_is_asked(
    write_recipe: RecipeWriter, prefactory: Command, words: tuple[str, ...], why: str
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        ended = prefactory("deploy", write_recipe(), *words)

    assert ended.code == 2
    assert why in ended.error
