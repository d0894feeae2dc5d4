"""The columns that everybody who reads a run folder may rely on.

`python -m tests.schemas.test_tables` prints the golden file, for a change that is meant.
"""

from dataclasses import fields
from pathlib import Path

import pyarrow as pa
import pytest

from factory.store import ROW_TYPES
from schemas.tables import SCHEMAS, Table

GOLDEN = Path(__file__).with_name("tables.golden.txt")


def pinned() -> str:
    """Names, order, types and nullability of every column, and of what columns hold."""
    return "\n".join(line for table, schema in SCHEMAS.items() for line in (table.value, *_columns(schema), ""))


def _columns(schema: pa.Schema) -> list[str]:
    return [f"  {column.name}: {_kind(column)}" for column in schema]


def _kind(column: pa.Field) -> str:
    kind = column.type
    if pa.types.is_list(kind):
        shown = f"list<{_kind(kind.value_field)}>"
    elif pa.types.is_struct(kind):
        shown = "{" + ", ".join(f"{inner.name}: {_kind(inner)}" for inner in kind) + "}"
    else:
        shown = str(kind)
    return shown + ("?" if column.nullable else "")


def test_tables_are_what_the_golden_file_says() -> None:
    assert pinned() == GOLDEN.read_text()


def test_tables_have_a_schema_and_a_row_each() -> None:
    assert set(SCHEMAS) == set(ROW_TYPES) == set(Table)


@pytest.mark.parametrize("table", Table)
def test_table_columns_are_the_fields_of_its_row(table: Table) -> None:
    assert SCHEMAS[table].names == [field.name for field in fields(ROW_TYPES[table])]


@pytest.mark.parametrize("table", Table)
def test_table_null_is_allowed_where_the_row_allows_none(table: Table) -> None:
    may_be_none = [field.name for field in fields(ROW_TYPES[table]) if "None" in str(field.type)]

    assert [column.name for column in SCHEMAS[table] if column.nullable] == may_be_none


@pytest.mark.parametrize("table", Table)
def test_table_every_column_is_explained(table: Table) -> None:
    assert [column.name for column in SCHEMAS[table] if not (column.metadata or {}).get(b"comment")] == []


if __name__ == "__main__":
    print(pinned(), end="")  # noqa: T201  # to be written to the golden file
