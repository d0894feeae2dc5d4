"""The flows that Prefect's workers run: one round, the semi-online rounds, the export alone, and verify.

The rule that must not break: the state in which a flow run ends is what happened. Nothing to do is no failure; a failure says
in one line what a person would read on the command line; a run that was stopped is no failure of the run's.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.exceptions import TerminationSignal
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from factory.ledger.identity import Stage
from factory.ledger.rounds import give_up
from factory.opening import open_next, open_run
from factory.recipes.recipe_file import read_recipe
from factory.run import RunFolder, run_folder
from factory.semi_online import go_rounds, read_story
from flows.changes import Changes, changed
from flows.failing import Failures
from flows.judging import Runner
from flows.notifying import notice, notify
from flows.prefect_page import Page
from flows.prefect_turn import SKIPPED, NotNow, turn
from flows.redoing import redo
from flows.report import write_report
from flows.round import gate_of, make_round
from flows.round_page import figure_rows
from flows.round_steps import RealSteps
from flows.running import inside_flow
from flows.scheduled import PrefectRunner
from flows.semi_online import refuse_remote, round_lines
from flows.stopping import StopSignals
from flows.verify import look_at
from schemas.errors import FactoryError, ShardsLeft, Stopped, UsedUp
from schemas.export import ExportFormat
from schemas.recipe import Recipe
from schemas.semi_online import RoundOutcome, Story

NOTHING_NEW = "NothingNew"  # the name of the state of a run that found nothing to do
UNFINISHED = "Unfinished"  # and of one that leaves some shards for the next
GATE = "GateTripped"
Ending = State[object]
AS_IT_SAYS = Changes()


def _named() -> str:
    """By the recipe's file, which is the first that a person looks for."""
    return Path(flow_run.parameters["recipe"]).stem


@flow(name="prefactory-round", flow_run_name=_named, persist_result=False)
def round_run(recipe: str, changes: Changes = AS_IT_SAYS) -> Ending:
    """Prompts to an exported dataset. Run again it adds a round of prompts that no earlier round took.

    Args:
        recipe: the recipe's YAML file, as the worker finds it
        changes: what this run does otherwise than the recipe; an empty field is as the recipe says
    """
    return _ended(recipe, changes, "round", _round)


@flow(name="prefactory-semi-online", flow_run_name=_named, persist_result=False)
def semi_online_run(recipe: str, changes: Changes = AS_IT_SAYS) -> Ending:
    """Answer, judge, pair, train, evaluate, promote; and again, until the recipe has its rounds or a gate holds one back.

    Args:
        recipe: the recipe's YAML file, as the worker finds it
        changes: what this run does otherwise than the recipe; an empty field is as the recipe says
    """
    return _ended(recipe, changes, "semi-online", _semi_online)


@flow(name="prefactory-export", flow_run_name=_named, persist_result=False)
def export_run(recipe: str, formats: list[ExportFormat] | None = None) -> Ending:
    """The stored pairs of every round as datasets for trainers. Needs no model.

    Args:
        recipe: the recipe's YAML file, as the worker finds it
        formats: the trainers to write for; empty: the recipe's `export.formats`
    """
    return _ended(recipe, Changes(formats=formats), "export", _export, RunFolder.known)


@flow(name="prefactory-verify", flow_run_name=_named, persist_result=False)
def verify_run(recipe: str) -> Ending:
    """Whether the run folder is what its records say.

    Args:
        recipe: the recipe's YAML file, as the worker finds it
    """
    return _ended(recipe, AS_IT_SAYS, "verify", _verify, RunFolder.known)


Does = Callable[[Recipe, StopSignals, Page], Ending]
Ready = Callable[[RunFolder], object]  # raises FactoryError where there is nothing to do it with


def _anywhere(_: RunFolder) -> None:
    """A round begins its run folder itself."""


def _ended(path: str, changes: Changes, name: str, does: Does, ready: Ready = _anywhere) -> Ending:
    """What the flow run came to. Whoever the recipe names is told of a failure."""
    try:
        recipe = changed(read_recipe(Path(path)), changes)
    except FactoryError as error:
        return Failed(message=str(error))
    with Page(recipe.name) as page:
        ending = _worked(recipe, page, does, ready)
        if ending.is_failed():
            _notify(recipe, name, ending, page)
        return ending


def _worked(recipe: Recipe, page: Page, does: Does, ready: Ready) -> Ending:
    folder = RunFolder(run_folder(recipe))
    try:
        ready(folder)
        with StopSignals(page.say) as signals, turn(folder, recipe.schedule.overlap, page):
            return does(recipe, signals, page)
    except NotNow as why:
        return Completed(name=SKIPPED, message=str(why))  # one that ends as cancelled is an error in its worker's log
    except Stopped as stopped:
        page.say(str(stopped))
        raise TerminationSignal(signal.SIGTERM) from stopped  # Prefect knows whether somebody cancelled it
    except ShardsLeft as left:
        return Completed(name=UNFINISHED, message=str(left))
    except FactoryError as error:
        return Failed(message=str(error))


