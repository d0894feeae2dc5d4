"""The verb `grpo`: reinforcement learning on verifiable rewards, small, with the prompts of a run's export."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from factory.client.gate import Gate
from factory.grpo import CHECKPOINT, plan_grpo, train_grpo
from factory.keys import key_names
from factory.opening import cache_folder
from factory.recipes.recipe_file import read_recipe
from factory.run import RunFolder, run_folder
from factory.serving.models import resolve_model
from flows.places import refuse_store
from flows.show import figure_table
from flows.stopping import StopSignals
from flows.terminal import progress_display
from flows.waiting import Wait, turn
from schemas.errors import Fixable
from schemas.grpo import GrpoResult


def grpo(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="the recipe's YAML file, for example recipes/grpo.yaml")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="one JSON document on standard output, for scripts")] = False,
    wait: Wait = False,
) -> None:
    """An example of RL on the same prompts: TRL's GRPO with the verifiers and the loop penalty as rewards."""
    settings = read_recipe(recipe)
    folder = RunFolder(run_folder(settings))
    refuse_store(folder.root, "grpo")
    if folder.manifest() is None:
        raise Fixable(f"{folder.root}: no run there (no manifest.json); `prefactory run RECIPE` makes one")
    found: list[GrpoResult] = []
    with progress_display() as progress, StopSignals(progress.say) as signals, turn(folder, progress, wait=wait):
        gate = Gate()

        async def work() -> None:
            plan = plan_grpo(folder, settings, resolve_model(settings.policy, cache_folder(), progress.say))
            found.append(await train_grpo(plan, folder.log_path("grpo"), progress.say, gate, key_names(settings)))

        signals.run(work(), gate)
    (result,) = found
    if as_json:
        typer.echo(result.model_dump_json())
    else:
        _show(Console(), folder.grpo_path, result)


def _show(console: Console, folder: Path, result: GrpoResult) -> None:
    table = figure_table(f"{result.steps} steps, {result.answers} answers", "figure", "first step", "last step")
    for name in sorted(result.first.keys() | result.last.keys()):
        table.add_row(name, *(json.dumps(figures.get(name)) for figures in (result.first, result.last)))
    console.print(table)
    lines = [
        f"Checkpoint: {folder / CHECKPOINT}  (digest {result.digest[:16]})",
        f"Figures:    {folder / 'metrics.jsonl'}, result.json",
    ]
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
