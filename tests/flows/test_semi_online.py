"""Rounds with real answering, judging and pairing; training and evaluation are put in their places.

prefactory semi-online RECIPE --plain
"""

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from factory.ledger.identity import Stage
from factory.looking import queries
from factory.progress import Silent
from factory.recipes.recipe_file import read_recipe
from factory.run import RunFolder, run_folder
from factory.semi_online import Checkpoint, Job, Learnt, Weighed, go_rounds, read_story
from flows.round_steps import RealSteps
from flows.semi_online import round_lines
from flows.stopping import StopSignals
from schemas.errors import BudgetSpent
from schemas.recipe import ModelRef
from schemas.semi_online import Story
from tests.conftest import PROMPTS, Command, RecipeWriter
from tests.fake_engine import FakeEngine
from tests.runs import make
from tests.tiny_model import save_tiny_model
from tests.token_export import pairs, write_export

ROUNDS: Mapping[str, object] = {"prompts.sample": 5, "semi_online.rounds": 2, "export.test_share": 0.3}
ALL = "SELECT round, {} FROM {} ORDER BY ALL"


@dataclass(frozen=True, slots=True)
class Served(RealSteps):
    """A checkpoint's weights are the export that it was trained on; a fake engine serves each."""

    engines: dict[str, FakeEngine] = field(default_factory=dict)
    stack: ExitStack = field(default_factory=ExitStack)

    def asked(self, folder: Path, digest: str) -> ModelRef:
        if digest not in self.engines:
            self.engines[digest] = self.stack.enter_context(FakeEngine(model=digest[:16]))
        return ModelRef(model=digest[:16], urls=[self.engines[digest].url])

    def train(self, job: Job) -> Learnt:
        export = RunFolder(self.root, job.round).export_path("trl-tokens") / "data" / "train.parquet"
        checkpoint = job.folder / "checkpoint"
        checkpoint.mkdir(parents=True, exist_ok=True)
        (checkpoint / "config.json").write_text("{}")
        (checkpoint / "model.safetensors").write_text(hashlib.sha256(export.read_bytes()).hexdigest())
        return Learnt(checkpoint, self.known(ModelRef(model=str(checkpoint))))

    def evaluate(self, checkpoint: Checkpoint) -> None: ...

    def weigh(self, before: Checkpoint, after: Checkpoint) -> Weighed:
        return Weighed((), {"perplexity": 13.0})


def go(path: Path, *, plain: bool = True) -> tuple[Path, Story, list[FakeEngine]]:
    """The run's folder, what became of the rounds, and the engines of the checkpoints that were asked."""
    recipe = read_recipe(path)
    folder = RunFolder(run_folder(recipe))
    with ExitStack() as stack, StopSignals(print) as signals, folder.locked():
        steps = Served(recipe, signals, Silent(), plain, False, {}, {}, stack)
        story = go_rounds(recipe, steps, Silent())
        return folder.root, story, list(steps.engines.values())


@dataclass(frozen=True)
class Gone:
    """Two rounds that many tests look at: none of them may change it."""

    recipe: Path
    root: Path
    story: Story


@pytest.fixture(scope="module")
def gone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gone]:
    with FakeEngine() as engine:
        recipe = RecipeWriter(tmp_path_factory.mktemp("rounds"), engine.url)(ROUNDS)
        root, story, _ = go(recipe)
        yield Gone(recipe, root, story)


def rows(root: Path, columns: str, table: str) -> tuple[tuple[object, ...], ...]:
    return queries.ask(root, ALL.format(columns, table)).rows


def test_rounds_ask_other_prompts_each_time_and_end_each_of_them_once(gone: Gone) -> None:
    prompts = [prompt_id for _, prompt_id in rows(gone.root, "prompt_id", "prompts")]
    ended = [prompt_id for table in ("pairs", "dropped") for _, prompt_id in rows(gone.root, "prompt_id", table)]

    assert len(prompts) == len(set(prompts)) == 10
    assert sorted(map(str, ended)) == sorted(map(str, prompts))


