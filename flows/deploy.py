"""The verb `deploy`: the recipe as Prefect deployments, so that it runs by itself."""

from pathlib import Path
from typing import Annotated

import typer

from factory.gathering.sources import shown_path
from factory.recipes.recipe_file import read_recipe
from schemas.schedule import DeploymentKind

POOL = "prefactory"


def deploy(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="the recipe's YAML file, for example recipes/laptop.yaml")
    ],
    cron: Annotated[
        str | None, typer.Option("--cron", help='when it runs by itself, for example "0 2 * * *"; without it: never')
    ] = None,
    timezone: Annotated[str | None, typer.Option("--timezone", help="of --cron, for example Europe/Vienna")] = None,
    schedule: Annotated[
        DeploymentKind | None, typer.Option("--schedule", help="what --cron is for; else the round, or the rounds")
    ] = None,
    pool: Annotated[str, typer.Option("--pool", help="the process work pool; made where it is not there")] = POOL,
) -> None:
    """Deploy a recipe to a Prefect server: one round (or the semi-online rounds), the export, verify.

    The server is the one that Prefect's own settings name. A worker in this environment runs what is due.
    """
    read = read_recipe(recipe)
    from flows.deployments import Wanted, deploy_all, kinds  # seconds to import, and only this verb wants it

    kind = schedule or kinds(read)[0]
    wanted = Wanted(read, recipe, Path.cwd(), pool, kind, cron, timezone)
    for name in deploy_all(wanted):
        typer.echo(f"Deployed: {name}")
    if cron:
        typer.echo(f"By itself: {kind} of {shown_path(recipe.absolute())} at {cron} ({timezone or 'UTC'})")
    typer.echo(f"Worker:    prefect worker start --pool {pool} --type process --limit 4")
