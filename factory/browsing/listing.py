"""Which pairs meet some filters, in what order, and which of them stand on a page.

The rule that must not break: a page begins behind a pair, not at a count, so that nothing is skipped or shown twice when marks
are made, or rows come in, while somebody reads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count as numbers_from

from factory.browsing.filters import NO_RULE, UNMARKED, Filters, where
from factory.browsing.index import Index, Ready
from factory.browsing.marked import Agreement, Marked, Marks, agreement, of_sample
from factory.browsing.search import Found, Searches
from factory.browsing.texts import Key
from factory.looking.harmless import visible

PAGE = 20
_DIMENSIONS = ("round", "cause", "loop_rule", "source", "chosen_slot", "rejected_slot")


@dataclass(frozen=True, slots=True)
class Place:
    """Behind one pair, or before one; of neither: the beginning."""

    after: int | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A pair as the index and the marks have it."""

    key: Key
    mark: Marked | None
    cause: str
    margin: float | None
    disagreement: float | None
    loop: str | None
    loop_rule: str | None
    source: str | None
    chosen_slot: str | None
    rejected_slot: str | None


@dataclass(frozen=True, slots=True)
class Scope:
    """What filters leave of the index, as SQL behind FROM, with its parameters."""

    sql: str
    parameters: tuple[object, ...]
    found: Found | None  # of a search


@dataclass(frozen=True, slots=True)
class Listing:
    """One page. `first`: the place of its first pair among `total`; `sample`: the numbers that were drawn, where any were."""

    entries: tuple[Entry, ...]
    total: int
    first: int
    found: Found | None
    ready: Ready
    all_marks: Agreement
    gone_marks: int
    sample_marks: Agreement | None

    @property
    def last(self) -> int:
        return self.first + len(self.entries) - 1


@dataclass(frozen=True, slots=True)
class Choices:
    """What can be filtered by: values that occur, each with its pairs. `sources`: what each shown name stands for."""

    of: Mapping[str, Mapping[str, int]]
    sources: Mapping[str, tuple[str, ...]]
    total: int


