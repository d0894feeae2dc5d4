"""How this project starts processes of its own for work that keeps a core busy.

The rule that must not break: never by `fork`. The factory has threads, and so has Arrow; a forked child inherits their
locks as they stand, and may wait for one for ever.
"""

import multiprocessing
from collections.abc import Sequence
from multiprocessing.context import BaseContext


def process_context(imports: Sequence[str]) -> BaseContext:
    """A fork server that has made the slow `imports` once for all its processes; `spawn` where there is none."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(imports))
    return context
