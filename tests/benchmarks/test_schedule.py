"""What the table of scheduled rounds is made from."""

from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from benchmarks.schedule import Shown, shown, table
from tests.conftest import PROMPTS, RecipeWriter
from tests.prefect_scene import FlowRun
from tests.runs import make


def flow_run(name: str) -> FlowRun:
    return FlowRun("id", name, "COMPLETED", "", datetime(2026, 1, 1, tzinfo=UTC))


def test_schedule_counts_are_read_from_the_run_folder(write_recipe: RecipeWriter, tmp_path: Path) -> None:
    root, _ = make(write_recipe(prompts=PROMPTS[7:10]))

    found = shown("one", root, [flow_run("Completed"), flow_run("Skipped"), flow_run("Skipped")], 0.0)

    assert (found.rounds, found.twice) == ([3], 0)
    assert found.states == {"Completed": 1, "Skipped": 2}


def test_schedule_table_has_a_row_for_each_scene() -> None:
    console = Console(width=200, record=True)
    console.print(table([Shown("a scene", [5, 3], 0, {"Completed": 2}, 12.3)]))

    assert "5 + 3" in console.export_text()
