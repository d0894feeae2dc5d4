"""A page that stands alone: sections of words, plots and tables, as one HTML file without a script and without the network.

The rule that must not break: every word goes through the template's escaping, and is made visible first. Only plots are markup.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup, escape

from factory.looking.harmless import visible
from factory.looking.plots import Plot
from factory.looking.templating import environment

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under `head`. `words`: the columns that hold words and not numbers."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: tuple[int, ...] = (0,)


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure that is read first. `more`: what it means, or its interval."""

    name: str
    values: tuple[str, ...]  # one for each run
    more: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """Something worth changing, seen in the run called `whose` (empty: there is but one)."""

    whose: str
    seen: str
    change: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A pair side by side."""

    title: str
    asked: str
    chosen: str
    rejected: str


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    words: tuple[str, ...] = ()
    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: tuple[Table, ...] = ()  # behind a click, and in print
    pairs: tuple[Shown, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    title: str
    names: tuple[str, ...]
    about: tuple[str, ...]
    tiles: tuple[Tile, ...]
    points: tuple[Point, ...]
    sections: tuple[Section, ...]


def html(page: Page) -> str:
    own = environment(TEMPLATES)
    own.filters["coded"] = _coded
    return own.get_template("report.html.j2").render(page=page, plot=_markup)


def _coded(words: str) -> Markup:
    """With what stands between backticks as code, and a first letter as a sentence has it."""
    parts = [escape(visible(part)) for part in (words[:1].upper() + words[1:]).split("`")]
    return Markup("").join(Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in enumerate(parts))


def _markup(plot: Plot) -> Markup:
    return Markup(plot.svg)  # made by matplotlib, which escapes its words


def without_empty(plots: Sequence[Plot | None]) -> tuple[Plot, ...]:
    return tuple(plot for plot in plots if plot is not None)