class Pairs:
    """Of one run."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self._marks = Marks(index)
        self._searches = Searches(index)
        self._choices: tuple[object, Choices] = (None, Choices({}, {}, 0))

    def close(self) -> None:
        self._searches.close()
        self.index.close()

    def choices(self) -> Choices:
        ready = self.index.ready
        if self._choices[0] != ready.files:
            self._choices = ready.files, self._counted(ready)
        return self._choices[1]

    def _counted(self, ready: Ready) -> Choices:
        sets = ", ".join(f"({name})" for name in _DIMENSIONS)
        columns = ", ".join(_DIMENSIONS)
        sql = f"SELECT {columns}, grouping({columns}), count(*) FROM {ready.table} GROUP BY GROUPING SETS ({sets}, ())"
        of: dict[str, dict[str, int]] = {name: {} for name in _DIMENSIONS}
        sources: dict[str, tuple[str, ...]] = {}
        total = 0
        for *values, mask, rows in self.index.ask(sql + " ORDER BY ALL"):
            if mask == 2 ** len(_DIMENSIONS) - 1:
                total = int(str(rows))
                continue
            at = next(place for place in numbers_from() if not int(str(mask)) >> (len(_DIMENSIONS) - 1 - place) & 1)
            name, value = _DIMENSIONS[at], values[at]
            shown = visible(NO_RULE if value is None else str(value))
            of[name][shown] = of[name].get(shown, 0) + int(str(rows))
            if name == "source" and value is not None:
                sources[shown] = (*sources.get(shown, ()), str(value))
        return Choices(of, sources, total)

    def listing(self, filters: Filters, place: Place) -> Listing:
        """Raises SchemaError."""
        ready = self.index.ready
        marks, gone = self._marks.standing(ready)
        scope = self._scope(filters, ready, marks)
        numbers = self._page(scope, filters, ready, place)
        total = self._count(scope, "true", ())
        earlier = self._count(scope, f"{_row(filters)} < {_row_of(filters, ready)}", (numbers[0],)) if numbers else 0
        sampled = self._sampled(filters, ready)
        return Listing(
            entries=self.entries(numbers, ready, marks),
            total=total,
            first=earlier + 1,
            found=scope.found,
            ready=ready,
            all_marks=agreement(marks.values()),
            gone_marks=gone,
            sample_marks=None if sampled is None else of_sample(marks, sampled),
        )

    def _page(self, scope: Scope, filters: Filters, ready: Ready, place: Place) -> list[int]:
        start = place.after if place.before is None else place.before
        condition, way, parameters = "true", "ASC", scope.parameters
        if start is not None and self.index.ask(f"SELECT 1 FROM {ready.table} WHERE number = ?", (start,)):
            sign, way = (">", "ASC") if place.before is None else ("<", "DESC")
            condition = f"{_row(filters)} {sign} {_row_of(filters, ready)}"
            parameters = (*scope.parameters, start)
        keys = ", ".join(f"{key} {way}" for key in filters.keys)
        sql = f"SELECT number FROM {scope.sql} AND {condition} ORDER BY {keys} LIMIT {PAGE}"
        found = [int(str(number)) for (number,) in self.index.ask(sql, parameters)]
        return found if way == "ASC" else found[::-1]

    def _count(self, scope: Scope, condition: str, parameters: tuple[object, ...]) -> int:
        sql = f"SELECT count(*) FROM {scope.sql} AND {condition}"
        ((found,),) = self.index.ask(sql, (*scope.parameters, *parameters))
        return int(str(found))

    def _scope(self, filters: Filters, ready: Ready, marks: Mapping[int, Marked]) -> Scope:
        """A sample is drawn from what the filters leave, and only then the marks are asked for."""
        scope = self._narrowed(filters, ready)
        condition, parameters = scope.sql, scope.parameters
        if filters.sample is not None:
            condition = f"{ready.table} WHERE number IN ({_drawn(filters, scope)})"
        if filters.mark is not None:
            wanted = [number for number, one in marks.items() if filters.mark in (UNMARKED, one.mark)]
            word = "NOT IN" if filters.mark == UNMARKED else "IN"
            condition, parameters = f"{condition} AND number {word} (SELECT unnest(?::BIGINT[]))", (*parameters, wanted)
        return Scope(condition, parameters, scope.found)

    def _narrowed(self, filters: Filters, ready: Ready) -> Scope:
        condition, parameters = where(filters, self.choices().sources)
        found = None if filters.text is None else self._searches.find(filters.text, ready)
        more = "" if found is None else f" AND {found.condition}"
        return Scope(f"{ready.table} WHERE {condition}{more}", tuple(parameters), found)

    def _sampled(self, filters: Filters, ready: Ready) -> set[int] | None:
        if filters.sample is None:
            return None
        scope = self._narrowed(filters, ready)
        return {int(str(number)) for (number,) in self.index.ask(_drawn(filters, scope), scope.parameters)}

    def entries(self, numbers: list[int], ready: Ready, marks: Mapping[int, Marked]) -> tuple[Entry, ...]:
        """In the order of the numbers."""
        sql = (
            "SELECT number, round, shard, prompt_id, chosen_id, rejected_id, cause, margin, disagreement, loop, loop_rule, "
            f"source, chosen_slot, rejected_slot FROM {ready.table} WHERE number IN (SELECT unnest(?::BIGINT[]))"
        )
        rows = self.index.ask(sql, (numbers,)) if numbers else []
        found = {entry.key.number: entry for entry in (_entry(row, marks) for row in rows)}
        return tuple(found[number] for number in numbers if number in found)

    def one(self, round_: int, prompt_id: str) -> Entry | None:
        ready = self.index.ready
        sql = f"SELECT number FROM {ready.table} WHERE prompt_id = ? AND round = ? LIMIT 1"
        numbers = [int(str(number)) for (number,) in self.index.ask(sql, (prompt_id, round_))]
        return next(iter(self.entries(numbers, ready, self._marks.standing(ready)[0])), None)

    def neighbours(self, filters: Filters, number: int) -> tuple[Key | None, Key | None]:
        """The pair before, and the one behind, among those that meet the filters."""
        ready = self.index.ready
        marks, _ = self._marks.standing(ready)
        scope = self._scope(filters, ready, marks)
        found: list[Key | None] = []
        for sign, way in (("<", "DESC"), (">", "ASC")):
            keys = ", ".join(f"{key} {way}" for key in filters.keys)
            condition = f"{_row(filters)} {sign} {_row_of(filters, ready)}"
            sql = f"SELECT number FROM {scope.sql} AND {condition} ORDER BY {keys} LIMIT 1"
            numbers = [int(str(one)) for (one,) in self.index.ask(sql, (*scope.parameters, number))]
            found.append(next((entry.key for entry in self.entries(numbers, ready, marks)), None))
        return found[0], found[1]


def _entry(row: Sequence[object], marks: Mapping[int, Marked]) -> Entry:
    key = Key(*row[:6])  # type: ignore[arg-type]  # as selected
    return Entry(key, marks.get(key.number), *row[6:])  # type: ignore[arg-type]  # as selected


def _drawn(filters: Filters, scope: Scope) -> str:
    """The numbers of a sample of what the scope leaves."""
    return f"SELECT number FROM {scope.sql} ORDER BY {', '.join(filters.keys)} LIMIT {filters.sample}"


def _row(filters: Filters) -> str:
    return f"row({', '.join(filters.keys)})"


def _row_of(filters: Filters, ready: Ready) -> str:
    """Of the pair whose number is the next parameter."""
    return f"(SELECT {_row(filters)} FROM {ready.table} WHERE number = ?)"
