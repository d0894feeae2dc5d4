"""The verb `verify`: whether a run is what its records say, and, with `--repair`, what can be done about it at once."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from factory.judging.deciding import Bench
from factory.ledger.found import Fault, Found
from factory.ledger.heeded_marks import marks_made_with
from factory.ledger.identity import Stage
from factory.ledger.kept import kept
from factory.ledger.repair import repair as take_out
from factory.ledger.verify import verify as look
from factory.opening import Opened, bench_of, jury_of
from factory.progress import Progress
from factory.recipes.recipe_file import stored_recipe
from factory.run import RunFolder
from factory.work import Work, now
from flows.places import RunPath
from flows.plain import PlainRunner
from flows.round import make_round
from flows.terminal import progress_display
from flows.waiting import Wait, turn
from schemas.errors import Fixable, Transient
from schemas.manifest import RunManifest

_LASTS = (Stage.EXPORT, Stage.PAIRS, Stage.VERDICTS, Stage.ROLLOUTS, Stage.PROMPTS)


def verify(
    run: RunPath,
    repair: Annotated[
        bool, typer.Option("--repair", help="take out what is wrong, and redo what needs no model")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON document on standard output, for scripts")] = False,
    wait: Wait = False,
) -> None:
    """Check a run: checksums, schemas, ids, and the laws of its rows. Says which shard to redo and why.

    Exit code 0: all is well; 2: something is wrong; 1: after --repair, `prefactory run` must redo some shards.
    """
    folder = RunFolder(run)
    _refuse_no_run(folder)  # before its lock makes the folder
    with progress_display() as progress, turn(folder, progress, wait=wait):
        found, done = look_at(folder, progress), list[str]()
        if repair and found.faults:
            before = found
            for each in _rounds(folder):
                if own := [fault for fault in found.faults if fault.round == each.round]:
                    done += _repaired(each, own, progress)
            found = look_at(folder, progress)
            _show(Console(stderr=as_json), before, run)
    if as_json:
        typer.echo(json.dumps(asdict(found) | {"repaired": done}))
    else:
        _show_lines(Console(), done)
        _show(Console(), found, run)
    _end(run, found, done)


def _refuse_no_run(folder: RunFolder) -> None:
    if not folder.manifest_path.exists() and not folder.begun(Stage.PROMPTS):
        raise Fixable(f"{folder.root}: no run there (no manifest.json); `prefactory run RECIPE` makes one")


def look_at(folder: RunFolder, progress: Progress) -> Found:
    """At every round. Raises Fixable where there is no run."""
    _refuse_no_run(folder)
    found = Found()
    for each in _rounds(folder):
        work, manifest = _opened(each, progress)
        found.add(look(work, manifest))
    found.faults += kept(folder)
    return found


def _rounds(folder: RunFolder) -> tuple[RunFolder, ...]:
    return folder.rounds() or (folder,)


def _opened(folder: RunFolder, progress: Progress) -> tuple[Work, RunManifest]:
    """As the round itself says that it was made."""
    manifest = folder.manifest()
    if manifest is None:
        verb = "semi-online" if folder.round else "run"
        raise Fixable(f"{folder.manifest_path}: is not there; `prefactory {verb} RECIPE` makes it from the records")
    return Work(folder, stored_recipe(folder.recipe_path), manifest.identity, progress), manifest


def _repaired(folder: RunFolder, faults: Sequence[Fault], progress: Progress) -> list[str]:
    """Takes out what is wrong, and makes anew what needs no model, as far as the run had come."""
    last = next((stage for stage in _LASTS if folder.begun(stage)), Stage.PROMPTS)
    work, _ = _opened(folder, progress)
    done = take_out(work, faults, now())
    work, manifest = _opened(folder, progress)
    if work.finished(Stage.PROMPTS, 0) is None:
        return done
    if last in (Stage.PAIRS, Stage.EXPORT) and not _wants_a_model(work):
        bench, _ = bench_of(work.recipe, marks_made_with(folder, manifest))
        opened = Opened(work, jury_of(work.recipe), bench)
    else:
        last, opened = Stage.PROMPTS, Opened(work, {}, Bench())
    asyncio.run(make_round(opened, PlainRunner(1), last, offline=True))
    return [*done, "made anew what needs no model" if last is not Stage.PROMPTS else "manifest and catalog made anew"]


def _wants_a_model(work: Work) -> bool:
    """Whether anything of the run has still to be asked of an engine."""
    if work.pending(Stage.ROLLOUTS) or work.pending(Stage.VERDICTS):
        return True
    return work.recipe.jury.confirm and any(work.found(Stage.CONFIRMATIONS, shard) is None for shard in work.shards())


def _show(console: Console, found: Found, run: Path) -> None:
    lines = [
        f"{fault.file}: {fault.why}" + (f" -> {fault.stage} of shard {fault.shard}" if fault.shard >= 0 else "")
        for fault in found.faults
    ]
    if not found.faults:
        lines = [f"{found.parts} files with {found.rows:,} rows: all as recorded"]
    if found.pending:
        left = ", ".join(f"{stage} {count}" for stage, count in found.pending.items())
        lines.append(f"not finished yet, in shards: {left}; {_goes_on(run)} goes on")
    _show_lines(console, lines)


def _goes_on(run: Path) -> str:
    verb = "semi-online" if len(RunFolder(run).rounds()) > 1 else "run"
    return f"`prefactory {verb} {run / 'recipe.yaml'}`"


def _show_lines(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _end(run: Path, found: Found, done: Sequence[str]) -> None:
    """Raises what the exit code says."""
    if found.faults:
        mend = "what is left is listed above" if done else f"`prefactory verify {run} --repair` takes out what is wrong"
        raise Fixable(f"{run}: not as recorded, faults: {len(found.faults)}; {mend}")
    if done and found.pending:
        raise Transient(f"{run}: what was taken out needs a model: {_goes_on(run)} makes it anew")
