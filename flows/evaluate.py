"""The verb `evaluate`: what checkpoints answer to prompts that no model was trained on, side by side.

The first checkpoint is the baseline that the others are compared with. Each one's answers lie in a folder of its own, so that
a checkpoint that was evaluated once is not asked again, whatever it is compared with later.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from factory.evaluation.evaluating import Evaluated, Subject, evaluate, subject_of
from factory.evaluation.held_out import trained_prompts
from factory.evaluation.recipe import checkpoint_of
from factory.evaluation.report import plain, report, write_report
from factory.gathering.sources import shown_path
from factory.progress import Progress
from factory.recipes.recipe_file import read_recipe
from factory.run import RunFolder, run_folder
from flows.places import refuse_store
from flows.show_evaluation import show_report
from flows.stopping import StopSignals
from flows.terminal import progress_display
from flows.waiting import Wait, turn
from schemas.errors import Fixable


def evaluate_checkpoints(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="whose machine, jury and `evaluation` section hold")],
    checkpoints: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CHECKPOINT",
            help="the baseline and then others: folders, model names, or NAME@URL of a running server; "
            "none: the recipe's policy",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="where the answers are kept; else RUN/evaluation")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON document on standard output, for scripts")] = False,
    wait: Wait = False,
) -> None:
    """Ask checkpoints the held-out prompts: loops, right answers, length, variety, perplexity, and who wins."""
    read = read_recipe(recipe)
    folder = RunFolder(run_folder(read))
    refuse_store(folder.root, "evaluate")
    with progress_display() as progress, StopSignals(progress.say) as signals:
        refs = [checkpoint_of(word, read) for word in checkpoints or [read.policy.model]]
        where = out.absolute() if out else folder.evaluation_path()
        subjects = [subject_of(read, ref, where, progress) for ref in refs]
        _refuse_twins(subjects)
        found = [_evaluated(subject, signals, progress, wait=wait) for subject in subjects]
        whole = report(found, trained_prompts(folder.root), read.evaluation.bounds)
        write_report(whole, found)
    if as_json:
        typer.echo(json.dumps(plain(whole)))
    else:
        show_report(Console(), whole)
        _show_places(found)


def _refuse_twins(subjects: Sequence[Subject]) -> None:
    for number, one in enumerate(subjects):
        for other in subjects[:number]:
            if one.digest == other.digest:
                raise Fixable(
                    f"{one.checkpoint.model}: the same model as {other.checkpoint.model} by its weights, or of a server by "
                    "its name; name each once, and serve another checkpoint under another name"
                )


def _evaluated(subject: Subject, signals: StopSignals, progress: Progress, *, wait: bool) -> Evaluated:
    with turn(subject.folder, progress, wait=wait):
        progress.say(f"evaluating {subject.checkpoint.model} ({subject.digest[:16]})")
        found: list[Evaluated] = []
        gate = subject.gate()

        async def work() -> None:
            found.append(await evaluate(subject, gate, progress))

        signals.run(work(), gate)
    return found[0]


def _show_places(found: Sequence[Evaluated]) -> None:
    for one in found:
        typer.echo(f"Answers of {one.checkpoint}: {shown_path(one.root)} ({one.sent} requests sent)")
    root = shown_path(found[-1].root)
    typer.echo(f"Look: prefactory query {root} \"SELECT loop, loop_rule, text FROM rollouts WHERE slot = 'greedy'\"")
