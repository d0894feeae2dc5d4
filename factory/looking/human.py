"""The marks that people put on pairs, as SQL.

The rule that must not break: it reads the file as `factory.ledger.marks` does. A line that is none counts for nothing, and of
several marks on a pair the last one that was written is the one that stands.
"""

from factory.looking.sql import empty_columns, literal
from factory.run import RunFolder
from schemas.marks import Mark
from schemas.tables import HUMAN

_STRUCTURE = (
    "{" + ", ".join(f'"{column.name}": "{"BIGINT" if column.name == "round" else "VARCHAR"}"' for column in HUMAN) + "}"
)
_LINES = "SELECT unnest(list_zip(lines, range(len(lines)))) AS one FROM (SELECT string_split(content, chr(10)) AS lines FROM "
_WORDS = ", ".join(literal(mark) for mark in Mark)
_WHOLE = " AND ".join([f"mark IN ({_WORDS})", *(f"{column.name} IS NOT NULL" for column in HUMAN)])


def human_select(run: RunFolder, round_: int | None = None) -> str:
    """A row for each pair that bears a mark, of one round or of all."""
    if not run.human_path.exists():
        return f"SELECT {empty_columns(HUMAN)} WHERE false"
    lines = f"{_LINES} read_text({literal(str(run.human_path.resolve()))}))"
    marks = f"SELECT one[2] AS place, from_json(one[1], '{_STRUCTURE}') AS read FROM ({lines}) WHERE json_valid(one[1])"
    last = (
        f"SELECT * FROM (SELECT place, read.* FROM ({marks})) WHERE {_WHOLE} QUALIFY row_number() OVER "
        "(PARTITION BY round, prompt_id, least(chosen_id, rejected_id), greatest(chosen_id, rejected_id) "
        "ORDER BY place DESC) = 1"
    )
    own = "" if round_ is None else f" AND round = {round_}"
    return f"SELECT {', '.join(HUMAN.names)} FROM ({last}) WHERE mark <> {literal(Mark.WITHDRAWN)}{own}"
