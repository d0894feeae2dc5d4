"""The synthetic folder is a run to whatever reads runs, and what is measured is the command's own."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.scale import Cost, Door, at_a_million, growth, measured
from benchmarks.scale_folder import recipe_file, write_folder
from factory.looking.figures import figures
from factory.recipes.recipe_file import read_recipe
from factory.run import run_folder
from tests.conftest import Command


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = recipe_file(tmp_path, 20, 8, Door().url)
    assert list(write_folder(path, 20)) == [8, 16, 20]
    return path


def test_write_folder_is_taken_for_a_run_that_is_judged(recipe: Path, prefactory: Command) -> None:
    paired = prefactory("pair", recipe)
    exported = prefactory("export", recipe)
    again = prefactory("run", recipe, "--plain")

    assert [paired.code, exported.code, again.code] == [0, 0, 0], paired.err + exported.err + again.err
    assert "Requests sent: 0 (everything was there)" in again.out
    counted = figures(run_folder(read_recipe(recipe)))
    assert counted.prompts == counted.pairs + counted.drops == 20
    assert sum(slot.answers for slot in counted.slots) == 120
    assert {judge.failed for judge in counted.judges} == {0}


def test_measured_peak_is_the_commands_own_and_not_its_parents(tmp_path: Path) -> None:
    ballast = b"x" * 200_000_000
    small = measured([sys.executable, "-S", "-c", ""], {}, tmp_path / "log")
    large = measured([sys.executable, "-S", "-c", "b'x' * 200_000_000; raise SystemExit(3)"], {}, tmp_path / "log")

    assert len(ballast) == 200_000_000
    assert small.peak_mb < 100 < 190 <= large.peak_mb
    assert (small.code, large.code) == (0, 3)


def test_door_notices_the_first_connection() -> None:
    door = Door()
    assert door.first is None

    code = f"import urllib.request; urllib.request.urlopen({door.url!r})"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert door.first is not None
    assert ended.returncode == 1


def test_growth_of_a_straight_line_is_one() -> None:
    small = Cost(seconds=9.0, cpu=2.0, peak_mb=1, code=0)
    assert growth(small, Cost(1.0, 10.0, 1, 0), 5.0) == 1.0
    assert growth(small, Cost(1.0, 50.0, 1, 0), 5.0) == 5.0
    assert growth(Cost(1.0, 0.0, 0, 0), small, 5.0) is None


def test_room_for_a_million_grows_with_the_prompts() -> None:
    assert at_a_million(40_000, 0.5) == 12.5
    assert at_a_million(1_000_000, 7.0) == 7.0
