"""The verbs that make a run, whole or up to a stage, and those that make a stage again from what is stored."""

from collections.abc import Callable, Iterator
from typing import Annotated

import typer
from rich.console import Console

from factory.export import left_out_of
from factory.formats import FORMATS
from factory.formats.marked import reason_in_words
from factory.ledger.identity import Stage
from factory.ledger.rounds import give_up
from factory.looking.figures import figures
from factory.opening import Opened, open_next, open_run
from factory.progress import Progress
from factory.recipes.recipe_file import read_recipe
from factory.run import RunFolder, run_folder
from flows import show
from flows.judging import Runner
from flows.places import RecipePath, shown_run
from flows.pushing import one_format, push_export
from flows.redoing import redo
from flows.round import gate_of, make_round
from flows.running import with_runner
from flows.stopping import StopSignals
from flows.terminal import progress_display
from flows.waiting import Wait, turn
from schemas.errors import UsedUp
from schemas.export import ExportFormat
from schemas.manifest import RunManifest
from schemas.recipe import Recipe

Plain = Annotated[bool, typer.Option("--plain", help="without Prefect; the rows are the same")]


def run(
    recipe: RecipePath,
    plain: Plain = False,
    wait: Wait = False,
    more: Annotated[
        bool, typer.Option("--more", help="once its round is done: a further one, of prompts that no earlier one took")
    ] = False,
) -> None:
    """The whole thing: prompts, rollouts, loop check, jury, pairs, dataset. Run it again to go on where it stopped."""
    _make(read_recipe(recipe), Stage.EXPORT, plain=plain, wait=wait, opens=open_next if more else open_run)


def sample(recipe: RecipePath, wait: Wait = False) -> None:
    """Read, clean and sample the prompts, and stop there."""
    _make(read_recipe(recipe), Stage.PROMPTS, plain=True, wait=wait)


def rollout(recipe: RecipePath, wait: Wait = False) -> None:
    """Up to the policy's answers and their loop check."""
    _make(read_recipe(recipe), Stage.ROLLOUTS, plain=True, wait=wait)


def judge(recipe: RecipePath, wait: Wait = False) -> None:
    """Up to the jury's verdicts."""
    _make(read_recipe(recipe), Stage.VERDICTS, plain=True, wait=wait)


def pair(recipe: RecipePath, wait: Wait = False) -> None:
    """Pair again from the stored verdicts, with other `pairing` settings if you like. Needs no model."""
    _again(read_recipe(recipe), Stage.PAIRS, wait=wait)


def export(
    recipe: RecipePath,
    form: Annotated[
        list[ExportFormat] | None,
        typer.Option(
            "--format", help="for which trainer; may be given again. Without it: the recipe's `export.formats`"
        ),
    ] = None,
    push_to: Annotated[
        str | None,
        typer.Option(
            "--push", metavar="ORG/NAME", help="then put it on the Hugging Face hub, all rounds of one format"
        ),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="a dataset that --push makes anew can be seen by all")
    ] = False,
    wait: Wait = False,
) -> None:
    """Write the stored pairs as a dataset for a trainer. Needs no model; other formats that lie there are kept up to date."""
    wanted = read_recipe(recipe)
    if form:
        written = wanted.export.model_copy(update={"formats": list(dict.fromkeys(form))})
        wanted = wanted.model_copy(update={"export": written})
    if push_to is None:
        _again(wanted, Stage.EXPORT, wait=wait)
        return
    pushed_format = one_format(wanted, push_to)
    _again(wanted, Stage.EXPORT, wait=wait)
    push_export(wanted, pushed_format, push_to, public=public, wait=wait)


def _make(
    recipe: Recipe,
    last: Stage,
    *,
    plain: bool,
    wait: bool,
    opens: Callable[[Recipe, Progress], Opened] = open_run,
) -> None:
    folder = RunFolder(run_folder(recipe))
    with progress_display(folder) as progress, StopSignals(progress.say) as signals, turn(folder, progress, wait=wait):
        opened = opens(recipe, progress)
        gate = gate_of(opened.work)
        found: list[tuple[RunManifest, int]] = []

        async def work(runner: Runner) -> None:
            found.append(await make_round(opened, runner, last, gate=gate))

        try:
            signals.run(with_runner(opened, work, signals, plain=plain), gate)
        except UsedUp as why:
            give_up(opened.work.run)
            typer.echo(f"Nothing to do: {why}")
            return
    manifest, sent = found[0]
    _report(opened, manifest, sent, last)


def _again(recipe: Recipe, stage: Stage, *, wait: bool) -> None:
    """Redo a stage of every round from what is stored; whatever it is made from must be there."""
    folder = RunFolder(run_folder(recipe))
    folder.look().known()
    with progress_display(folder) as progress, StopSignals(progress.say) as signals, turn(folder, progress, wait=wait):
        found = [redo(each, recipe, stage, signals, progress) for each in folder.rounds() or (folder,)]
    opened, manifest, sent = found[0]
    _report(opened, manifest, sent, stage)


def _report(opened: Opened, manifest: RunManifest, sent: int, last: Stage) -> None:
    console, root = Console(), opened.work.run.root
    if last in (Stage.PAIRS, Stage.EXPORT):
        show.show_figures(console, figures(root, opened.work.run.round or None), opened.work.recipe.rollouts.max_tokens)
        show.show_one_pair(console, root)
    show.show_seconds(console, manifest)
    shown = shown_run(root)
    lines = [f"Requests sent: {sent}" + (" (everything was there)" if sent == 0 else ""), f"Run folder: {shown}"]
    if last is Stage.EXPORT:
        lines += [
            *(line for name in opened.work.recipe.export.formats for line in _dataset_lines(opened, name)),
            f"Look:    prefactory status {shown}",
            f'         prefactory query {shown} "SELECT cause, count(*) FROM pairs GROUP BY ALL"',
        ]
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def _dataset_lines(opened: Opened, name: ExportFormat) -> Iterator[str]:
    """Where a dataset lies, and what it could not hold."""
    form, folder = FORMATS[name], opened.work.run.export_path(name)
    record = opened.work.record(Stage.EXPORT, 0)
    if folder.exists():
        yield f"Dataset: {shown_run(folder)}  (for {form.what})"
    else:
        yield f"No dataset for `{name}`: there is nothing to write"
    for reason, count in left_out_of(record.notes, name).items():
        yield f"         left out: {count} ({reason_in_words(form, reason)})"
