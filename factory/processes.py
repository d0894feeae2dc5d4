"""How this project starts processes of its own for work that keeps a core busy.

The rule that must not break: never by `fork`. The factory has threads, and so has Arrow; a forked child inherits their
locks as they stand, and may wait for one for ever.

A fork server listens at a socket in a folder for temporary files, which nobody removes where the factory is killed. So that
folder lies in one that the living hold a lock on, and whoever starts next removes those of the dead.
"""

import multiprocessing
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from multiprocessing import util
from multiprocessing.context import BaseContext
from pathlib import Path

from filelock import FileLock, Timeout

_PREFIX, _LOCK = "prefactory-", "held"


def process_context(imports: Sequence[str]) -> BaseContext:
    """A fork server that has made the slow `imports` once for all its processes; `spawn` where there is none."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    _settle()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(imports))
    return context


def clear_up() -> None:
    """Remove the temporary folders of processes that were killed."""
    for held in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_LOCK}"):
        with suppress(Timeout, OSError), FileLock(held, timeout=0, fallback_to_soft=False):
            shutil.rmtree(held.parent, ignore_errors=True)


@cache
def _settle() -> FileLock:
    """Once in a process: the lock is held for as long as it lives."""
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    held = FileLock(folder / _LOCK, fallback_to_soft=False)
    held.acquire()
    util.Finalize(None, shutil.rmtree, args=(folder, True), exitpriority=-200)  # after multiprocessing's own, at -100
    usual, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        util.get_temp_dir()  # makes its folder where it is told, and keeps to it
    finally:
        tempfile.tempdir = usual
    return held
