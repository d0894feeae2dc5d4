"""The plots of a dataset's card, as images that lie beside it and go where it goes.

The rule that must not break: each says in words what it shows, and nothing in it says where or on whose machine it was made.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from factory.looking.plots import IMAGE, Plot
from factory.looking.report_figures import Cut, Shape
from factory.looking.report_sections import drawn_lengths, drawn_loops, drawn_margins, drawn_outcomes

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


def card_images(shape: Shape) -> tuple[Image, ...]:
    return tuple(
        Image(f"{FOLDER}/{plot.title.lower().replace(' ', '-')}.png", plot.title, plot.says, plot.png())
        for plot in _drawn(shape)
        if plot is not None
    )


def _drawn(shape: Shape) -> Iterator[Plot | None]:
    yield drawn_outcomes({"": shape.figures}, IMAGE)
    for cut in (Cut.SLOT, Cut.SOURCE):
        if len(rates := shape.loops[cut]) > 1:
            yield drawn_loops(cut, {"": rates}, IMAGE)
    yield drawn_margins({"": shape.margins}, IMAGE)
    yield drawn_lengths(shape.lengths, None, IMAGE)