def test_rounds_every_row_says_which_checkpoint_made_it(gone: Gone) -> None:
    first, second = gone.story.rounds
    made_by = queries.ask(gone.root, "SELECT DISTINCT round, model_digest FROM rollouts ORDER BY 1").rows
    led_to = queries.ask(gone.root, "SELECT DISTINCT round, trained, promoted FROM lineage ORDER BY 1").rows

    assert first.promoted is not None
    assert second.promoted is not None
    assert made_by == ((0, "remote:fake-model"), (1, f"remote:{first.promoted[:16]}"))
    assert led_to == ((0, first.promoted, first.promoted), (1, second.promoted, second.promoted))


def test_rounds_test_prompt_of_one_round_is_trained_on_in_none(gone: Gone) -> None:
    found: dict[str, set[object]] = {"train": set(), "test": set()}
    for number in (0, 1):
        for split, ids in found.items():
            for path in RunFolder(gone.root, number).export_path("trl-tokens").glob(f"data/{split}.parquet"):
                ids |= {row[0] for row in queries.ask(gone.root, f"SELECT prompt_id FROM read_parquet('{path}')").rows}

    assert found["train"]
    assert not found["train"] & found["test"]


def test_rounds_are_all_as_recorded(gone: Gone, prefactory: Command) -> None:
    ended = prefactory("verify", gone.root)

    assert ended.code == 0, ended.out
    assert "all as recorded" in ended.out


def test_status_shows_each_round(gone: Gone, prefactory: Command) -> None:
    told = json.loads(prefactory("status", gone.root, "--json").out)
    shown = prefactory("status", gone.root).out

    assert told["prompts"] == 10
    assert [one["prompts"] for one in told["rounds"]] == [5, 5]
    assert [one["promoted"] for one in told["rounds"]] == [one.promoted for one in gone.story.rounds]
    assert "answered by" in shown


def test_round_lines_say_what_became_of_it(gone: Gone) -> None:
    lines = list(round_lines(RunFolder(gone.root), gone.story.rounds[1]))

    assert lines[0].startswith("round 1: 5 prompts = ")
    assert any("hard loops, greedy" in line for line in lines)
    assert lines[-1] == f"  promoted: {str(gone.story.rounds[1].promoted)[:16]}"


def test_pair_is_refused_where_a_checkpoint_was_trained(gone: Gone, prefactory: Command) -> None:
    ended = prefactory("pair", gone.recipe)

    assert ended.code == 2
    assert "checkpoints were trained on its pairs" in ended.error


def test_verb_wants_weights_that_lie_here(gone: Gone, prefactory: Command) -> None:
    ended = prefactory("semi-online", gone.recipe, "--plain")

    assert ended.code == 2
    assert "policy.urls" in ended.error


def test_verb_wants_its_section(write_recipe: RecipeWriter, prefactory: Command) -> None:
    ended = prefactory("semi-online", write_recipe(), "--plain")

    assert ended.code == 2
    assert "semi_online: the recipe has no such section" in ended.error


def assert_as_undisturbed(root: Path, story: Story, gone: Gone) -> None:
    for table, columns in (("rollouts", "rollout_id, text, seed"), ("pairs", "chosen_id, rejected_id, margin")):
        assert rows(root, columns, table) == rows(gone.root, columns, table)
    assert [one.promoted for one in story.rounds] == [one.promoted for one in gone.story.rounds]


