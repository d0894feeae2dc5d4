"""The marks on the pairs that lie there, and how often they agree with the jury.

The rule that must not break: a rate is given with what it was counted over. Only pairs that the jury decided count: that a loop
is rejected, or an answer that failed a check, is no opinion of it.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from factory.browsing.index import Index, Ready
from factory.looking.human import human_select
from factory.run import RunFolder
from factory.wilson import wilson
from schemas.marks import Mark
from schemas.rows import Cause


@dataclass(frozen=True, slots=True)
class Marked:
    """A mark as it stands on a pair. `turned`: the pair's sides were exchanged since, as the mark said."""

    number: int
    cause: Cause
    said: Mark
    turned: bool
    why: str
    by: str
    at: str

    @property
    def mark(self) -> Mark:
        """What it says of the pair as it lies there now."""
        other = {Mark.RIGHT: Mark.FLIPPED, Mark.FLIPPED: Mark.RIGHT}
        return other.get(self.said, self.said) if self.turned else self.said

    @property
    def agrees(self) -> bool | None:
        """With what the jury chose; None: it says of neither answer that it is the better one.

        A pair of the cause `human` lies the other way round than the jury had it.
        """
        if self.mark not in (Mark.RIGHT, Mark.FLIPPED):
            return None
        return (self.mark is Mark.RIGHT) is not (self.cause is Cause.HUMAN)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of marks. `agree` of the `compared` ones name the jury's own choice; `neither`: both bad; `other`: on pairs that are
    not the jury's.
    """

    agree: int
    compared: int
    neither: int
    other: int

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.agree, self.compared)


def agreement(marks: Iterable[Marked]) -> Agreement:
    own: list[Marked] = []
    other = 0
    for mark in marks:
        if mark.cause in (Cause.JURY, Cause.HUMAN):
            own.append(mark)
        else:
            other += 1
    said = [mark.agrees for mark in own if mark.agrees is not None]
    return Agreement(sum(said), len(said), len(own) - len(said), other)


def of_sample(marks: Mapping[int, Marked], sample: Collection[int]) -> Agreement:
    return agreement(mark for number, mark in marks.items() if number in sample)


_JOINED = """
SELECT number, cause, h.mark, h.chosen_id <> i.chosen_id, h.why, h.marked_by, h.marked_at
FROM ({human}) h JOIN {index} i ON i.prompt_id = h.prompt_id AND i.round = h.round
AND (i.chosen_id = h.chosen_id AND i.rejected_id = h.rejected_id OR i.chosen_id = h.rejected_id AND i.rejected_id = h.chosen_id)
"""


class Marks:
    """Of one run; read again when somebody has added to them."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._run = RunFolder(index.root)
        self._made_from: object = None
        self._known: tuple[dict[int, Marked], int] = ({}, 0)

    def standing(self, ready: Ready) -> tuple[Mapping[int, Marked], int]:
        """By the number of the pair, and how many stand on pairs that lie there no more. Raises SchemaError."""
        made_from = ready.files, self._stamp()
        if made_from != self._made_from:
            human = human_select(self._run)
            rows = self._index.ask(_JOINED.format(human=human, index=ready.table))
            ((every,),) = self._index.ask(f"SELECT count(*) FROM ({human})")
            found = [_marked(row) for row in rows]
            self._known = {mark.number: mark for mark in found}, int(str(every)) - len(found)
            self._made_from = made_from
        return self._known

    def _stamp(self) -> tuple[int, int]:
        try:
            found = self._run.human_path.stat()
        except OSError:
            return 0, 0
        return found.st_size, found.st_mtime_ns


def _marked(row: tuple[object, ...]) -> Marked:
    number, cause, said, turned, why, by, at = row
    return Marked(int(str(number)), Cause(str(cause)), Mark(str(said)), bool(turned), str(why), str(by), str(at))
