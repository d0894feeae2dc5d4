"""IFBench, `custom:csv_*`: tables with given columns and a given number of rows.

A table is the whole answer; only a code fence may enclose it. Each row is one line.
"""

import re
from collections.abc import Mapping, Sequence

from judges.instructions.reading import Check, lines

Row = Sequence[str]
"""The cells as they stand, quotes included, stripped."""

CITY = ("ID", "Country", "City", "Year", "Count")
PRODUCT = ("ProductID", "Category", "Brand", "Price", "Stock")
STUDENT = ("StudentID", "Subject", "Grade", "Semester", "Score")

_FENCE = "```"
_CELL = re.compile(r'[^"]+|"(?:[^"]|"")*"')
_SPECIAL = re.compile(r"[^\w\s]")


def csv_city(text: str) -> bool:
    """Seven rows under the five columns of cities, parted by commas."""
    return bool(_data(text, ",", CITY, 7))


def csv_special_character(text: str) -> bool:
    """Fourteen rows under the five columns of products; a field in double quotes has a special character."""
    rows = _data(text, ",", PRODUCT, 14)
    return any(_is_quoted(cell) and _SPECIAL.search(_value(cell)) for row in rows for cell in row)


def csv_quotes(text: str) -> bool:
    """Three rows under the five columns of students, parted by tabs; each field is in double quotes."""
    rows = _data(text, "\t", STUDENT, 3)
    return bool(rows) and all(_is_quoted(cell) for row in _rows(text, "\t") for cell in row)


def _data(text: str, delimiter: str, columns: Row, count: int) -> Sequence[Row]:
    """The rows below the header; none where the header, their number, or a row's cells are not as asked."""
    header, *rows = _rows(text, delimiter) or [()]
    if tuple(map(_value, header)) != tuple(columns) or len(rows) != count:
        return []
    whole = all(len(row) == len(columns) and all(_CELL.fullmatch(cell) for cell in row) for row in rows)
    return rows if whole else []


def _rows(text: str, delimiter: str) -> list[Row]:
    found = lines(text)
    if len(found) > 1 and found[0].startswith(_FENCE) and found[-1].strip() == _FENCE:
        found = found[1:-1]
    return [_cells(line, delimiter) for line in found]


def _cells(line: str, delimiter: str) -> Row:
    cells, start, quoted = [], 0, False
    for place, mark in enumerate(line):
        if mark == '"':
            quoted = not quoted
        elif mark == delimiter and not quoted:
            cells.append(line[start:place].strip())
            start = place + 1
    return [*cells, line[start:].strip()]


def _is_quoted(cell: str) -> bool:
    return cell.startswith('"')


def _value(cell: str) -> str:
    return cell[1:-1].replace('""', '"') if _is_quoted(cell) else cell


KINDS: Mapping[str, Check] = {
    "custom:csv_city": csv_city,
    "custom:csv_special_character": csv_special_character,
    "custom:csv_quotes": csv_quotes,
}
