"""What each address of the page shows, and what a mark does; HTTP is for `factory.browsing.application`.

The rule that must not break: what comes from an address is read by `read_filters` and `_number` before anything is made of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from factory.browsing import pages
from factory.browsing.filters import UNMARKED, read_filters
from factory.browsing.listing import Entry, Pairs, Place
from factory.browsing.marking import Pen, Said
from factory.browsing.pages import Card, address
from factory.browsing.texts import answers, words
from schemas.errors import Fixable
from schemas.marks import Mark

_PLACE = ("after", "before")


class NoPair(Fixable):
    """The address names a pair that does not lie there."""


@dataclass(frozen=True, slots=True)
class Desk:
    """Where a person reads one run: `base` is the first part of every path, `name` the run's."""

    pairs: Pairs
    pen: Pen
    base: str
    name: str

    @property
    def root(self) -> Path:
        return self.pairs.index.root

    def list_page(self, asked: Mapping[str, str]) -> str:
        place = Place(*(_number(asked.get(name)) for name in _PLACE))
        filters = read_filters({name: value for name, value in asked.items() if name not in _PLACE})
        self.pairs.index.look()
        found = self.pairs.listing(filters, place)
        texts = words(self.root, [entry.key for entry in found.entries])
        behind = [entry.key.number for entry in found.entries[1:]]
        cards = [
            Card(entry, texts.get(entry.key.number), after)
            for entry, after in zip(found.entries, [*behind, None], strict=False)
        ]
        return pages.list_page(
            self.base, self.name, filters, place, self.pairs.choices(), found, cards, self.pairs.index.trouble
        )

    def pair_page(self, round_: int, prompt_id: str, asked: Mapping[str, str]) -> str:
        filters = read_filters({name: value for name, value in asked.items() if name not in _PLACE})
        entry = self._entry(round_, prompt_id)
        texts = words(self.root, [entry.key])
        every, confirmed = answers(self.root, entry.key)
        around = self.pairs.neighbours(filters, entry.key.number)
        card = Card(entry, texts.get(entry.key.number), None)
        return pages.pair_page(self.base, self.name, filters, card, every, confirmed, around)

    def _entry(self, round_: int, prompt_id: str) -> Entry:
        self.pairs.index.look()
        entry = self.pairs.one(round_, prompt_id)
        if entry is None:
            raise NoPair(f"{prompt_id}: no pair of that prompt in round {round_}, or the run was not read so far yet")
        return entry

    def mark(self, said: Said) -> str:
        """Where the browser goes next: to the same card, or to the next one where the filters leave this one out now."""
        entry = self._entry(said.round, said.prompt_id)
        self.pen.write(said, entry)
        asked = dict(parse_qsl(said.back))
        place = {name: asked.pop(name) for name in _PLACE if _number(asked.get(name)) is not None}
        filters = read_filters(asked)
        if said.here == "pair":
            return f"{self.base}/{address(entry.key)}?{filters.query()}"
        stays = filters.mark is None or filters.mark == (UNMARKED if said.mark is Mark.WITHDRAWN else said.mark)
        card = str(entry.key.number) if stays else said.after
        return f"{self.base}/?{filters.query(**place)}" + (f"#p{card}" if card else "")


def _number(text: str | None) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise Fixable(f"after, before: {text!r}: is no number; take it out of the address")
    return int(text)
