"""The verb `semi-online`: rounds of answering, training and promoting, until the recipe has enough or a gate stops it.

The rule that must not break: what is shown of a round is read from what lies on disk, so that a round of yesterday is shown
like one of now.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from factory.gathering.sources import shown_path
from factory.looking.figures import figures
from factory.progress import Progress
from factory.recipes.recipe_file import read_recipe
from factory.run import RunFolder, run_folder
from factory.semi_online import go_rounds, settings_of
from flows.places import refuse_store
from flows.round_steps import RealSteps
from flows.show import clean, figure_table
from flows.stopping import StopSignals
from flows.terminal import progress_display
from flows.waiting import Wait, turn
from schemas.errors import Fixable
from schemas.recipe import Recipe
from schemas.semi_online import Attempt, RoundOutcome, Story


def semi_online(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="the recipe's YAML file, for example recipes/semi_online.yaml")
    ],
    plain: Annotated[bool, typer.Option("--plain", help="without Prefect; the rows are the same")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON document on standard output, for scripts")] = False,
    wait: Wait = False,
) -> None:
    """Answer, judge, pair, train, evaluate, promote what holds the gates; and again with the checkpoint that came out.

    Run it again to go on where it stopped. Exit code 2: a round promoted nothing, and what held it is said.
    """
    read = read_recipe(recipe)
    folder = RunFolder(run_folder(read))
    refuse_remote(read)
    with progress_display(folder) as progress, StopSignals(progress.say) as signals, turn(folder, progress, wait=wait):
        steps = RealSteps(read, signals, progress, plain, wait)
        story = go_rounds(read, steps, progress, lambda one: _tell(progress, folder, one))
    if as_json:
        typer.echo(story.model_dump_json())
    else:
        show_story(Console(), story)
        typer.echo(f'Look: prefactory query {shown_path(folder.root)} "SELECT * FROM rounds"')
    if story.rounds and (last := story.rounds[-1]).promoted is None:
        why = "; ".join(last.attempts[-1].tripped)
        raise Fixable(
            f"{folder.root}: round {last.round} promoted nothing: {why}; change `train` or `evaluation.bounds`"
        )


def refuse_remote(recipe: Recipe) -> None:
    settings_of(recipe)
    refuse_store(run_folder(recipe), "semi-online")
    if recipe.policy.urls:
        raise Fixable("policy.urls: rounds train the policy, so that its weights must lie here; name a folder instead")


def _tell(progress: Progress, folder: RunFolder, outcome: RoundOutcome) -> None:
    for line in round_lines(folder, outcome):
        progress.say(line)


def round_lines(folder: RunFolder, outcome: RoundOutcome) -> Iterator[str]:
    """What became of a round."""
    counted = figures(folder.root, outcome.round)
    drops = ", ".join(f"{reason} {count}" for reason, count in counted.dropped.items())
    yield f"round {outcome.round}: {counted.prompts} prompts = {counted.pairs} pairs + {counted.drops} dropped ({drops})"
    for slot in counted.slots:
        low, high = slot.interval
        rate = slot.hard / slot.answers if slot.answers else 0.0
        yield f"  hard loops, {slot.decoding}: {slot.hard} of {slot.answers} = {rate:.1%} ({low:.1%}-{high:.1%})"
    for one in outcome.attempts:
        yield f"  attempt {one.number}: {_became(one)}"
    yield f"  promoted: {outcome.promoted[:16] if outcome.promoted else 'nothing'}"


def _became(one: Attempt) -> str:
    if one.passed:
        return f"held every gate ({(one.candidate or '')[:16]})"
    return "; ".join(one.tripped)


def show_story(console: Console, story: Story) -> None:
    """Each round's last checkpoint in a column."""
    last = [(one, one.attempts[-1]) for one in story.rounds if one.attempts]
    if not last:
        return
    heads = [f"round {one.round}\n{(attempt.candidate or 'no checkpoint')[:16]}" for one, attempt in last]
    table = figure_table("The checkpoint of each round on the held-out prompts", "figure", *heads)
    for name in dict.fromkeys(name for _, attempt in last for name in attempt.figures):
        table.add_row(name, *(_shown(attempt.figures.get(name)) for _, attempt in last))
    table.add_row("promoted", *("yes" if one.promoted else "no" for one, _ in last))
    console.print(table)
    for one, attempt in last:
        for why in attempt.tripped:
            console.print(clean(f"round {one.round}: {why}"), highlight=False)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
