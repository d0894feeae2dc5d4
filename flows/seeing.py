"""The verbs `plan` and `status`: what a run would do, and what it came to."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from factory.client.spending import read_spent
from factory.looking.figures import figures
from factory.looking.round_figures import round_figures
from factory.recipes.recipe_file import read_recipe
from factory.run import RunFolder
from flows import show
from flows.places import RecipePath, RunPath
from flows.planning import foresee
from flows.query import looked_at
from flows.watching import watch

AsJson = Annotated[bool, typer.Option("--json", help="one JSON document on standard output, for scripts")]


def plan(
    recipe: RecipePath,
    as_json: AsJson = False,
) -> None:
    """What a run would do: prompts, requests, tokens at most, and what is there already. Sends nothing."""
    foreseen = foresee(read_recipe(recipe))
    if as_json:
        typer.echo(json.dumps(asdict(foreseen)))
    else:
        Console().print(foreseen.text(), markup=False, highlight=False, soft_wrap=True)


def status(
    run: RunPath,
    as_json: AsJson = False,
    watching: Annotated[
        bool, typer.Option("--watch", help="how far it is and how fast, again and again until it is through")
    ] = False,
) -> None:
    """What a run came to: loop rates, verdicts, pairs and drops with reasons."""
    if watching:
        watch(run, Console(stderr=as_json))
    manifest = looked_at(run)
    counted, max_tokens = figures(run), json.loads(manifest.identity["rollouts.max_tokens"])
    rounds = round_figures(RunFolder(run))
    spent = read_spent(RunFolder(run).spent_path)
    if as_json:
        more = {
            "pairs": counted.pairs,
            "tokens_saved_at_most": counted.loops.saved(max_tokens),
            "seconds": manifest.seconds,
            "spent": spent.model_dump() | {"money": spent.money if manifest.prices else None},
            "rounds": [asdict(one) for one in rounds],
        }
        typer.echo(json.dumps(asdict(counted) | more))
        return
    console = Console()
    show.show_figures(console, counted, max_tokens)
    show.show_rounds(console, rounds)
    show.show_seconds(console, manifest)
    show.show_spent(console, spent, spent.money if manifest.prices else None)
