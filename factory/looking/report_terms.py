"""What every section of a report goes by: a run's name on the page, a model's name, a rate's cells.

The rule that must not break: a model is named, and never where it lies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from factory.looking.advice import percent
from factory.looking.report_figures import Rate, RunReport

NONE = "–"


@dataclass(frozen=True, slots=True)
class Run:
    """A run with the name that it goes by on the page."""

    name: str
    report: RunReport


def called(model: str) -> str:
    """A model's name; of a folder no more than tells which one it is."""
    name = model.strip('"')
    path = PurePath(name)
    return "/".join(path.parts[-2:]) if path.is_absolute() else name


def columns(runs: Sequence[Run], *names: str) -> tuple[str, ...]:
    """Column heads for each run."""
    if len(runs) == 1:
        return names
    return tuple(f"{run.name}: {name}" for run in runs for name in names)


def rate_cells(rate: Rate | None) -> tuple[str, str, str]:
    if rate is None:
        return NONE, NONE, NONE
    return f"{rate.trials:,}", f"{rate.hits:,} = {percent(rate.value)}", "{} to {}".format(*map(percent, rate.interval))
