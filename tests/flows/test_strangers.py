"""Recipes and prompts of strangers: where they may write, whose code runs, and who sees the user's keys.

policy: {model: stranger/model, trust_remote_code: true}     # the one way to a model's own code, and it is said
"""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from factory.keys import key_names
from factory.progress import Silent
from factory.recipes.recipe_file import read_recipe
from factory.run import RunFolder, run_folder
from factory.serving.engines import EngineRoom
from factory.serving.models import LocalModel
from schemas.recipe import Machine, ModelRef
from tests.conftest import Command, RecipeWriter
from tests.fake_engine import MODELS, FakeEngine, always, error

TEMPLATES = ["{{ 7 * 7 }}", "{% for x in y %}", "{question}", "{0.__class__}", "%s %(x)s", "$HOME `id`", "<|im_end|>"]


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


class Said(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, fake_engine: FakeEngine) -> list[tuple[bool, frozenset[str]]]:
    """Local servers are the fake engine; for each: whether it may run the model's code, and what it must not see."""
    found: list[tuple[bool, frozenset[str]]] = []

    @asynccontextmanager
    async def serve(
        model: LocalModel, ref: ModelRef, machine: Machine, log: Path, say: object, withheld: Collection[str]
    ) -> AsyncIterator[str]:
        found.append((ref.trust_remote_code, frozenset(withheld)))
        yield fake_engine.url

    monkeypatch.setattr("factory.serving.engines.serve", serve)
    monkeypatch.setattr(
        "factory.serving.engines.resolve_model", lambda ref, cache, say: LocalModel(ref.model, cache, "d")
    )
    return found


@pytest.mark.parametrize("trusted", [False, True])
def test_local_server_code_of_the_model_runs_by_the_field_alone_and_is_said(
    started: list[tuple[bool, frozenset[str]]],
    write_recipe: RecipeWriter,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    trusted: bool,
) -> None:
    monkeypatch.setenv("MINE", "planted")
    judge = {"model": "other", "urls": ["http://127.0.0.1:1/v1"], "api_key_env": "MINE"}
    policy = {"model": "fake-model", "trust_remote_code": trusted}
    seats = [{"judge": "clarity", "model": judge}]
    recipe = read_recipe(write_recipe({"policy": policy, "jury.judges": seats, "machine.max_model_len": 4096}))
    said = Said()

    async def start() -> None:
        run = RunFolder(run_folder(recipe))
        async with EngineRoom(run, recipe.machine, tmp_path, said, key_names(recipe)) as room:
            await room.engine(recipe.policy)

    asyncio.run(start())

    assert started == [(trusted, frozenset({"MINE"}))]
    assert any("its own code runs here" in line for line in said.lines) == trusted


def test_run_writes_into_its_own_folder_and_nowhere_else(
    prefactory: Command, write_recipe: RecipeWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"../../etc/passwd\x1b[2J {text} [ends]"} for text in TEMPLATES]
    path = write_recipe(prompts=rows)
    before = files(tmp_path)

    ended = prefactory("run", path, "--plain")
    prefactory("query", run_folder(read_recipe(path)), "SELECT * FROM rollouts")

    assert ended.code == 0, ended.err
    assert "\x1b" not in ended.out + ended.err
    made = files(tmp_path) - before
    assert made
    assert all(path.is_relative_to(tmp_path / "runs" / "small") for path in made)


def test_run_prompt_that_is_a_template_is_sent_as_it_is(
    prefactory: Command, write_recipe: RecipeWriter, fake_engine: FakeEngine
) -> None:
    rows = [{"prompt": text, "system": text} for text in TEMPLATES]

    assert prefactory("rollout", write_recipe(prompts=rows)).code == 0

    asked = [tuple(message["content"] for message in seen.body["messages"]) for seen in fake_engine.questions]
    assert set(asked) == {(text, text) for text in TEMPLATES}


def test_run_folder_with_other_files_is_left_alone(
    prefactory: Command, write_recipe: RecipeWriter, tmp_path: Path
) -> None:
    (tmp_path / "Documents").mkdir()
    (tmp_path / "Documents" / "recipe.yaml").write_text("mine")

    ended = prefactory("run", write_recipe({"machine.runs": str(tmp_path), "name": "Documents"}), "--plain")

    assert ended.code == 2
    assert "holds something that is no run" in ended.error
    assert files(tmp_path / "Documents") == {tmp_path / "Documents" / "recipe.yaml"}
    assert (tmp_path / "Documents" / "recipe.yaml").read_text() == "mine"


def test_run_words_of_a_server_never_command_the_terminal(
    prefactory: Command, write_recipe: RecipeWriter, fake_engine: FakeEngine
) -> None:
    fake_engine.faults = always(error(403, "no\x1b]0;owned\x07\x9b2J\u202e"), MODELS)

    ended = prefactory("run", write_recipe(), "--plain")

    assert "no\\x1b]0;owned\\x07\\x9b2J\\u202e" in ended.error


@pytest.mark.real
@pytest.mark.parametrize(
    "template", ["{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{% include '/etc/passwd' %}"]
)
def test_chat_template_of_a_stranger_runs_in_a_sandbox(template: str) -> None:
    """What vLLM renders a model's own template with: no attributes of Python's, no changes, no files."""
    code = (
        "import sys\n"
        "from transformers.utils.chat_template_utils import render_jinja_template\n"
        "render_jinja_template([[{'role': 'user', 'content': 'x'}]], chat_template=sys.argv[1])\n"
    )

    ended = subprocess.run([sys.executable, "-c", code, template], capture_output=True, text=True, check=False)

    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith(("jinja2.exceptions.SecurityError", "TypeError: no loader")), ended.stderr
