"""The guard: a command under it ends with its own code, and nothing of it stays, however the factory goes away."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from factory.serving.guard import guarded

# Starts a child and a grandchild in a session of its own, writes their ids, then sleeps.
FAMILY = (
    "sleep 100 & echo $! >> {ids}; setsid sleep 100 & echo $! >> {ids}; echo $$ >> {ids}; echo ready >> {ids}; wait"
)
# The same, but deaf to SIGTERM.
DEAF = "trap '' TERM; sleep 100 & echo $! >> {ids}; echo $$ >> {ids}; echo ready >> {ids}; wait; sleep 100"
FACTORY = "import subprocess, sys, time; p = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE); time.sleep(100)"
IMPATIENT = "import sys; from factory.serving.guard import main; sys.exit(main(sys.argv[1:], grace=0.3))"


def until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def family(ids: Path) -> list[int]:
    """The processes that the command has started, once all of them are there."""
    assert until(lambda: ids.exists() and "ready" in ids.read_text())
    return [int(line) for line in ids.read_text().split() if line != "ready"]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def none_alive(pids: list[int]) -> bool:
    return until(lambda: not any(alive(pid) for pid in pids))


def shell(script: str, ids: Path) -> list[str]:
    return ["sh", "-c", script.format(ids=ids)]


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes through /proc")


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 128 + signal.SIGKILL)])
def test_guard_command_that_ends_passes_its_code_on(script: str, code: int) -> None:
    with subprocess.Popen(guarded(["sh", "-c", script]), stdin=subprocess.PIPE) as guard:
        assert guard.wait(20) == code


def test_guard_command_that_is_not_there_ends_with_127_and_its_name() -> None:
    command = guarded(["no-such-command"])
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as guard:
        assert guard.wait(20) == 127
        assert guard.stderr is not None
        assert "no-such-command: No such file" in guard.stderr.read()


@needs_proc
def test_guard_command_that_ends_takes_what_it_left_behind_along(tmp_path: Path) -> None:
    ids = tmp_path / "ids"
    script = FAMILY.replace("; wait", "; exit 3")
    with subprocess.Popen(guarded(shell(script, ids)), stdin=subprocess.PIPE) as guard:
        assert guard.wait(20) == 3
    assert none_alive(family(ids))


@needs_proc
def test_guard_end_of_the_pipe_ends_every_process(tmp_path: Path) -> None:
    ids = tmp_path / "ids"
    with subprocess.Popen(guarded(shell(FAMILY, ids)), stdin=subprocess.PIPE) as guard:
        pids = family(ids)
        assert guard.stdin is not None
        guard.stdin.close()
        assert guard.wait(20) == 128 + signal.SIGTERM
    assert none_alive(pids)


@needs_proc
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_guard_signal_ends_every_process(tmp_path: Path, signum: signal.Signals) -> None:
    ids = tmp_path / "ids"
    with subprocess.Popen(guarded(shell(FAMILY, ids)), stdin=subprocess.PIPE) as guard:
        pids = family(ids)
        guard.send_signal(signum)
        assert guard.wait(20) == 128 + signal.SIGTERM
    assert none_alive(pids)


@needs_proc
def test_guard_factory_killed_ends_every_process(tmp_path: Path) -> None:
    ids = tmp_path / "ids"
    with subprocess.Popen([sys.executable, "-c", FACTORY, *guarded(shell(FAMILY, ids))]) as factory:
        pids = family(ids)
        factory.send_signal(signal.SIGKILL)
        factory.wait(20)
    assert none_alive(pids)


@needs_proc
def test_guard_factory_killed_while_a_copy_holds_the_pipe_ends_every_process(tmp_path: Path) -> None:
    ids = tmp_path / "ids"
    holder = "import os\npid = os.fork()\nif pid == 0: time.sleep(100)\nprint(pid, flush=True)\ntime.sleep(100)"
    script = FACTORY.replace("; time.sleep(100)", "") + "\n" + holder
    command = [sys.executable, "-c", script, *guarded(shell(FAMILY, ids))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as factory:
        assert factory.stdout is not None
        copy = int(factory.stdout.readline())
        pids = family(ids)
        factory.send_signal(signal.SIGKILL)
        assert none_alive(pids)
        os.kill(copy, signal.SIGKILL)


@needs_proc
@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_guard_killed_itself_ends_the_command(tmp_path: Path) -> None:
    ids = tmp_path / "ids"
    with subprocess.Popen(
        guarded(shell("echo $$ > {ids}; echo ready >> {ids}; sleep 2", ids)), stdin=subprocess.PIPE
    ) as guard:
        pids = family(ids)
        guard.send_signal(signal.SIGKILL)
    assert none_alive(pids)


@needs_proc
def test_guard_command_deaf_to_sigterm_is_killed(tmp_path: Path) -> None:
    ids = tmp_path / "ids"
    with subprocess.Popen([sys.executable, "-c", IMPATIENT, *shell(DEAF, ids)], stdin=subprocess.PIPE) as guard:
        pids = family(ids)
        assert guard.stdin is not None
        guard.stdin.close()
        assert guard.wait(20) == 128 + signal.SIGKILL
    assert none_alive(pids)


@pytest.mark.parametrize("scratch", [None, "FOLDER"])
def test_guard_without_a_command_says_how_it_is_used(scratch: str | None) -> None:
    command = guarded([], scratch)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "usage: guard.py [--scratch NAME] -- COMMAND" in done.stderr


def test_guard_scratch_folder_is_the_commands_and_gone_with_it() -> None:
    leave = "import os, pathlib; folder = os.environ['FOLDER']; pathlib.Path(folder, 'x').touch(); print(folder)"
    with subprocess.Popen(
        guarded([sys.executable, "-c", leave], "FOLDER"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.read().strip())
    assert process.returncode == 0
    assert folder.name.startswith("prefactory-")
    assert not folder.exists()
