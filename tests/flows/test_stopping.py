"""Ctrl-C and SIGTERM, once and twice, on real processes: what is kept, how they end, what they leave."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psutil
import pytest

from factory.client.gate import Gate
from factory.recipes.recipe_file import read_recipe
from factory.run import run_folder
from flows.stopping import StopSignals
from schemas.errors import Stopped
from tests.conftest import Ended, RecipeWriter
from tests.fake_engine import FakeEngine, hang, no_faults, slowly, whenever
from tests.runs import Tables, assert_equal, kept, made

SMALL: dict[str, object] = {"machine.shard_size": 2, "jury.verifiers": ["language"]}
ONCE = "stopped, and every answer that was under way is kept; the same command goes on from here"
TWICE = "stopped at once; the same command goes on from here"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    with FakeEngine() as engine:
        return made(RecipeWriter(tmp_path_factory.mktemp("undisturbed"), engine.url)(SMALL))


@dataclass
class Child:
    """The command as a terminal runs it: the leader of a process group of its own."""

    process: "subprocess.Popen[str]"
    family: list[psutil.Process]

    def signal(self, number: signal.Signals) -> None:
        """Ctrl-C reaches the whole group, `kill` the one process."""
        if number is signal.SIGINT:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    def ended(self) -> Ended:
        _, said = self.process.communicate(timeout=120)
        return Ended(self.process.returncode, "", said)

    def left(self) -> list[psutil.Process]:
        """Who is still there of all that it had started when it was signalled."""
        return psutil.wait_procs(self.family, timeout=10)[1]


@contextmanager
def started(path: Path, engine: FakeEngine, way: list[str], questions: int, ignored: bool = False) -> Iterator[Child]:
    """A run that has sent so many questions."""

    def as_in_a_terminal() -> None:  # whatever this test itself was started to ignore
        signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    command = [sys.executable, "-m", "flows.cli", "run", str(path), *way]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ, start_new_session=True, preexec_fn=as_in_a_terminal
    ) as process:
        try:
            while len(engine.questions) < questions:
                assert process.poll() is None
                time.sleep(0.005)
            yield Child(process, psutil.Process(process.pid).children(recursive=True))
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("way", [["--plain"], []], ids=["plain", "prefect"])
def test_stop_once_waits_for_what_is_under_way_and_sends_nothing_more(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, undisturbed: Tables, way: list[str], number: signal.Signals
) -> None:
    fake_engine.faults = whenever(lambda _: len(fake_engine.questions) > 100, slowly(1.5))
    path = write_recipe(SMALL)
    with started(path, fake_engine, way, 110) as child:
        child.signal(number)
        ended = child.ended()
    sent = len(fake_engine.questions)

    assert (ended.code, ended.error) == (128 + number, ONCE)
    said = re.search(r"stopping: nothing more is sent, (\d+) answers under way are waited for", ended.err)
    assert said is not None
    assert int(said[1]) > 0
    assert kept(run_folder(read_recipe(path))) == sent
    assert child.left() == []

    fake_engine.faults = no_faults
    assert_equal(made(path), undisturbed)
    assert sent < len(fake_engine.questions) == len({str(seen.body) for seen in fake_engine.questions})


@pytest.mark.parametrize(
    ("way", "number"), [(["--plain"], signal.SIGINT), ([], signal.SIGTERM)], ids=["plain", "prefect"]
)
def test_stop_twice_gives_up_what_is_under_way(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, undisturbed: Tables, way: list[str], number: signal.Signals
) -> None:
    fake_engine.faults = whenever(lambda _: len(fake_engine.questions) > 100, hang)
    path = write_recipe(SMALL)
    with started(path, fake_engine, way, 110) as child:
        child.signal(number)
        time.sleep(0.5)
        child.signal(number)
        ended = child.ended()

    assert (ended.code, ended.error) == (128 + number, TWICE)
    assert kept(run_folder(read_recipe(path))) == 100
    assert child.left() == []

    fake_engine.faults = no_faults
    assert_equal(made(path), undisturbed)


def test_stop_signal_that_the_process_was_started_to_ignore_is_ignored(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, undisturbed: Tables
) -> None:
    """As a shell starts what runs in its background."""
    with started(write_recipe(SMALL), fake_engine, ["--plain"], 50, ignored=True) as child:
        child.signal(signal.SIGINT)
        ended = child.ended()

    assert ended.code == 0


# The handler itself


def stopped(work: Coroutine[object, None, None], gate: Gate | None = None) -> tuple[Stopped, list[str]]:
    """What ends the work, and what was said."""
    said: list[str] = []
    seconds = count()
    with StopSignals(said.append, clock=lambda: next(seconds)) as signals, pytest.raises(Stopped) as error:
        signals.run(work, gate or Gate())
    return error.value, said


def test_stop_before_anything_is_under_way_ends_it_there() -> None:
    with StopSignals(lambda _: None), pytest.raises(Stopped, match="before anything was under way") as error:
        signal.raise_signal(signal.SIGTERM)

    assert error.value.signum == signal.SIGTERM


def test_stop_once_closes_the_gate_and_lets_the_work_end_itself() -> None:
    gate, ended = Gate(), list[str]()

    async def work() -> None:
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0.01)
        ended.append("by itself")
        gate.check()

    error, said = stopped(work(), gate)

    assert ended == ["by itself"]
    assert str(error) == ONCE
    assert said == ["stopping: nothing more is sent; once more stops at once"]


def test_stop_twice_ends_a_step_that_never_comes_round_to_the_event_loop() -> None:
    """Pairing and export of a large run are such steps."""

    async def work() -> None:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("it went on")

    error, _ = stopped(work())

    assert str(error) == TWICE


def test_stop_twice_lets_the_work_clear_up() -> None:
    ended: list[str] = []

    async def work() -> None:
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGTERM)
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGTERM)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            ended.append("servers stopped")

    error, _ = stopped(work())

    assert str(error) == TWICE
    assert ended == ["servers stopped"]


def test_stop_that_a_parent_passes_on_as_well_is_one() -> None:
    """`timeout` and others do, and the terminal has sent it already."""

    async def work() -> None:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0.01)

    with StopSignals(lambda _: None, clock=lambda: 7.0) as signals:
        signals.run(work(), Gate())

    assert signals.count == 1


def test_stop_that_comes_too_late_changes_nothing() -> None:
    async def work() -> None:
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0.01)

    with StopSignals(lambda _: None) as signals:
        signals.run(work(), Gate())


def test_stop_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals(lambda _: None):
        assert signal.getsignal(signal.SIGTERM) != before

    assert signal.getsignal(signal.SIGTERM) == before
