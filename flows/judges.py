"""The verbs `judges`, `judges probe` and `judges calibrate`: which there are, and what those of a recipe are worth.

Nothing here touches the rows of a run. Paid answers of a calibration are kept in its journal under the run's folder, so that
a calibration that was cut off goes on where it stopped.
"""

import hashlib
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from factory.client.asking import Desk
from factory.client.gate import Gate
from factory.client.spending import Spending
from factory.engine import Engine
from factory.gathering.sources import shown_path
from factory.judging.calibration import GoldPair, accuracies, ask_about_gold, drawn, marked_gold, read_gold
from factory.judging.gold import Accuracy, weights_document
from factory.judging.judge_probe import JudgeProbe, probe_judge
from factory.keys import key_names
from factory.ledger.journal import Journal
from factory.opening import cache_folder, jury_of
from factory.progress import Progress
from factory.recipes.recipe_file import read_recipe
from factory.run import RunFolder, run_folder
from factory.serving.engines import EngineRoom, digest_of, model_refs
from factory.store import write_text
from flows.judging import panels
from flows.show import figure_table
from flows.stopping import StopSignals
from flows.terminal import progress_display
from flows.waiting import Wait, turn
from judges.base import Judge
from judges.registry import JUDGES, VERIFIERS
from schemas.errors import Fixable
from schemas.recipe import JudgeRef, Recipe

judges = typer.Typer(
    invoke_without_command=True, help="The judges and verifiers that a recipe can name; probe, calibrate."
)
_RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="the recipe whose jury it is")]
_AsJson = Annotated[bool, typer.Option("--json", help="one JSON document on standard output, for scripts")]
_Ask = Callable[[list[tuple[Judge, Engine, JudgeRef]]], Awaitable[None]]


@judges.callback()
def list_judges(context: typer.Context) -> None:
    """The judges and verifiers that a recipe can name."""
    if context.invoked_subcommand is not None:
        return
    for kind, names in (("judge", JUDGES), ("verifier", VERIFIERS)):
        for name in names:
            typer.echo(f"{kind:<9} {name:<14} {_first_line(name)}")


def _first_line(name: str) -> str:
    """A judge's name is its file's name, and the file's first line says what it asks."""
    return (sys.modules[f"judges.{name}"].__doc__ or "").strip().splitlines()[0]


@judges.command()
def probe(recipe: _RecipePath, as_json: _AsJson = False) -> None:
    """Ask every judge about a few shipped answers before a run: can it be read, does it see an answer that was spoilt?

    Exit code 2 where a judge cannot be read at all.
    """
    read = read_recipe(recipe)
    found: list[JudgeProbe] = []
    with (
        progress_display() as progress,
        StopSignals(progress.say) as signals,
        tempfile.TemporaryDirectory(prefix="prefactory-probe-") as scratch,
    ):

        async def ask(panel: list[tuple[Judge, Engine, JudgeRef]]) -> None:
            for judge, engine, ref in panel:
                desk = Desk(Journal(Path(scratch) / f"{judge.name}.jsonl"), lambda: None)
                found.append(await probe_judge(judge, (ref.model or read.policy).model, engine, desk))

        gate = Gate(
            read.budget, Spending(Path(scratch) / "spent.json")
        )  # each probe has all of it: it is no part of the run
        signals.run(_each_panel(read, jury_of(read), ask, progress, gate), gate)
    found.sort(key=lambda one: read.jury.seats.index(one.judge))
    if as_json:
        typer.echo(json.dumps([asdict(one) | {"interval": one.interval, "warnings": one.warnings()} for one in found]))
    else:
        _show_probes(Console(), found)
    if unread := [one.judge for one in found if not one.readable]:
        raise Fixable(f"jury.judges: {', '.join(unread)}: no reply could be read; take another model or server")


@judges.command()
def calibrate(
    recipe: _RecipePath,
    gold: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSONL or Parquet of answer pairs whose better one is known")
    ] = None,
    marks: Annotated[
        bool, typer.Option("--marks", help="the marks that people put on the run's own pairs, instead or as well")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="the weights; else beside the recipe, as NAME.weights.json")
    ] = None,
    sample: Annotated[int | None, typer.Option(metavar="N", min=1, help="so many pairs, else all")] = None,
    as_json: _AsJson = False,
    wait: Wait = False,
) -> None:
    """How often each judge of a recipe names the better answer, and the weights that follow, for `pairing.weights`."""
    read = read_recipe(recipe)
    marked = _of_marks(read) if marks else []
    pairs = drawn([*(read_gold(gold) if gold else ()), *marked], sample)
    if not pairs:
        raise Fixable(
            f"{recipe}: nothing to calibrate against; name a file with --gold, or mark pairs that have no loop "
            "(`prefactory mark`) and say --marks"
        )
    target = out or recipe.with_name(f"{read.name}.weights.json")
    folder = RunFolder(run_folder(read))
    with progress_display() as progress, StopSignals(progress.say) as signals, turn(folder, progress, wait=wait):
        found = _calibrated(read, _digest_of(gold, marked), pairs, progress, signals)
    if not any(one.pairs for one in found.values()):
        raise Fixable(
            f"{gold or recipe}: no judge scored both answers of any pair; `prefactory judges probe` shows why"
        )
    write_text(target, weights_document(found))
    if as_json:
        typer.echo(weights_document(found), nl=False)
    else:
        _show_accuracies(Console(), found, target)


