"""The kinds of plots in a report, as SVG that stands in the page itself, or as an image of its own.

The rule that must not break: colours are names that the page gives a value, so that one drawing serves light, dark and print;
and nothing is told by colour alone: series differ by their marker, line or hatching too. Words in a plot may be a stranger's.
"""

import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from factory.looking.harmless import visible

WIDTH = 4.9  # inches; the page scales it
LABEL = 28  # characters of a name beside a bar
DOTS_AN_INCH = 144  # of an image
SVG_DOTS_AN_INCH = 72  # matplotlib's own
MARKERS, LINES, HATCHES = ("o", "s", "D", "^"), ("-", "--", ":", "-."), ("", "////", "....", "xx")
# What a page of its own would need, and this one has already. `<` and `>` in words are escaped, so that none of it makes a tag.
_TIDY = (
    (re.compile(r"\A.*?(?=<svg)", re.DOTALL), ""),
    (re.compile(r"<metadata>.*?</metadata>", re.DOTALL), ""),
    (re.compile(r"<style[^>]*>[^<]*</style>"), ""),
    (re.compile(r"<svg [^>]*?viewBox=\"([^\"]*)\"[^>]*>"), r'<svg viewBox="\1" aria-hidden="true" focusable="false">'),
    (re.compile(r' id="[A-Za-z.0-9]+_\d+"'), ""),  # of groups, which nothing refers to
    (re.compile(r" font-family: [^;\"]*;"), ""),
    (re.compile(r"\n\s*"), " "),
)


@dataclass(frozen=True, slots=True)
class Colours:
    """Of words, of the grid, and of four series of data."""

    ink: str
    faint: str
    series: tuple[str, str, str, str]


# Those of a page stand for its own, which it has several of; those of an image are the page's light ones, on white.
PAGE = Colours("#010203", "#040506", ("#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04"))
IMAGE = Colours("#16181d", "#c9ced6", ("#0072b2", "#d55e00", "#009e73", "#cc79a7"))
_NAMES = {
    PAGE.ink: "var(--ink)",
    PAGE.faint: "var(--faint)",
    **{one: f"var(--s{at})" for at, one in enumerate(PAGE.series, 1)},
}


@dataclass(frozen=True, slots=True)
class Plot:
    """`says`: what it shows, for whoever cannot see it."""

    title: str
    says: str
    figure: Figure

    @property
    def svg(self) -> str:
        """Of one in a page's colours: safe as it is."""
        return _svg(self.figure, self.title)

    def png(self) -> bytes:
        """Of one in an image's."""
        sink = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that its font lacks a letter: a box stands for it
            _lay_out(self.figure, DOTS_AN_INCH)
            self.figure.savefig(sink, format="png", dpi=DOTS_AN_INCH, metadata={"Software": None})
        return sink.getvalue()


@dataclass(frozen=True, slots=True)
class Dots:
    """A series of values by name, each with the two ends of its interval."""

    whose: str
    at: Mapping[str, tuple[float, float, float]]


@dataclass(frozen=True, slots=True)
class Bars:
    """A series of counts by name."""

    whose: str
    at: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Steps:
    """A series of a histogram: the share of what is counted, by the number of the bin."""

    whose: str
    at: Mapping[int, float]


@contextmanager
def _style(colours: Colours) -> Iterator[None]:
    with matplotlib.rc_context(
        {
            "font.size": 10,
            "text.parse_math": False,
            "text.color": colours.ink,
            "axes.edgecolor": colours.faint,
            "axes.labelcolor": colours.ink,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "xtick.color": colours.ink,
            "ytick.color": colours.ink,
            "grid.color": colours.faint,
            "grid.linewidth": 0.6,
            "legend.frameon": False,
        }
    ):
        yield


def dots(
    title: str, series: Sequence[Dots], axis: str, *, coin: float | None = None, colours: Colours = PAGE
) -> Plot | None:
    """Shares with their intervals, series above one another. `coin`: what chance gives. None where there is nothing."""
    names = _names(series)
    if not names:
        return None
    with _style(colours):
        figure, axes = _figure(len(names), len(series))
        for number, one in enumerate(series):
            shift = (number - (len(series) - 1) / 2) * 0.3
            shown = [(place + shift, *one.at[name]) for place, name in enumerate(names) if name in one.at]
            places, values, lows, highs = zip(*shown, strict=True) if shown else ((), (), (), ())
            axes.hlines(places, lows, highs, color=colours.series[number], linewidth=2, clip_on=False)
            axes.plot(
                values, places, MARKERS[number], color=colours.series[number], label=visible(one.whose), clip_on=False
            )
        axes.set_xlim(0, None if coin is None else 1.02)
        if coin is not None:
            axes.axvline(coin, color=colours.ink, linewidth=1, linestyle=":")
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
        _finish(figure, axes, names, axis, len(series))
        said = _said(series, lambda value: f"{value[0]:.1%} ({value[1]:.1%} to {value[2]:.1%})")
        return Plot(title, f"{visible(axis)}. {said}", figure)


