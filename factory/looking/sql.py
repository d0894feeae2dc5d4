"""How paths, words and the types of tables are written in SQL."""

import re
from pathlib import Path

import pyarrow as pa


def empty_columns(schema: pa.Schema) -> str:
    """The columns of a table without a row, for SQL."""
    return ", ".join(f"NULL::{_sql_type(column.type)} AS {column.name}" for column in schema)


def escaped(path: Path) -> str:
    """A path inside a glob pattern, where its own brackets and stars must mean themselves."""
    return re.sub(r"([\[*?])", r"[\1]", str(path))


def _sql_type(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"{_sql_type(kind.value_type)}[]"
    if pa.types.is_struct(kind):
        return "STRUCT(" + ", ".join(f"{field.name} {_sql_type(field.type)}" for field in kind) + ")"
    if pa.types.is_map(kind):
        return f"MAP({_sql_type(kind.key_type)}, {_sql_type(kind.item_type)})"
    return {"string": "VARCHAR", "double": "DOUBLE", "bool": "BOOLEAN", "int8": "TINYINT"}.get(
        str(kind), str(kind).upper()
    )


def literal(text: str) -> str:
    """A string in SQL."""
    return "'" + text.replace("'", "''") + "'"
