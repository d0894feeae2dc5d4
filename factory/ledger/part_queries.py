"""SQL over chosen parts of a run, for checks: each row knows its shard, and memory is bounded.

The rule that must not break: nothing is written but what DuckDB spills, and that into a folder known as unfinished by its name.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb

from factory.files import spill_of
from factory.looking.sql import empty_columns, escaped, literal
from schemas.errors import SchemaError
from schemas.tables import SCHEMAS, Table

MEMORY = "1GB"
Rows = list[tuple[object, ...]]
Ask = Callable[[str], Rows]

_SHARD = r"part-(\d+)\.parquet$"


@contextmanager
def tables_over(root: Path, parts: Mapping[Table, Sequence[Path]]) -> Iterator[Ask]:
    """A view for each table, over these parts alone, with a column `shard`. Raises SchemaError where one is unreadable."""
    with duckdb.connect() as connection:
        connection.execute(f"SET memory_limit = '{MEMORY}'")
        connection.execute(f"SET temp_directory = {literal(str(spill_of(root)))}")
        connection.execute("SET preserve_insertion_order = false")

        def ask(sql: str) -> Rows:
            try:
                return connection.execute(sql).fetchall()
            except duckdb.Error as error:
                raise SchemaError(f"{root}: {' '.join(str(error).split())}") from error

        for table in Table:
            ask(f"CREATE VIEW {table} AS {_select(table, parts.get(table, ()))}")
        yield ask


def catalog_counts(catalog: Path, round_: int) -> dict[str, int]:
    """Rows of a round as the views of a catalog have them. Raises SchemaError where it is not one, or not of here."""
    try:
        with duckdb.connect(str(catalog), read_only=True) as connection:
            views = {str(name) for (name,) in connection.execute("SHOW TABLES").fetchall()}
            names = [table.value for table in Table if table.value in views]
            sql = "SELECT count(*) FROM {} WHERE round = ?"
            counts = [connection.execute(sql.format(name), [round_]).fetchone() for name in names]
    except duckdb.Error as error:
        raise SchemaError(f"{catalog}: {' '.join(str(error).split())}") from error
    return {name: int(count[0]) for name, count in zip(names, counts, strict=True) if count}


def _select(table: Table, paths: Sequence[Path]) -> str:
    if not paths:
        return f"SELECT {empty_columns(SCHEMAS[table])}, NULL::BIGINT AS shard WHERE false"
    named = ", ".join(literal(escaped(path)) for path in paths)
    shard = f"regexp_extract(filename, {literal(_SHARD)}, 1)::BIGINT"
    columns = ", ".join(SCHEMAS[table].names)
    return (
        f"SELECT {columns}, {shard} AS shard FROM read_parquet([{named}], filename = true, hive_partitioning = false)"
    )
