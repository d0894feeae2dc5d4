"""The verb `report`: one HTML file about a run, or about two side by side."""

from pathlib import Path
from typing import Annotated

import typer

from factory import store
from factory.run import RunFolder
from flows.query import looked_at

MEND = "make room or rights there"


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="a run folder, for example runs/laptop")],
    beside: Annotated[
        Path | None, typer.Argument(metavar="RUN_B", help="another run, to be set beside the first")
    ] = None,
) -> None:
    """Write one HTML file that a team reads in two minutes: loops, jury, margins, cost, and what to change."""
    from factory.looking.report import report_page  # plots are a second to import, and no other verb draws any
    from factory.looking.report_figures import run_report

    folders = [folder for folder in (run, beside) if folder is not None]
    for folder in folders:
        looked_at(folder)
    reports = [run_report(folder) for folder in folders]
    target = RunFolder(run).report_path(None if beside is None else reports[1].name)
    with store.writing(target, MEND) as unfinished:
        unfinished.write_text(report_page(reports), encoding="utf-8")
    typer.echo(str(target))
