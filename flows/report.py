"""The verb `report`: one HTML file about a run, or about two side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from factory import store
from factory.objects.holding import send
from factory.run import RunFolder
from flows.places import RunPath, run_at
from flows.query import looked_at

MEND = "make room or rights there"


def report(
    run: RunPath,
    beside: Annotated[
        Path | None, typer.Argument(metavar="RUN_B", help="another run, to be set beside the first", parser=run_at)
    ] = None,
) -> None:
    """Write one HTML file that a team reads in two minutes: loops, jury, margins, cost, and what to change."""
    typer.echo(str(write_report((run,) if beside is None else (run, beside))))


def write_report(runs: Sequence[Path]) -> Path:
    """Of one run or of two, into the folder of the first. Raises FactoryError where one is no run, and StorageError."""
    from factory.looking.report import report_page  # plots are a second to import, and no other verb draws any
    from factory.looking.report_figures import run_report

    for folder in runs:
        looked_at(folder)
    reports = [run_report(folder) for folder in runs]
    target = RunFolder(runs[0]).report_path(*(other.name for other in reports[1:]))
    with store.writing(target, MEND) as unfinished:
        unfinished.write_text(report_page(reports), encoding="utf-8")
    send(runs[0], target)
    return target
