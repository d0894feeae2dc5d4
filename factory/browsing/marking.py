"""A mark as the page takes it: into the same file, and by the same rules, as `prefactory mark`.

The rule that must not break: it is on the disk when this returns, and it is about the two answers that the person saw.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import Field

from factory.browsing.listing import Entry
from factory.ledger.marks import LONGEST, write_mark
from factory.looking import queries
from factory.run import RunFolder
from schemas.errors import Fixable
from schemas.marks import HumanMark, Mark
from schemas.rows import Loop
from schemas.section import Section

_one_at_a_time = threading.Lock()  # else two first marks would both put the catalog together


class Said(Section):
    """What the page's form sends. `back`: the address's filters; `after`: the card that takes this one's place."""

    round: int = Field(ge=0, le=10**6)
    prompt_id: str = Field(max_length=200)
    chosen_id: str = Field(max_length=300)
    rejected_id: str = Field(max_length=300)
    mark: Mark
    why: Annotated[str, Field(max_length=4 * LONGEST)] = ""
    back: Annotated[str, Field(max_length=8000)] = ""
    here: Annotated[str, Field(pattern="^(list|pair)$")] = "list"
    after: Annotated[str, Field(pattern="^[0-9]*$")] = ""


@dataclass
class Pen:
    """Writes for one person into one run."""

    run: RunFolder
    by: str
    clock: Callable[[], datetime]
    _catalog: threading.Thread | None = None

    def close(self) -> None:
        if self._catalog:
            self._catalog.join()

    def write(self, said: Said, seen: Entry | None) -> None:
        """`seen`: the pair as it lies there. Raises Fixable where it is another one by now, StorageError."""
        if seen is None or (seen.key.chosen_id, seen.key.rejected_id) != (said.chosen_id, said.rejected_id):
            raise Fixable(f"{said.prompt_id}: was paired otherwise since it was shown; go back and look at it again")
        loop = None if seen.loop is None else Loop(seen.loop)
        with _one_at_a_time:
            first = not self.run.human_path.exists()
            own = RunFolder(self.run.root, said.round)
            mark = HumanMark(
                said.prompt_id, said.round, said.chosen_id, said.rejected_id, said.mark, said.why, self.by, self.clock()
            )
            write_mark(own, mark, loop)
            if (
                first
            ):  # the catalog's view was made where there was no file to look into; of a large run that takes seconds
                self._catalog = threading.Thread(
                    target=queries.write_catalog, args=[self.run.catalog_path, self.run.root]
                )
                self._catalog.start()
