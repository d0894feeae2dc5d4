"""Counts the loops of anybody's answers: rates with intervals by group, the split by rule, the clearest examples.

The rule that must not break: every row is counted exactly once, and a rate is over the answers that have a text. Memory
grows with the number of groups, which is bounded, never with that of the answers.
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import pyarrow as pa

from factory.survey.answer_columns import FINISH_REASONS, Answers, Columns, Wanted, find_columns, read_answers
from factory.survey.answer_files import AnswerFile, Rows, column_types, read_rows
from factory.survey.answer_output import writing_rows
from factory.survey.detecting import PUBLISHED, survey_batches
from factory.survey.loop_examples import Clearest, Example, Looped
from factory.wilson import wilson
from schemas.errors import SourceError
from schemas.rows import Loop
from schemas.tables import LOOPS

USUAL_GROUPS: Final = 20  # of a column that nobody asked for, else it is left out
ASKED_GROUPS: Final = 200  # of the columns that somebody asked for, else it is an error
REASONS: Final = 100  # a column with more values than this holds no finish reasons

By = tuple[tuple[str, object], ...]


@dataclass(frozen=True, slots=True)
class GroupFigures:
    """Counts of the answers for which the columns in `by` have these values; none of them: all answers.

    `rules`: (rule, kind) -> answers. `published`: answers in which `repeats_ngram` holds.
    """

    by: By
    answers: int
    hard: int
    soft: int
    published: int
    rules: tuple[tuple[str, str, int], ...]

    @property
    def rate(self) -> float | None:
        """Hard loops over answers; None where there are none."""
        return self.hard / self.answers if self.answers else None

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95% interval of the hard-loop rate."""
        return wilson(self.hard, self.answers)


@dataclass(frozen=True, slots=True)
class Survey:
    """What a source of answers came to.

    `without_text`: rows that hold no answer. `unsaid`: answers of which the file does not say how they ended.
    `unknown_reasons`: finish reasons that nobody here knows, read as ended by themselves. `left_out`: the usual columns
    that have too many values to group by. `tokens`: the published rule counted tokens, not words.
    """

    columns: Columns | None
    rows: int
    without_text: int
    unsaid: int
    tokens: bool
    unknown_reasons: tuple[tuple[str, int], ...]
    left_out: tuple[str, ...]
    whole: GroupFigures
    groups: tuple[GroupFigures, ...]
    examples: tuple[Example, ...]


@dataclass(slots=True)
class _Tally:
    answers: int = 0
    published: int = 0
    rules: Counter[tuple[str, str]] = field(default_factory=Counter)

    def take(self, loop: object, rule: object, published: object) -> None:
        self.answers += 1
        self.published += published is True
        if rule is not None:
            self.rules[str(rule), str(loop)] += 1

    def figures(self, by: By) -> GroupFigures:
        kinds = Counter[str]()
        for (_, kind), count in self.rules.items():
            kinds[kind] += count
        rules = tuple((rule, kind, count) for (rule, kind), count in self.rules.most_common())
        return GroupFigures(by, self.answers, kinds[Loop.HARD], kinds[Loop.SOFT], self.published, rules)


@dataclass(slots=True)
class _Count:
    """The survey while it goes. `groupings`: which columns make groups together."""

    groupings: dict[tuple[str, ...], dict[tuple[object, ...], _Tally]]
    asked: bool
    rows: int = 0
    without_text: int = 0
    unsaid: int = 0
    whole: _Tally = field(default_factory=_Tally)
    reasons: Counter[str] = field(default_factory=Counter)
    left_out: list[str] = field(default_factory=list)
    clearest: Clearest = field(default_factory=Clearest)

    def take(self, rows: Rows, answers: Answers, found: pa.RecordBatch) -> None:
        self.rows += len(rows)
        self.unsaid += answers.unsaid
        columns = {name: found.column(name).to_pylist() for name in ("loop", "loop_rule", PUBLISHED)}
        for index, (loop, rule, published) in enumerate(zip(*columns.values(), strict=True)):
            if loop is None:
                self.without_text += 1
                continue
            self.whole.take(loop, rule, published)
            for names, tallies in self.groupings.items():
                values = tuple(answers.groups[name][index] for name in names)
                tallies.setdefault(values, _Tally()).take(loop, rule, published)
            if loop != Loop.CLEAN:
                by = tuple((name, values[index]) for name, values in answers.groups.items())
                self._show(rows.place(index), by, answers.batch.column("text")[index].as_py(), found, index)
        self._bound()
        self._take_reasons(rows, answers)

    def _show(self, place: str, by: By, text: str, found: pa.RecordBatch, index: int) -> None:
        loop = {name.removeprefix("loop_"): found.column(name)[index].as_py() for name in LOOPS.names}
        if loop["onset"] is None or loop["period"] is None:
            return
        numbers = (loop[name] for name in ("rule", "onset", "onset_token", "period", "repeats", "share"))
        self.clearest.take(Looped(text, loop["loop"], *numbers), place, by)

    def _bound(self) -> None:
        for names, tallies in list(self.groupings.items()):
            if self.asked and len(tallies) > ASKED_GROUPS:
                raise SourceError(
                    f"--by {' --by '.join(names)}: more than {ASKED_GROUPS} groups; name columns with fewer values"
                )
            if not self.asked and len(tallies) > USUAL_GROUPS:
                del self.groupings[names]
                self.left_out.extend(names)

    def _take_reasons(self, rows: Rows, answers: Answers) -> None:
        reasons = answers.batch.column("finish_reason").to_pylist()
        self.reasons.update(reason for reason in reasons if reason not in FINISH_REASONS)
        if len(self.reasons) > REASONS:
            shown = ", ".join(repr(reason[:20]) for reason, _ in self.reasons.most_common(3))
            raise SourceError(
                f"{rows.place(0)}: the finish column holds more than {REASONS} values such as {shown}; name the "
                "column that says why an answer ended with --finish-column, or '' where there is none"
            )