def bars(title: str, series: Sequence[Bars], axis: str, *, colours: Colours = PAGE) -> Plot | None:
    """Counts, series above one another, each bar with its number. None where there is nothing."""
    names = _names(series)
    if not names:
        return None
    with _style(colours):
        figure, axes = _figure(len(names), len(series))
        height = 0.72 / len(series)
        for number, one in enumerate(series):
            shift = (number - (len(series) - 1) / 2) * height
            places = [place + shift for place in range(len(names))]
            values = [one.at.get(name, 0) for name in names]
            drawn = axes.barh(places, values, height * 0.9, label=visible(one.whose), color=colours.series[number])
            for bar in drawn:
                bar.set(hatch=HATCHES[number], edgecolor=colours.faint, linewidth=0)
            axes.bar_label(drawn, [short(value) for value in values], padding=3)
        axes.margins(x=0.15)
        axes.xaxis.set_major_formatter(lambda value, _: short(value))
        axes.locator_params(axis="x", nbins=5)
        _finish(figure, axes, names, axis, len(series))
        return Plot(title, f"{visible(axis)}. {_said(series, lambda value: f'{value:,.0f}')}", figure)


def steps(
    title: str,
    series: Sequence[Steps],
    axis: str,
    begins: Callable[[int], float],
    *,
    doubling: bool = False,
    colours: Colours = PAGE,
) -> Plot | None:
    """Histograms over one another. `begins`: where a bin begins. None where there is nothing."""
    places = sorted({place for one in series for place in one.at})
    if not places:
        return None
    whole = range(places[0], places[-1] + 1)
    edges = [begins(place) for place in (*whole, whole.stop)]
    with _style(colours):
        figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
        axes = figure.subplots()
        for number, one in enumerate(series):
            values = [one.at.get(place, 0.0) for place in whole]
            axes.stairs(
                values,
                edges,
                color=colours.series[number],
                linewidth=2,
                linestyle=LINES[number],
                label=visible(one.whose),
            )
        if doubling:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(lambda value, _: short(value))
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
        axes.set_xlabel(visible(axis))
        axes.set_ylabel("share of the pairs")
        axes.grid(axis="y")
        _legend(figure, axes, len(series))
        said = "; ".join(f"{visible(one.whose)}: most between {_mode(one, begins)}" for one in series if one.at)
        return Plot(title, f"{visible(axis)}. {said}", figure)


def _mode(one: Steps, begins: Callable[[int], float]) -> str:
    place = max(one.at, key=lambda key: one.at[key])
    return f"{begins(place):.3g} and {begins(place + 1):.3g}"


def _names(series: Sequence[Dots] | Sequence[Bars]) -> list[str]:
    return list(dict.fromkeys(name for one in series for name in one.at))


def _figure(names: int, series: int) -> tuple[Figure, Axes]:
    height = 0.85 + names * (0.27 if series == 1 else 0.2 * series) + (0.25 if series > 1 else 0)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _finish(figure: Figure, axes: Axes, names: Sequence[str], axis: str, series: int) -> None:
    axes.set_yticks(range(len(names)), [label(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0, pad=8)
    axes.set_xlabel(visible(axis))
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    _legend(figure, axes, series)


def _legend(figure: Figure, axes: Axes, series: int) -> None:
    if series > 1:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=min(series, 2))


def _said(series: Sequence[Dots] | Sequence[Bars], value: Callable[..., str]) -> str:
    lines = []
    for one in series:
        said = "; ".join(f"{visible(name)} {value(found)}" for name, found in one.at.items())
        lines.append(f"{visible(one.whose)}: {said}" if len(series) > 1 else said)
    return ". ".join(lines)


def label(name: str) -> str:
    """A name that is not too long to stand beside a bar: its end tells files of one folder apart."""
    shown = visible(name).replace("\n", " ")
    return shown if len(shown) <= LABEL else f"…{shown[1 - LABEL :]}"


def short(value: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e4)):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):.3g}{unit}"
    return f"{value:,.0f}" if value == round(value) else f"{value:.3g}"


def _lay_out(figure: Figure, dots_an_inch: int) -> None:
    """Once. `savefig` would do it twice, and draw the figure twice for it, which takes most of its time."""
    if (engine := figure.get_layout_engine()) is not None:
        figure.set_dpi(dots_an_inch)
        engine.execute(figure)
        figure.set_layout_engine(None)


def _svg(figure: Figure, title: str) -> str:
    """An SVG element, with names of its own for what a page has more than one of."""
    sink = io.StringIO()
    # Words stay words: they can be read out and searched for, and take the page's font.
    with (
        matplotlib.rc_context({"svg.hashsalt": title, "svg.fonttype": "none", "hatch.linewidth": 0.7}),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", UserWarning)  # that its own font lacks a letter: the page's font draws it
        _lay_out(figure, SVG_DOTS_AN_INCH)
        figure.savefig(sink, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = sink.getvalue()
    for pattern, by in _TIDY:
        text = pattern.sub(by, text)
    return re.sub("#[0-9a-f]{6}", lambda found: _NAMES.get(found[0], found[0]), text)
