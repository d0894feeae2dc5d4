"""What is seen of a run of rounds while it trains, and while a checkpoint is asked the held-out prompts.

training from round 0, try-1: step 12 of 60, since 14:03:10 (4 min)
evaluating 7ef915c9bf9d94d8: answers 80 of 342, since 14:10:00 (30 s)
"""

import math
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.ledger.lock import Owner, owner_of
from factory.looking.between import steps_of, trainings
from factory.looking.pulse import OLD, Watch, lines_of
from factory.run import RunFolder
from factory.serving.engines import say_live
from schemas.semi_online import RoundOutcome, Story
from schemas.train import Train
from schemas.training import METRICS, PLAN, RESULT, PairFigures, StepFigures, TrainingPlan
from tests.conftest import RecipeWriter
from tests.fake_engine import FakeEngine
from tests.runs import make

ROUNDS = {"semi_online": {"rounds": 2}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunFolder]:
    """Paired, and nothing of it trained yet."""
    with FakeEngine() as engine:
        yield RunFolder(make(RecipeWriter(tmp_path_factory.mktemp("between"), engine.url)(ROUNDS))[0])


@pytest.fixture
def run(finished: RunFolder, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(finished.root, tmp_path / "run")))


def a_plan(folder: Path, used: int = 38, **train: object) -> TrainingPlan:
    figures = PairFigures(
        pairs=used, used=used, too_long=[], test_pairs=0, test_used=0, causes={}, loop_share=0, unended={}, trimmed=0,
        tokens=0,
    )  # fmt: skip
    settled = Train.model_validate(train or {"epochs": 3.0})
    return TrainingPlan(
        train=settled, model=folder, model_digest="a", reference=folder, reference_digest="a", pairs=folder,
        pairs_digest="b", folder=folder, figures=figures,
    )  # fmt: skip


def begin(folder: Path, steps: int) -> None:
    folder.mkdir(parents=True)
    (folder / PLAN).write_text(a_plan(folder).model_dump_json())
    line = StepFigures(
        step=0, split="train", loss=0, margin=0, chosen=0, rejected=0, chosen_shift=0, rejected_shift=0, kl=0, accuracy=0,
        pairs=4,
    )  # fmt: skip
    told = [line.model_copy(update={"step": step + 1}).model_dump_json() for step in range(steps)]
    (folder / METRICS).write_text("\n".join(told) + '\n{"step": 99')  # which the trainer is writing just now


def test_training_is_seen_with_its_step_until_it_has_a_result(run: RunFolder) -> None:
    folder = run.train_path(0, "try-1")
    begin(folder, steps=12)
    with run.locked():
        (line,) = (line for line in lines_of(Watch(run.root).look()) if line.startswith("training"))
        assert re.fullmatch(r"training from round 0, try-1: step 12 of 30, since \d\d:\d\d:\d\d \(\d+ s\)", line)

        (folder / RESULT).write_text("{}")
        assert list(trainings(run)) == []


def test_training_of_which_nothing_is_known_yet_is_at_step_0(run: RunFolder) -> None:
    begin(run.train_path(0), steps=0)
    with run.locked():
        (found,) = trainings(run)

    assert (found.what, found.done, found.of) == ("training from round 0", 0, 30)


def test_nothing_is_under_way_where_nobody_is_at_work(run: RunFolder) -> None:
    begin(run.train_path(0), steps=1)
    with run.locked():
        pass
    gone = owner_of(run.root)
    assert gone is not None
    (run.root / ".lock").write_text(Owner(**gone.model_dump() | {"pid": 2**22 + 1}).model_dump_json())

    pulse = Watch(run.root).look()

    assert (pulse.doing, pulse.finished) == ((), True)


def test_watching_goes_on_while_rounds_are_to_come(run: RunFolder) -> None:
    def told(*promoted: str | None) -> bool:
        rounds = [RoundOutcome(round=at, policy="a", reference="a", promoted=one) for at, one in enumerate(promoted)]
        run.story_path.write_text(Story(rounds=rounds).model_dump_json())
        return Watch(run.root).look().finished

    with run.locked():
        assert not Watch(run.root).look().finished
        assert [told("b"), told("b", "c"), told(None)] == [False, True, True]


def test_evaluation_is_seen_while_its_process_says_so(run: RunFolder, finished: RunFolder) -> None:
    folder = run.evaluation_path() / "7ef915c9bf9d94d8"
    shutil.copytree(finished.root, folder)
    say_live(folder / "live.json", [])
    now = (folder / "live.json").stat().st_mtime

    (line,) = Watch(run.root, lambda: now).look().doing

    assert re.fullmatch(r"evaluating 7ef915c9bf9d94d8: answers 78 of 78, since \d\d:\d\d:\d\d \(\d+ s\)", line)
    assert Watch(run.root, lambda: now + OLD + 1).look().doing == ()


@given(st.integers(1, 500), st.integers(1, 9), st.integers(1, 9), st.floats(0.1, 5))
def test_steps_are_at_least_one_an_epoch_and_read_every_pair(
    used: int, batch: int, accumulation: int, epochs: float
) -> None:
    plan = a_plan(Path(os.sep), used, batch_size=batch, gradient_accumulation=accumulation, epochs=epochs)
    steps = steps_of(plan)

    assert steps is not None
    assert (steps + 1) * batch * accumulation >= epochs * used
    assert steps <= math.ceil(epochs * (used / batch + 1))
    assert steps_of(a_plan(Path(os.sep), used, max_steps=7)) == 7