def survey(files: Sequence[AnswerFile], wanted: Wanted, processes: int, out: Path | None = None) -> Survey:
    """Counts, and writes the rows with the loop columns to `out`. Raises SourceError, StorageError, Transient."""
    first = _columns_of_first(files, wanted)
    names = first.groups if first else ()
    groupings = [names] if wanted.by else [(name,) for name in names]
    count = _Count({grouping: {} for grouping in groupings}, asked=bool(wanted.by))
    waiting: deque[tuple[Rows, Answers]] = deque()

    def batches() -> Iterator[pa.RecordBatch]:
        for taken in _read(files, wanted, first, whole=out is not None):
            waiting.append(taken)
            yield taken[1].batch

    with writing_rows(out, files) if out else nullcontext(_nowhere) as write:
        for found in survey_batches(batches(), processes):
            rows, answers = waiting.popleft()
            write(rows, found)
            count.take(rows, answers, found)
    return _survey(count, first)


def _nowhere(rows: Rows, found: pa.RecordBatch) -> None:
    """Where nothing is to be written."""


def _columns_of_first(files: Sequence[AnswerFile], wanted: Wanted) -> Columns | None:
    """Of the first file that has any rows; None where all are empty."""
    for file in files:
        if present := column_types(file):
            return find_columns(file.shown, present, wanted)
    return None


def _read(
    files: Sequence[AnswerFile], wanted: Wanted, first: Columns | None, *, whole: bool
) -> Iterator[tuple[Rows, Answers]]:
    """The rows of all files, whose columns mean the same in each. `whole`: with all their columns."""
    for file in files:
        present = column_types(file)
        if not present or first is None:
            continue
        columns = find_columns(file.shown, present, wanted)
        if (columns.text, columns.finish_reason) != (first.text, first.finish_reason):
            raise SourceError(
                f"{file.shown}: its columns are {', '.join(present)}, not those of {files[0].shown}; "
                "name the ones that both have with --column and --finish-column, or give one file at a time"
            )
        columns = replace(columns, groups=first.groups)
        for rows in read_rows(file, None if whole else [name for name in columns.names if name in present]):
            yield rows, read_answers(rows, columns)


def _survey(count: _Count, columns: Columns | None) -> Survey:
    groups = [
        tallies[values].figures(tuple(zip(names, values, strict=True)))
        for names, tallies in count.groupings.items()
        for values in sorted(tallies, key=_order)
        if count.asked or len(tallies) > 1
    ]
    return Survey(
        columns=columns,
        rows=count.rows,
        without_text=count.without_text,
        unsaid=count.unsaid,
        tokens=bool(columns and columns.token_ids),
        unknown_reasons=tuple(count.reasons.most_common()),
        left_out=tuple(count.left_out),
        whole=count.whole.figures(()),
        groups=tuple(groups),
        examples=tuple(count.clearest.examples()),
    )


def _order(values: tuple[object, ...]) -> tuple[tuple[bool, bool, float, str], ...]:
    """Numbers by size, then text, then NULL."""
    return tuple(
        (value is None, isinstance(value, str), value if isinstance(value, int | float) else 0.0, str(value))
        for value in values
    )
