"""Two processes on one run folder, on the command line: the second is refused, or waits for its turn and then does its work."""

import subprocess
import sys
import time

import pytest

from factory.recipes.recipe_file import read_recipe
from factory.run import RunFolder, run_folder
from tests.conftest import Command, RecipeWriter
from tests.fake_engine import FakeEngine
from tests.runs import make

WAITING = "waiting for the process that works on this run (process"


@pytest.mark.parametrize("verb", ["run", "judge", "pair", "verify"])
def test_wait_command_begins_when_the_first_has_ended(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, verb: str
) -> None:
    path = write_recipe()
    folder = RunFolder(run_folder(read_recipe(path)))
    if verb in ("pair", "verify"):
        make(path)
    sent = len(fake_engine.questions)
    words = [verb, str(folder.root if verb == "verify" else path), "--wait", *(["--plain"] if verb == "run" else [])]
    command = [sys.executable, "-m", "flows.cli", *words]

    with folder.locked():
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        first = process.stderr.readline()
        time.sleep(0.3)
        ended, asked = process.poll(), len(fake_engine.questions)
    _, said = process.communicate(timeout=120)

    assert WAITING in first
    assert (ended, asked) == (None, sent)
    assert process.returncode == 0, said
    assert (len(fake_engine.questions) > sent) == (verb in ("run", "judge"))


def test_wait_command_that_does_not_wait_says_how_to(write_recipe: RecipeWriter, prefactory: Command) -> None:
    path = write_recipe()
    with RunFolder(run_folder(read_recipe(path))).locked():
        ended = prefactory("run", path, "--plain")

    assert ended.code == 2
    assert "another process works on this run" in ended.error
    assert ended.error.endswith("wait for it (--wait), or stop it")


@pytest.mark.parametrize("verb", ["run", "sample", "rollout", "judge", "pair", "export", "verify", "judges calibrate"])
def test_wait_is_offered_by_every_command_that_takes_the_folder(prefactory: Command, verb: str) -> None:
    assert "--wait" in prefactory(*verb.split(), "--help").out