def _notify(recipe: Recipe, name: str, ending: Ending, page: Page) -> None:
    if (variable := recipe.schedule.webhook_env) is None:
        return
    told = notice(recipe.name, name, ending.name or "Failed", ending.message or "")
    with httpx.Client() as client:
        if problem := notify(os.environ[variable], told, client):
            page.say(problem)


def _round(recipe: Recipe, signals: StopSignals, page: Page) -> Ending:
    opened = (open_next if recipe.schedule.prompts == "new" else open_run)(recipe, page)
    run, gate = opened.work.run, gate_of(opened.work)
    failures = Failures(recipe.schedule.failed_shards)
    runner = PrefectRunner(recipe.machine.shards_in_flight, gate, failures)

    async def work(on: Runner) -> None:
        await make_round(opened, on, Stage.EXPORT, gate=gate)

    try:
        signals.run(inside_flow(opened, work, signals, runner), gate)
    except UsedUp as why:
        give_up(run)
        return Completed(name=NOTHING_NEW, message=str(why))
    finally:
        _show_failures(failures, page)
    counted = _show_round(run, page)
    return Completed(message=counted)


def _show_round(run: RunFolder, page: Page) -> str:
    """The round's figures, and where its data lies; what it came to in a line."""
    page.table("figures", rows := figure_rows(run), f"what round {run.round} came to")
    exports = run.export_path("")
    if exports.is_dir():
        page.link("export", exports, f"the datasets of round {run.round}, where the worker runs")
    _show_report(run, page)
    found = {str(row["figure"]): str(row["value"]) for row in rows}
    return f"round {run.round}: {found['prompts']} prompts, {found['pairs']} pairs"


def _show_report(run: RunFolder, page: Page) -> None:
    """A round is not undone by a report that cannot be written."""
    try:
        page.link("report", write_report((run.root,)), "the report of all rounds, where the worker runs")
    except FactoryError as error:
        page.say(f"no report: {error}")


def _show_failures(failures: Failures, page: Page) -> None:
    if failures.reasons:
        lines = (f"| {shard} | {stage} | {_cell(why)} |" for shard, (stage, why) in failures.reasons.items())
        page.text(
            "failed-shards", "\n".join(["| shard | stage | why |", "|---|---|---|", *lines]), "shards that failed"
        )


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _semi_online(recipe: Recipe, signals: StopSignals, page: Page) -> Ending:
    refuse_remote(recipe)
    folder = RunFolder(run_folder(recipe))
    before = read_story(folder)
    steps = RealSteps(recipe, signals, page, plain=False, wait=True)

    def told(outcome: RoundOutcome) -> None:
        for line in round_lines(folder, outcome):
            page.say(line)

    return story_ending(before, go_rounds(recipe, steps, page, told), folder, page)


def story_ending(before: Story, story: Story, folder: RunFolder, page: Page) -> Ending:
    if story.rounds and (last := story.rounds[-1]).promoted is None:
        why = "; ".join(last.attempts[-1].tripped)
        return Failed(name=GATE, message=f"round {last.round} promoted nothing: {why}")
    if story == before:
        return Completed(name=NOTHING_NEW, message=f"{len(story.rounds)} rounds are done, and no further one was begun")
    last = story.rounds[-1]
    return Completed(
        message=f"{_show_round(RunFolder(folder.root, last.round), page)}; promoted {(last.promoted or '')[:16]}"
    )


def _export(recipe: Recipe, signals: StopSignals, page: Page) -> Ending:
    folder = RunFolder(run_folder(recipe))
    done = [redo(each, recipe, Stage.EXPORT, signals, page) for each in folder.rounds() or (folder,)]
    page.link("export", folder.export_path(""), "the datasets, where the worker runs")
    return Completed(message=f"{len(done)} rounds exported: {', '.join(recipe.export.formats)}")


def _verify(recipe: Recipe, _: StopSignals, page: Page) -> Ending:
    found = look_at(RunFolder(run_folder(recipe)), page)
    if found.faults:
        lines = (f"| {_cell(fault.file)} | {_cell(fault.why)} |" for fault in found.faults)
        page.text("faults", "\n".join(["| file | why |", "|---|---|", *lines]), "what is not as recorded")
        return Failed(
            message=f"not as recorded, faults: {len(found.faults)}: {found.faults[0].file}: {found.faults[0].why}"
        )
    return Completed(message=f"{found.parts} files with {found.rows:,} rows: all as recorded")
