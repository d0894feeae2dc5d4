"""The views of a run's tables as a file holds them that other programs open: `catalog.duckdb`.

DuckDB knows no path that starts from the database's own folder. So each path here begins with the variable `run`, or where
nobody has set that, with the folder in which the run lay when the file was written. The rule that must not break: rows that
came since are seen, and a run that lies elsewhere by now is an error and never an empty table.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from factory.looking.sql import empty_columns, escaped, literal

VARIABLE = "run"
_MADE = re.compile(r"CREATE OR REPLACE VIEW (\w+) AS ")


def lasting(root: Path, statements: Sequence[str], tables: Mapping[str, pa.Schema]) -> list[str]:
    """The statements that make the views for now, as the file is to hold them. `tables`: those that lie in parts."""
    made = {match[1]: statement for statement in statements if (match := _MADE.match(statement))}
    made |= {name: f"CREATE OR REPLACE VIEW {name} AS {_parts(root, name, schema)}" for name, schema in tables.items()}
    return [_movable(root, statement) for statement in made.values()]


def written_for(sql: str, root: Path) -> bool:
    """Whether a view of the file, as DuckDB has it, was made for a run in this folder."""
    return f"getvariable('{VARIABLE}'), {literal(escaped(root.resolve()))})" in sql


def _parts(root: Path, table: str, schema: pa.Schema) -> str:
    """A table without a part has its columns already, and its first part is seen when it is there."""
    pattern = literal(f"{escaped(root.resolve())}/round=*/{table}/part-*.parquet")
    manifest = (root / "manifest.json").resolve()
    # It is not read, but it is missed.
    there = f"FROM read_json({literal(str(manifest))}, columns = {{name: 'VARCHAR'}})" if manifest.exists() else ""
    return (
        f"SELECT {', '.join(schema.names)}, round "
        f"FROM (SELECT {empty_columns(schema)}, NULL::BIGINT AS round {there} WHERE false "
        f"UNION ALL BY NAME FROM read_parquet({pattern}, hive_partitioning = true, allow_empty = true))"
    )


def _movable(root: Path, statement: str) -> str:
    for path in {str(root.resolve()), escaped(root.resolve())}:
        begins = literal(path).removesuffix("'")
        statement = statement.replace(f"{begins}/", f"{_place(Path(path))} || '/")
    return statement


def _place(root: Path) -> str:
    return f"coalesce(getvariable('{VARIABLE}'), {literal(str(root))})"
