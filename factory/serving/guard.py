"""Runs a command and sees to it that nothing of it outlives the factory: `guard.py [--scratch NAME] -- COMMAND…`.

The guard's standard input is a pipe that the factory holds. When the pipe ends (the factory closed it, or died in any
way, SIGKILL too), or a signal to stop arrives, or the command itself ends, every process that came of the command is
terminated. The guard's exit code is the command's (128 + signal where a signal ended it). With `--scratch` the command
finds in the environment variable NAME a folder of its own, which is gone when the command is.

The rule that must not break: only the standard library, and no import from this project. The guard has to start in
milliseconds and must not fail with what it guards.
"""

import ctypes
import os
import select
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

GRACE = 8.0  # seconds between asking (SIGTERM) and killing (SIGKILL)
LOOK = 0.1  # seconds between two looks at the command, the pipe and the parent
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

stop_signals: list[int] = []  # a signal handler can only leave a note


def guarded(command: Sequence[str], scratch: str | None = None) -> list[str]:
    """The command line that runs `command` under a guard. By path, so that it works from any working directory.

    `scratch`: the environment variable that names the command's own folder.
    """
    return [sys.executable, "-P", __file__, *(["--scratch", scratch] if scratch else []), "--", *command]


def _note(signum: int, _frame: FrameType | None) -> None:
    stop_signals.append(signum)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _start(command: Sequence[str]) -> int:
    """Start `command` in a session of its own, with an empty standard input. Returns its process id."""
    guard = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, signal.SIG_DFL)
        _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # should the guard itself be killed
        if os.getppid() != guard:
            os._exit(143)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.execvp(command[0], list(command))
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    os._exit(127)


def _released(parent: int) -> bool:
    """Whether the one who started us let go: the pipe ended, a signal came, or the parent is another one now.

    The parent is looked at as well, because a forked copy of the factory may still hold the pipe's other end.
    """
    if stop_signals or os.getppid() != parent:
        return True
    readable, _, _ = select.select([0], [], [], LOOK)
    return bool(readable) and not os.read(0, 4096)


def _reap() -> dict[int, int]:
    """The children that have ended since the last call, with their wait status."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = status


def _parents() -> dict[int, int]:
    """Every live process and its parent, zombies left out; empty where there is no /proc."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text(errors="replace").rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue  # it ended while we looked
        if state not in "ZX":
            parents[int(stat.parent.name)] = int(parent)
    return parents


def _descendants() -> list[int]:
    """Every live process below this one. Orphans are ours too: we are their subreaper."""
    parents = _parents()
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {os.getpid()})


def _signal_all(group: int, signum: int) -> bool:
    """Send `signum` to the command's group and to all who came of it. False when nobody is left."""
    reached = False
    for send, target in [(os.killpg, group), *((os.kill, pid) for pid in _descendants())]:
        try:
            send(target, signum)
            reached = True
        except (ProcessLookupError, PermissionError):  # PermissionError: how macOS reports a group of zombies
            pass
    return reached


def _clear(group: int, grace: float) -> dict[int, int]:
    """End every process that came of the command. Returns the wait status of those that were our children."""
    ended: dict[int, int] = {}
    deadline = time.monotonic() + grace
    alive = _signal_all(group, signal.SIGTERM)
    while alive:
        time.sleep(0.02)
        ended |= _reap()
        alive = _signal_all(group, 0 if time.monotonic() < deadline else signal.SIGKILL)
    return ended | _reap()


def main(command: Sequence[str], grace: float = GRACE) -> int:
    """Run `command` to its end or ours. Returns the exit code to leave with."""
    parent = os.getppid()
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, _note)
    pid = _start(command)
    ended: dict[int, int] = {}
    while pid not in ended and not _released(parent):
        ended |= _reap()
    ended |= _clear(pid, grace)
    code = os.waitstatus_to_exitcode(ended[pid])
    return code if code >= 0 else 128 - code


def main_with_scratch(variable: str, command: Sequence[str]) -> int:
    """As `main`, and the command has a folder of its own for as long as it lives."""
    with tempfile.TemporaryDirectory(prefix="prefactory-", ignore_cleanup_errors=True) as folder:
        os.environ[variable] = folder
        return main(command)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--", *command] if command:
            sys.exit(main(command))
        case ["--scratch", variable, "--", *command] if command:
            sys.exit(main_with_scratch(variable, command))
        case _:
            sys.exit("usage: guard.py [--scratch NAME] -- COMMAND…")
