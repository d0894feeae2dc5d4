"""The plots of a dataset's card, as images that lie beside it and go where it goes.

The rule that must not break: each says in words what it shows, and nothing in it says where or on whose machine it was made.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from factory.looking import queries
from factory.looking.figures import Figures, figures
from factory.looking.plots import IMAGE, Plot
from factory.looking.report_figures import CUBE, Bin, Cut, Lengths, Rate, lengths_of, margins_of, rates
from factory.looking.report_sections import drawn_lengths, drawn_loops, drawn_margins, drawn_outcomes
from factory.run import RunFolder

FOLDER = "images"
_BEFORE_MARKDOWN = re.compile(r"[\\`*_\[\]<>&!]")


@dataclass(frozen=True, slots=True)
class Image:
    """`path`: from the card."""

    path: str
    title: str
    says: str
    png: bytes

    @property
    def markdown(self) -> str:
        said = " ".join(self.says.split())
        return f"**{self.title}**\n\n![{_BEFORE_MARKDOWN.sub(lambda sign: f'&#{ord(sign[0])};', said)}]({self.path})\n"


@dataclass(frozen=True, slots=True)
class Shape:
    """What a dataset's card draws of one round."""

    figures: Figures
    loops: Mapping[Cut, tuple[Rate, ...]]
    margins: tuple[Bin, ...]
    lengths: Lengths


def shape_of(run: RunFolder) -> Shape:
    """Raises Fixable where its tables cannot be read."""
    counted = figures(run.root, run.round)
    with queries.session(run.root, run.round) as ask:
        return Shape(counted, rates(ask(CUBE).rows), margins_of(ask), lengths_of(ask))


def card_images(shape: Shape) -> tuple[Image, ...]:
    return tuple(
        Image(f"{FOLDER}/{plot.title.lower().replace(' ', '-')}.png", plot.title, plot.says, plot.png())
        for plot in _drawn(shape)
        if plot is not None
    )


def _drawn(shape: Shape) -> Iterator[Plot | None]:
    yield drawn_outcomes({"": shape.figures}, IMAGE)
    for cut in (Cut.SLOT, Cut.SOURCE):
        if len(found := shape.loops[cut]) > 1:
            yield drawn_loops(cut, {"": found}, IMAGE)
    yield drawn_margins({"": shape.margins}, IMAGE)
    yield drawn_lengths(shape.lengths, None, IMAGE)
