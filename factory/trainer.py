"""From pairs to a checkpoint: makes the plan, looks at the pairs, and runs the trainer as a process of its own.

The rule that must not break: nothing here imports torch. A training is known by what decides its weights; the same one is never
done twice, and another one never goes on in its folder.
"""

import asyncio
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from pydantic import ValidationError

from factory import store
from factory.client.gate import Gate
from factory.files import make_folder
from factory.recipes.recipe_file import changed_fields
from factory.serving.models import LocalModel
from factory.serving.server import last_words
from factory.training.pair_guards import pair_figures, reason_not_to_train
from factory.training.token_pairs import digest_of, read_token_pairs
from factory.training_process import training_environment, training_process
from schemas.errors import DriftError, Halted, Stopped, TrainerEnded
from schemas.train import Train
from schemas.training import METRICS, PLAN, RESULT, TrainingPlan, TrainingResult

CHECKPOINT = "checkpoint"
TRIPPED = 2  # the trainer's exit code for it
LEFT = (PLAN, RESULT, METRICS, "metrics.png", "state", CHECKPOINT)  # by a training, in its folder
_SHOWN = 4  # changed fields that an error names

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training came to. Either it has a checkpoint, or a guard has stopped it."""

    folder: Path
    result: TrainingResult
    new: bool  # trained now, and not found as it was

    @property
    def stopped_by(self) -> str | None:
        """The guard's reason, which names the bound."""
        return self.result.reason

    @property
    def checkpoint(self) -> Path:
        """Of a training that no guard has stopped."""
        return self.folder / CHECKPOINT

    @property
    def digest(self) -> str:
        """Of the checkpoint's weights. Raises ValueError where a guard has stopped the training."""
        if self.result.digest is None:
            raise ValueError(f"{self.folder}: no checkpoint: {self.result.reason}")
        return self.result.digest


def plan_training(
    train: Train,
    model: LocalModel,
    reference: LocalModel,
    pairs: Path,
    folder: Path,
    *,
    threads: int | None = None,
    trust_remote_code: bool = False,
) -> TrainingPlan:
    """`train`: settled. `pairs`: the export that holds token ids. Raises Fixable where it is not there."""
    found = read_token_pairs(pairs)
    return TrainingPlan(
        train=train,
        model=model.folder,
        model_digest=model.digest,
        reference=reference.folder,
        reference_digest=reference.digest,
        pairs=pairs,
        pairs_digest=digest_of(found),
        folder=folder,
        threads=threads,
        trust_remote_code=trust_remote_code,
        figures=pair_figures(found, train),
    )


async def train(plan: TrainingPlan, log: Path, say: Say, gate: Gate, withheld: Collection[str]) -> Trained:
    """Train as planned, from where it was cut off; found as it is where it is done already.

    Where the gate closes, the trainer saves the step that it is at, and ends. `withheld`: environment variables that it must
    not see. Raises DriftError, StorageError, TrainerEnded, and what the gate was closed for.
    """
    if (known := _known(plan)) is not None and known.status == "finished":
        return Trained(plan.folder, known, new=False)
    store.write_text(plan.folder / PLAN, plan.model_dump_json(indent=1))
    if (reason := reason_not_to_train(plan.figures, plan.train)) is not None:
        result = TrainingResult(status="tripped", reason=reason, steps=0, made_from=plan.made_from, pairs=plan.figures)
        store.write_text(plan.folder / RESULT, result.model_dump_json(indent=1))
        return Trained(plan.folder, result, new=True)
    (plan.folder / RESULT).unlink(missing_ok=True)
    await _run(plan, log, say, gate, withheld)
    return Trained(plan.folder, _read_result(plan.folder), new=True)


def other_settings(plan: TrainingPlan) -> list[str] | None:
    """What the training that lies in the plan's folder was made from otherwise, the first few fields; None: there is none."""
    try:
        before = TrainingPlan.model_validate_json((plan.folder / PLAN).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return changed_fields(before.made_from, plan.made_from)[:_SHOWN]


def _known(plan: TrainingPlan) -> TrainingResult | None:
    """The result of the same training, if there is one. Raises DriftError where another one lies in the folder."""
    if (changed := other_settings(plan)) is None:
        return None
    if changed:
        raise DriftError(
            f"{plan.folder}: holds a training that was made with other settings: {'; '.join(changed)}. "
            "Give this one a --name, set the field back, or remove the folder"
        )
    try:
        result = _read_result(plan.folder)
    except (FileNotFoundError, ValidationError):
        return None
    return result if result.status == "tripped" or (plan.folder / CHECKPOINT).is_dir() else None


def _read_result(folder: Path) -> TrainingResult:
    return TrainingResult.model_validate_json((folder / RESULT).read_bytes())


async def _run(plan: TrainingPlan, log: Path, say: Say, gate: Gate, withheld: Collection[str]) -> None:
    """The process, from its start to its end. Its libraries' words go to the log, its own to `say` as well."""
    gate.check()
    make_folder(log.parent)
    with log.open("ab") as sink:
        offset = sink.tell()
        environment = _environment(plan, withheld)
        async with training_process("dpo", plan.folder / PLAN, environment, PIPE, sink) as process:
            say(f"trainer: starting (log: {log})")
            reading = asyncio.ensure_future(_pass_on(process, sink.write, say))
            try:
                halted = await _until_ended_or_halted(process, reading, gate, say)
            finally:
                reading.cancel()
    if process.returncode in (0, TRIPPED):
        return
    if halted is not None:
        raise halted
    said = last_words(log.read_bytes()[offset:].decode(errors="replace"))
    raise TrainerEnded(f"the trainer ended with code {process.returncode}: {said} (log: {log})")


async def _until_ended_or_halted(
    process: Process, reading: "asyncio.Future[None]", gate: Gate, say: Say
) -> Halted | None:
    async def ended() -> None:
        await asyncio.wait({reading})

    try:
        await gate.unless_closed(ended())
    except Halted as halted:
        say("trainer: it ends the step that it is at, and keeps it")
        _ask_to_stop(process)
        await reading
        await process.wait()
        if isinstance(halted, Stopped):
            return Stopped("stopped, and the step that it had come to is kept; the same command goes on", halted.signum)
        return halted
    await process.wait()
    return None


async def _pass_on(process: Process, keep: Callable[[bytes], object], say: Say) -> None:
    assert process.stdout is not None, "it is piped"
    async for line in process.stdout:
        keep(line)
        say(line.decode(errors="replace").rstrip())


def _ask_to_stop(process: Process) -> None:
    """The trainer itself, not its guard, which would give it a few seconds: a step may take longer, and so may a state."""
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children():
            child.send_signal(signal.SIGTERM)


def _environment(plan: TrainingPlan, withheld: Collection[str]) -> dict[str, str]:
    return training_environment(plan.train.device, plan.threads, withheld) | {"PYTHONUNBUFFERED": "1"}
