"""What a command does where another process works on the same run: it refuses, or waits for its turn.

The rule that must not break: what is left to do is looked up when the folder is held, since it is the other who decides it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Annotated

import typer

from factory.ledger.lock import AT_ONCE, FOR_EVER
from factory.objects.copying import everything
from factory.progress import Progress
from factory.run import RunFolder

Wait = Annotated[
    bool, typer.Option("--wait", help="where another process works on this run: wait until it has let go of the folder")
]


def turn(
    folder: RunFolder, progress: Progress, *, wait: bool, wanted: Callable[[str], bool] = everything
) -> AbstractContextManager[None]:
    """The run folder, held. `wanted`: of a run in an object store. Raises Fixable where somebody else holds it and there is
    no waiting.
    """
    return folder.locked(FOR_EVER if wait else AT_ONCE, progress.say, wanted)