def _of_marks(recipe: Recipe) -> list[GoldPair]:
    """Of every round."""
    folder = RunFolder(run_folder(recipe))
    folder.look().known()
    return [pair for each in folder.rounds() for pair in marked_gold(each)]


def _digest_of(gold: Path | None, marked: Sequence[GoldPair]) -> str:
    """Of the answers that judges are asked about, whatever sample of them."""
    shown = [(pair.prompt.prompt_id, *(one.rollout_id for one in pair.answers)) for pair in marked]
    content = gold.read_bytes() if gold else b""
    return hashlib.sha256(content + (json.dumps(sorted(shown)).encode() if shown else b"")).hexdigest()


def _calibrated(
    recipe: Recipe, gold: str, pairs: tuple[GoldPair, ...], progress: Progress, signals: StopSignals
) -> dict[str, Accuracy]:
    """`gold` is the digest of what is gold: other answers to the same prompts are asked about anew.

    What it costs counts in the run's own budget.
    """
    jury = jury_of(recipe)
    models = {role: digest_of(ref, cache_folder(), progress) for role, ref in model_refs(recipe).items()}
    digests = [gold, *(f"{role} {digest}" for role, digest in models.items()), *(one.digest for one in jury.values())]
    made_from = hashlib.sha256("\n".join(digests).encode()).hexdigest()
    journal = RunFolder(run_folder(recipe)).journal("calibration", 0, made_from)
    asked = sum(len(judge.ask(pair.prompt, pair.answers)) for judge in jury.values() for pair in pairs)
    progress.begin("gold", asked)
    desk = Desk(journal, lambda: progress.advance("gold"), progress.say)

    async def ask(panel: list[tuple[Judge, Engine, JudgeRef]]) -> None:
        await ask_about_gold(pairs, [(judge, engine) for judge, engine, _ in panel], desk)

    gate = Gate(recipe.budget, Spending(RunFolder(run_folder(recipe)).spent_path))
    signals.run(_each_panel(recipe, jury, ask, progress, gate), gate)
    return accuracies(pairs, list(jury.values()), journal.kept)


async def _each_panel(recipe: Recipe, jury: dict[str, Judge], ask: _Ask, progress: Progress, gate: Gate) -> None:
    """Give the judges that can be heard together to `ask`, panel by panel; a local server is started for each."""
    run, keys = RunFolder(run_folder(recipe)), key_names(recipe)
    async with gate.at_work(), EngineRoom(run, recipe.machine, cache_folder(), progress, keys, gate) as room:
        for panel in panels(recipe, recipe.jury.seats):
            engines = [await gate.unless_closed(room.engine(one.model or recipe.policy)) for one in panel]
            await ask([(jury[one.seat], engine, one) for one, engine in zip(panel, engines, strict=True)])


def _show_probes(console: Console, found: list[JudgeProbe]) -> None:
    title = "Spoilt answers that the sound one beats, with the 95% interval"
    table = figure_table(title, "judge", "readable", "mass", "beaten", "tied", "s/call", "tokens")
    for one in found:
        low, high = one.interval
        compared = one.won + one.tied + one.lost
        beaten = f"{one.won} of {compared} ({low:.0%}-{high:.0%})"
        numbers = (_shown(one.mass, 2), beaten, str(one.tied), _shown(one.seconds, 2), _shown(one.prompt_tokens, 0))
        table.add_row(one.judge, f"{one.readable} of {one.asked}", *numbers)
    console.print(table)
    models = dict.fromkeys(one.model for one in found)
    by_model = (f"{model}: {', '.join(one.judge for one in found if one.model == model)}" for model in models)
    console.print("\n".join(by_model), markup=False, highlight=False)
    for line in (line for one in found for line in one.warnings()):
        console.print(f"warning: {line}", markup=False, highlight=False)


def _show_accuracies(console: Console, found: dict[str, Accuracy], target: Path) -> None:
    table = figure_table("Judges against gold; a tie is half right", "judge", "pairs", "right", "accuracy", "weight")
    for name, one in found.items():
        low, high = one.interval
        weight = f"{one.weight:.2f}" if one.weight else "0: not heard"
        table.add_row(name, str(one.pairs), f"{one.right:g}", f"{one.rate:.3f} ({low:.3f}-{high:.3f})", weight)
    console.print(table)
    lines = [f"Written: {shown_path(target)}; name it as `pairing.weights` in the recipe"]
    if not any(one.weight for one in found.values()):
        lines.append(
            "No judge is clearly better than a coin, so no recipe can be run with these weights: use better judges"
        )
    console.print("\n".join(lines), markup=False, highlight=False)


def _shown(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
