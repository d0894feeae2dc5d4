"""The verb `mark`: a person says of a pair that it is right, flipped, or both bad.

The rule that must not break: no lock of the run is taken, so that a pair can be marked while the run is at work.
"""

import getpass
from typing import Annotated

import typer

from factory.ledger.marks import write_mark
from factory.looking import queries
from factory.run import RunFolder
from factory.work import now
from flows.places import RunPath
from schemas.errors import Fixable
from schemas.marks import HumanMark, Mark
from schemas.rows import DropReason, Loop

# A pair that lies there, or one that a mark keeps from doing so: it can be marked otherwise.
_PAIR = f"""
WITH unpaired AS (
    SELECT round, prompt_id, chosen_id, rejected_id FROM human
    SEMI JOIN (FROM dropped WHERE reason IN ('{DropReason.MARKED_FLIPPED}', '{DropReason.MARKED_BOTH_BAD}'))
    USING (round, prompt_id)
    QUALIFY row_number() OVER (PARTITION BY round, prompt_id ORDER BY marked_at DESC) = 1
)
SELECT prompt_id, chosen_id, rejected_id, loop
FROM (SELECT round, prompt_id, chosen_id, rejected_id FROM pairs UNION ALL FROM unpaired)
JOIN (SELECT round, rollout_id AS rejected_id, loop FROM rollouts) USING (round, rejected_id)
WHERE starts_with(prompt_id, ?) LIMIT 2
"""


def mark(
    run: RunPath,
    prompt_id: Annotated[str, typer.Argument(metavar="PROMPT_ID", help="of the pair, or how it begins")],
    said: Annotated[Mark, typer.Argument(metavar="MARK", help="right, flipped, both_bad, or withdrawn")],
    why: Annotated[str, typer.Option(metavar="TEXT", help="a note for whoever reads it later")] = "",
    by: Annotated[str | None, typer.Option(metavar="NAME", help="who says so; else the user's name")] = None,
    round_: Annotated[int, typer.Option("--round", metavar="N", min=0, help="of several")] = 0,
) -> None:
    """Say of a pair that it is right, flipped (the rejected answer is the better one), or both bad.

    `pairing.marks` or `export.marks` in a recipe makes use of it; `SELECT * FROM human` shows it.
    """
    folder = RunFolder(run, round_)
    folder.known()
    chosen_id, rejected_id, whole_id, loop = _pair(folder, prompt_id)
    first = not folder.human_path.exists()
    name = by or getpass.getuser()
    write_mark(folder, HumanMark(whole_id, round_, chosen_id, rejected_id, said, why, name, now()), loop)
    if first:  # the catalog's view was made where there was no file to look into
        queries.write_catalog(folder.catalog_path, folder.root)
    typer.echo(f"{whole_id}: {said}")


def _pair(folder: RunFolder, prompt_id: str) -> tuple[str, str, str, Loop | None]:
    """Raises Fixable where no pair, or more than one, is meant."""
    found = queries.ask(folder.root, _PAIR, (prompt_id,), round_=folder.round).rows
    if len(found) != 1:
        what = "more than one pair begins so; write more of it" if found else "no pair of that prompt"
        raise Fixable(
            f"{folder.root}: prompt_id {prompt_id!r} in round {folder.round}: {what}; "
            'prefactory query RUN "SELECT prompt_id, chosen, rejected FROM pairs" shows them'
        )
    whole_id, chosen_id, rejected_id, loop = found[0]
    return str(chosen_id), str(rejected_id), str(whole_id), None if loop is None else Loop(str(loop))
