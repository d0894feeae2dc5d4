"""The command line. Each verb is a line of help, what it reads, and a call into the factory.

Exit codes: 0 done; 1 a retry may help; 2 something must be changed first, a spent budget too; 130 stopped by Ctrl-C, 143 by
SIGTERM.
"""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from io import TextIOWrapper
from typing import Annotated

import typer
from rich.console import Console

from factory.client.spending import read_spent
from factory.export import left_out_of
from factory.formats import FORMATS
from factory.formats.marked import reason_in_words
from factory.ledger.identity import Stage
from factory.ledger.rounds import give_up
from factory.looking.figures import figures
from factory.looking.round_figures import round_figures
from factory.objects.place import in_urls
from factory.opening import Opened, open_next, open_run
from factory.progress import Progress
from factory.recipes.recipe_file import read_recipe
from factory.run import RunFolder, run_folder
from flows import show
from flows.deploy import deploy
from flows.evaluate import evaluate_checkpoints
from flows.grpo import grpo
from flows.judges import judges
from flows.judging import Runner
from flows.loops import loops
from flows.mark import mark
from flows.places import RecipePath, RunPath, shown_run
from flows.planning import foresee
from flows.pushing import one_format, push_export
from flows.query import looked_at, query, sql
from flows.redoing import redo
from flows.report import report
from flows.round import gate_of, make_round
from flows.running import with_runner
from flows.semi_online import semi_online
from flows.stopping import StopSignals
from flows.terminal import progress_display
from flows.train import train
from flows.verify import verify
from flows.waiting import Wait, turn
from flows.watching import watch
from schemas.errors import FactoryError, Stopped, Transient, UsedUp
from schemas.export import ExportFormat
from schemas.manifest import RunManifest
from schemas.recipe import Recipe

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Start with: prefactory run recipes/laptop.yaml. Any command takes --debug, for a traceback instead of a line.",
    help="Prompts in, preference pairs out: six answers each by your own model, a jury, and doom loops always rejected.",
)
AsJson = Annotated[bool, typer.Option("--json", help="one JSON document on standard output, for scripts")]
Plain = Annotated[bool, typer.Option("--plain", help="without Prefect; the rows are the same")]


@app.command()
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


@app.command()
def sample(recipe: RecipePath, wait: Wait = False) -> None:
    """Read, clean and sample the prompts, and stop there."""
    _make(read_recipe(recipe), Stage.PROMPTS, plain=True, wait=wait)


@app.command()
def rollout(recipe: RecipePath, wait: Wait = False) -> None:
    """Up to the policy's answers and their loop check."""
    _make(read_recipe(recipe), Stage.ROLLOUTS, plain=True, wait=wait)


@app.command()
def judge(recipe: RecipePath, wait: Wait = False) -> None:
    """Up to the jury's verdicts."""
    _make(read_recipe(recipe), Stage.VERDICTS, plain=True, wait=wait)


@app.command()
def pair(recipe: RecipePath, wait: Wait = False) -> None:
    """Pair again from the stored verdicts, with other `pairing` settings if you like. Needs no model."""
    _again(read_recipe(recipe), Stage.PAIRS, wait=wait)


@app.command()
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


@app.command()
def plan(recipe: RecipePath, as_json: AsJson = False) -> None:
    """What a run would do: prompts, requests, tokens at most, and what is there already. Sends nothing."""
    foreseen = foresee(read_recipe(recipe))
    if as_json:
        print(json.dumps(asdict(foreseen)))
    else:
        Console().print(foreseen.text(), markup=False, highlight=False, soft_wrap=True)


@app.command()
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
        print(json.dumps(asdict(counted) | more))
        return
    console = Console()
    show.show_figures(console, counted, max_tokens)
    show.show_rounds(console, rounds)
    show.show_seconds(console, manifest)
    show.show_spent(console, spent, spent.money if manifest.prices else None)


app.command()(query)
app.command()(sql)
app.command()(report)
app.command()(grpo)
app.command()(deploy)
app.command()(loops)
app.command()(verify)
app.command()(mark)
app.command("evaluate")(evaluate_checkpoints)
app.command()(train)
app.command("semi-online")(semi_online)
app.add_typer(judges, name="judges")


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
            print(f"Nothing to do: {why}")
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


def main() -> None:
    """The `prefactory` command: errors become one line each, and an exit code."""
    debug = "--debug" in sys.argv
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # answers hold letters that not every terminal has
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    try:
        app(prog_name="prefactory")
    except FactoryError as error:
        if debug:
            raise
        _fail(str(error), exit_code(error))
    except Exception as error:
        if debug:
            raise
        _fail(f"unexpected {type(error).__name__}: {error}; the same command with --debug shows where", 1)


def exit_code(error: FactoryError) -> int:
    match error:
        case Stopped():
            return 128 + error.signum
        case Transient():
            return 1
        case _:
            return 2


def _fail(line: str, code: int) -> None:
    print(f"prefactory: {in_urls(show.clean(line).plain)}", file=sys.stderr)  # a server's words may be in it
    sys.exit(code)


if __name__ == "__main__":
    main()
