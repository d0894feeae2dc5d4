"""Which verbs there are, and that one is all that is loaded when it is asked for."""

import subprocess
import sys

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

from flows.cli import VERBS, app
from tests.conftest import Command


@pytest.mark.parametrize("verb", VERBS)
def test_verb_is_there_with_a_line_of_help(verb: str) -> None:
    command = app.get_command(typer.Context, verb)

    assert isinstance(command, TyperCommand | TyperGroup)
    assert command.name == verb
    assert command.get_short_help_str()


def test_help_names_every_verb(prefactory: Command) -> None:
    said = prefactory("--help")

    assert said.code == 0
    assert all(f" {verb} " in said.out for verb in VERBS)


def test_verb_that_is_none_names_what_may_have_been_meant(prefactory: Command) -> None:
    ended = prefactory("brows")

    assert ended.code == 2
    assert "browse" in ended.err


def test_verb_that_looks_loads_nothing_of_those_that_make() -> None:
    code = (
        "import sys; sys.argv = ['prefactory', 'browse', '/nowhere']; from flows.cli import main\n"
        "heavy = {'prefect', 'datasketch', 'matplotlib', 'scipy', 'aiohttp'}\n"
        "try: main()\nexcept SystemExit: print(sorted(heavy & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ended.stdout.strip() == "[]"
