"""What a run does while no prompt is worked on: it trains, or a checkpoint is asked the held-out prompts.

The rule that must not break: it is told by what lies on disk alone, as everything that is watched. Where it is known that
nobody is at work, nothing is under way, whatever was left lying there.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from factory.ledger import lock
from factory.run import RunFolder
from factory.semi_online import read_story
from schemas.errors import SchemaError
from schemas.recipe import Recipe
from schemas.training import METRICS, PLAN, RESULT, StepFigures, TrainingPlan

TAIL = 8192  # bytes of the figures' end that surely hold a whole line


@dataclass(frozen=True, slots=True)
class UnderWay:
    """`of`: how many steps there are; None: not known. `since`: seconds since 1970."""

    what: str
    step: str
    done: int
    of: int | None
    since: float

    def line(self, now: float) -> str:
        whole = "" if self.of is None else f" of {self.of:,}"
        began = time.strftime("%H:%M:%S", time.localtime(self.since))
        return f"{self.what}: {self.step} {self.done:,}{whole}, since {began} ({_lasted(now - self.since)})"


def _lasted(seconds: float) -> str:
    return f"{max(seconds, 0):.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} min"


def trainings(run: RunFolder) -> Iterator[UnderWay]:
    """Those of the round that have begun and not ended."""
    if lock.owner_of(run.root) is None:
        return
    own = run.train_path(run.round)
    for folder in (run.train_path(), own, *sorted(own.glob("try-*"))):
        plan = folder / PLAN
        if (folder / RESULT).exists() or not plan.exists():
            continue
        try:
            read = TrainingPlan.model_validate_json(plan.read_bytes())
            since = plan.stat().st_mtime
        except (OSError, ValidationError):
            continue
        what = f"training from round {run.round}" + (f", {folder.name}" if folder.name.startswith("try-") else "")
        yield UnderWay(what, "step", _last_step(folder / METRICS), steps_of(read), since)


def steps_of(plan: TrainingPlan) -> int | None:
    """As the trainer counts them, on one device."""
    train = plan.train
    if train.max_steps is not None:
        return train.max_steps
    if train.epochs is None:
        return None
    batches = -(-plan.figures.used // train.batch_size)
    return math.ceil(train.epochs * max(1, -(-batches // train.gradient_accumulation)))


def _last_step(metrics: Path) -> int:
    """0 before the first; a line that a process is writing just now does not count."""
    try:
        with metrics.open("rb") as handle:
            handle.seek(max(0, metrics.stat().st_size - TAIL))
            lines = handle.read().splitlines()
    except OSError:
        return 0
    for line in reversed(lines):
        try:
            return StepFigures.model_validate_json(line).step
        except ValidationError:
            continue
    return 0


def evaluations(run: RunFolder, now: float, old: float) -> Iterator[RunFolder]:
    """The folders of checkpoints that are asked just now: their process has said so in the last `old` seconds."""
    for live in sorted(run.evaluation_path().glob("*/live.json")):
        try:
            fresh = now - live.stat().st_mtime <= old
        except OSError:  # it is gone: the evaluation has ended
            continue
        if fresh:
            yield RunFolder(live.parent)


def rounds_to_come(run: RunFolder, recipe: Recipe) -> bool:
    """Whether the last round that was begun is not the end of it, as far as can be told."""
    if recipe.semi_online is None or lock.owner_of(run.root) is None:
        return False
    try:
        story = read_story(run)
    except SchemaError:
        return False
    stopped = bool(story.rounds) and story.rounds[-1].promoted is None
    return not stopped and len(story.rounds) < recipe.semi_online.rounds
