"""The verb `train`: the reference trainer on a run's pairs.

The rule that must not break: what is trained stands in a recipe, the run's own or another one's section `train`, and where it
goes follows from that; so the same command goes on with the same training.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from factory.client.gate import Gate
from factory.keys import key_names
from factory.objects.copying import heads
from factory.objects.place import url_of
from factory.opening import cache_folder
from factory.progress import Progress
from factory.recipes.recipe_file import read_recipe, stored_recipe
from factory.run import RunFolder
from factory.semi_online import recipe_of
from factory.serving.models import resolve_model
from factory.trainer import CHECKPOINT, Trained, plan_training
from factory.trainer import train as train_as_planned
from factory.training.token_pairs import FORMAT
from flows.places import RunPath
from flows.show import figure_table
from flows.stopping import StopSignals
from flows.terminal import progress_display
from flows.waiting import Wait, turn
from schemas.errors import Fixable
from schemas.recipe import ModelRef, Recipe
from schemas.train import Train
from schemas.training import StepFigures, TrainingPlan

_NAME = 12  # characters of a digest that name a training
_SHOWN = ("loss", "margin", "chosen", "rejected", "chosen_shift", "rejected_shift", "kl", "accuracy")


def train(
    run: RunPath,
    round_: Annotated[
        int | None,
        typer.Option(
            "--round", min=0, help="on the pairs of round K, from the checkpoint that answered it, into train/round-K"
        ),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="a recipe whose section `train` is used; the run stays as it is")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", help="of this training's folder; with --recipe the default is a digest of its settings"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON document on standard output, for scripts")] = False,
    wait: Wait = False,
) -> None:
    """Train on a run's pairs: length-normalised DPO, on exactly the token ids that the model wrote.

    Run it again to go on where it stopped. A guard that trips ends it with its reason and exit code 2.
    """
    folder = RunFolder(run.resolve(), round_ or 0)
    folder.known()
    whole = stored_recipe(RunFolder(folder.root).recipe_path)
    made = recipe_of(whole, folder)
    settings = (made if recipe is None else read_recipe(recipe)).train.settled(made.seed)
    name = _checked(name if recipe is None else name or _digest(settings))
    start = [path] if (path := Path(made.policy.model)).is_relative_to(folder.root) else []
    wanted = _needs(folder, folder.export_path(FORMAT), folder.train_path(round_, name), *start)
    found: list[Trained] = []
    with (
        progress_display() as progress,
        StopSignals(progress.say) as signals,
        turn(folder, progress, wait=wait, wanted=wanted),
    ):
        plan = _plan(folder, made, _reference_of(whole, made), settings, round_, name, progress)
        gate = Gate()

        async def work() -> None:
            log = folder.log_path("train")
            found.append(await train_as_planned(plan, log, progress.say, gate, key_names(made)))

        signals.run(work(), gate)
    (trained,) = found
    if as_json:
        places = {"folder": str(trained.folder), "url": _in_store(trained.folder, folder.root)}
        typer.echo(json.dumps(places | trained.result.model_dump(mode="json")))
    if trained.stopped_by is not None:
        raise Fixable(f"{trained.folder}: training stopped: {trained.stopped_by}")
    if not as_json:
        _show(Console(), trained, _in_store(trained.checkpoint, folder.root))


def _needs(folder: RunFolder, *inner: Path) -> Callable[[str], bool]:
    """Of a run in an object store: what stands at its top, and what lies in these folders."""
    below = tuple(f"{path.relative_to(folder.root)}/" for path in inner)
    return lambda path: heads(path) or path.startswith(below)


def _in_store(path: Path, root: Path) -> str | None:
    """The URL of what this machine has a copy of."""
    return None if (url := url_of(root)) is None else f"{url}/{path.relative_to(root)}"


def _digest(settings: Train) -> str:
    return hashlib.sha256(json.dumps(settings.deciding(), sort_keys=True).encode()).hexdigest()[:_NAME]


def _checked(name: str | None) -> str | None:
    """A folder's name, and none that a training's own files or a round have."""
    if name is None:
        return None
    taken = name in (CHECKPOINT, "state") or name.startswith("round-")
    if taken or not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name.startswith("."):
        raise Fixable(f"--name {name}: write letters, digits, `.`, `_`, `-`; not `{CHECKPOINT}`, `state` or `round-…`")
    return name


def _reference_of(whole: Recipe, made: Recipe) -> ModelRef:
    """Of a round: what answered it, or the run's own policy, as the recipe's rounds have it."""
    rounds = whole.semi_online
    return whole.policy if rounds is not None and rounds.reference == "base" else made.policy


def _plan(
    folder: RunFolder,
    recipe: Recipe,
    reference: ModelRef,
    settings: Train,
    round_: int | None,
    name: str | None,
    progress: Progress,
) -> TrainingPlan:
    return plan_training(
        settings,
        resolve_model(recipe.policy, cache_folder(), progress.say),
        resolve_model(reference, cache_folder(), progress.say),
        folder.export_path(FORMAT),
        folder.train_path(round_, name),
        threads=recipe.machine.threads,
        trust_remote_code=recipe.policy.trust_remote_code,
    )


def _show(console: Console, trained: Trained, url: str | None) -> None:
    result, pairs = trained.result, trained.result.pairs
    title = f"{result.steps} steps on {pairs.used} pairs; log-probabilities, margin and KL per token, in nats"
    splits = [(first, last) for first in result.first for last in result.last if first.split == last.split]
    columns = [f"{line.split}, step {line.step}" for both in splits for line in both]
    table = figure_table(title, "figure", *columns)
    for figure in _SHOWN:
        table.add_row(figure, *_values(figure, [line for both in splits for line in both]))
    console.print(table)
    lines = [
        *([] if trained.new else ["Everything was there: nothing was trained"]),
        *([f"Longer than train.max_length, and left out: {len(pairs.too_long)}"] if pairs.too_long else []),
        f"Checkpoint: {trained.checkpoint}  (vLLM and transformers load it; digest {trained.digest[:16]})",
        *([f"In store:   {url}"] if url else []),
        f"Figures:    {trained.folder / 'metrics.jsonl'}, metrics.png, result.json",
    ]
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def _values(figure: str, lines: Sequence[StepFigures]) -> list[str]:
    values = [line.model_dump()[figure] for line in lines]
    return [f"{value:.4f}" for value in values]