def test_rounds_stopped_by_the_budget_go_on_and_come_to_the_same_rows(gone: Gone, write_recipe: RecipeWriter) -> None:
    asked = len(rows(gone.root, "rollout_id", "rollouts"))
    budgets = [asked // 3, asked, 2 * asked]
    for budget in budgets:
        with pytest.raises(BudgetSpent):
            go(write_recipe({**ROUNDS, "budget.max_requests": budget}))

    root, story, _ = go(write_recipe(ROUNDS))

    assert_as_undisturbed(root, story, gone)


def test_rounds_killed_in_each_of_them_come_to_the_same_rows(gone: Gone, write_recipe: RecipeWriter) -> None:
    recipe = write_recipe({**ROUNDS, "machine.concurrency": 1})
    root = run_folder(read_recipe(recipe))
    script = "import sys; from pathlib import Path; from tests.flows.test_semi_online import go; go(Path(sys.argv[1]))"
    cut = []
    for number in (0, 1):
        with subprocess.Popen([sys.executable, "-c", script, str(recipe)]) as process:
            while (answers := journalled(root / f"round={number}")) < 3:
                assert process.poll() is None, "it ended unkilled"
                time.sleep(0.01)
            process.kill()
        cut.append(answers)

    _, story, _ = go(recipe)

    assert max(cut) < 30, "each was killed in the middle of its thirty answers"
    assert_as_undisturbed(root, story, gone)


def journalled(round_: Path) -> int:
    """Answers that were kept, of a stage that is not through."""
    return sum(path.read_bytes().count(b"\n") for path in round_.glob("_journal/rollouts*.jsonl"))


def test_rounds_under_prefect_write_the_same_rows_by_one_server(gone: Gone, write_recipe: RecipeWriter) -> None:
    recipe = write_recipe(ROUNDS)
    script = (
        "import sys; from pathlib import Path; from flows import prefect_server; from tests.flows.test_semi_online import go; "
        "go(Path(sys.argv[1]), plain=False); print(len(prefect_server._running))"
    )

    ended = subprocess.run([sys.executable, "-c", script, str(recipe)], capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == "1"
    root = run_folder(read_recipe(recipe))
    assert rows(root, "rollout_id, text, seed", "rollouts") == rows(gone.root, "rollout_id, text, seed", "rollouts")
    assert len(read_story(RunFolder(root)).promoted) == 2


def test_rounds_second_start_asks_nobody(write_recipe: RecipeWriter, fake_engine: FakeEngine) -> None:
    recipe = write_recipe(ROUNDS)
    go(recipe)
    fake_engine.seen.clear()

    _, _, engines = go(recipe)

    assert not fake_engine.seen
    assert not [seen for engine in engines for seen in engine.seen]


def test_rounds_without_prompts_left_end_and_leave_no_empty_round(
    write_recipe: RecipeWriter, prefactory: Command
) -> None:
    root, story, _ = go(write_recipe({"semi_online.rounds": 3}, PROMPTS[7:12]))

    assert [one.round for one in story.rounds] == [0]
    assert not (root / "round=1").exists()
    assert prefactory("verify", root).code == 0


def test_export_writes_every_round_again(gone: Gone, prefactory: Command) -> None:
    folders = [RunFolder(gone.root, number).export_path("trl") for number in (0, 1)]
    for folder in folders:
        (folder / "README.md").unlink()

    ended = prefactory("export", gone.recipe)

    assert ended.code == 0, ended.err
    assert all((folder / "README.md").exists() for folder in folders)


def test_rounds_training_with_settings_that_changed_since_is_done_anew_and_the_earlier_one_put_aside(
    write_recipe: RecipeWriter, tmp_path: Path
) -> None:
    """Guards stop both, so that no trainer is started."""
    save_tiny_model(tmp_path / "tiny")
    changes: dict[str, object] = {"policy.model": str(tmp_path / "tiny"), "train.guards.min_pairs": 500}
    recipe = read_recipe(path := write_recipe({**ROUNDS, **changes}))
    run = RunFolder(make(path, Stage.PROMPTS)[0])
    write_export(run.export_path("trl-tokens"), pairs(20), pairs(4, first=100))
    start = Checkpoint("d", recipe.policy)
    with StopSignals(print) as signals, run.locked():
        steps = RealSteps(recipe, signals, Silent(), True, False)
        betas = (2.0, 2.0, 3.0)
        for beta in betas:
            settled = recipe.train.model_copy(update={"beta": beta}).settled(1)
            learnt = steps.train(Job(0, 0, settled, start, start, run.train_path(0)))
            assert "min_pairs 500" in (learnt.reason or "")

    (aside,) = (run.root / "aside").glob("*/train/round-0/plan.json")
    kept = [json.loads(path.read_text())["train"]["beta"] for path in (aside, run.train_path(0) / "plan.json")]
    assert kept == [2.0, 3.0]
