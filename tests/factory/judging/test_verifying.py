"""Checks that hang, die and break beside checks that do not."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from factory.judging import verifying
from factory.judging.verifying import Check, CheckPool, Finder
from judges.base import Verifier, check_result
from judges.registry import find_verifier
from schemas.errors import RecipeError
from schemas.rows import Prompt, Rollout, Verdict, VerdictStatus
from tests.samples import a_prompt, a_rollout

LONG = 60.0  # seconds; no check of these tests may need it


@dataclass(frozen=True, slots=True)
class Hostile:
    """Does what the rollout's text says."""

    name: str = "hostile"
    proves: bool = True

    def objection(self, prompt: Prompt) -> str | None:
        return None

    def applies(self, prompt: Prompt, rollout: Rollout) -> bool:
        return rollout.text != "abstain"

    def check(self, prompt: Prompt, rollout: Rollout) -> Verdict:
        match rollout.text:
            case "hang":
                time.sleep(600)
            case "spin":
                while True:
                    pass
            case "slow":
                began = time.process_time()
                while time.process_time() - began < 0.5:
                    pass
            case "die":
                os._exit(3)
            case "break":
                raise ValueError("cannot parse")
            case "imported":
                return check_result(rollout, self.name, 1.0, str("math_verify" in sys.modules))
            case "devour":
                return check_result(rollout, self.name, 1.0, f"{len(bytearray(8 * 2**30))} bytes")
        return check_result(rollout, self.name, 1.0, f"in process {os.getpid()}")


def find_hostile(name: str) -> Verifier:
    return Hostile()


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of the pool imports this file to find the verifier above, however the tests were started."""
    monkeypatch.syspath_prepend(Path(__file__).parents[3])


async def run_checks(
    checks: Sequence[Check], workers: int, cpu_s: float, find: Finder = find_verifier, wall_s: float | None = None
) -> tuple[Verdict, ...]:
    async with CheckPool(workers, cpu_s, find, wall_s) as pool:
        return await pool.run(checks)


def a_check(text: str, verifier: str = "hostile", answer: str | None = None, slot: str = "t0") -> Check:
    return verifier, a_prompt(answer=answer), a_rollout("p", slot, text)


def test_checks_never_block_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that starts the processes waits here until the loop has gone on: on the loop itself it would wait in vain."""
    went_on, start, waited = threading.Event(), verifying._schedule, []

    def start_late(*details: Any) -> Any:
        waited.append(went_on.wait(LONG))
        return start(*details)

    async def checked_beside_the_loop() -> str | None:
        checking = asyncio.create_task(run_checks([a_check("hang")], 1, LONG, find_hostile, wall_s=0.5))
        for _ in range(10):
            await asyncio.sleep(0.01)
        went_on.set()
        return (await checking)[0].reply

    monkeypatch.setattr(verifying, "_schedule", start_late)
    assert asyncio.run(checked_beside_the_loop()) == "no result within 0.5 s"
    assert waited == [True]


def test_checks_that_hang_die_or_break_fail_and_the_rest_go_on() -> None:
    texts = ["fine", "spin", "die", "break", "fine", "abstain", "devour", "fine"]
    checks = [a_check(text, slot=f"t{n}") for n, text in enumerate(texts)]
    verdicts = asyncio.run(run_checks(checks, 2, 1.0, find_hostile, LONG))
    assert [verdict.rollout_id for verdict in verdicts] == [f"p:t{n}" for n in range(len(texts))]
    found = dict(zip(texts, verdicts, strict=True))
    for text, verdict in zip(texts, verdicts, strict=True):
        assert (verdict.status is VerdictStatus.OK, verdict.score) == ((True, 1.0) if text == "fine" else (False, None))
    assert found["spin"].reply == "no result within 1 s of CPU"
    assert found["die"].reply == "its process ended with exit code 3"
    assert found["break"].reply == "ValueError: cannot parse"
    assert (found["devour"].reply or "").startswith("MemoryError")
    assert found["abstain"].status is VerdictStatus.ABSTAINED
    assert found["fine"].reply != f"in process {os.getpid()}"


def test_checks_of_a_stopped_machine_are_not_failed_for_it() -> None:
    """A process that is not given the CPU uses none of it, however long it is kept waiting."""
    code = """
import asyncio, os, signal, sys, threading, time
import psutil
from tests.factory.judging.test_verifying import a_check, find_hostile, run_checks
def pause():
    while not (own := psutil.Process().children(recursive=True)):
        time.sleep(0.01)
    time.sleep(1)
    own = psutil.Process().children(recursive=True)
    for process in own: process.send_signal(signal.SIGSTOP)
    time.sleep(3)
    for process in own: process.send_signal(signal.SIGCONT)
threading.Thread(target=pause).start()
checks = [a_check("slow", slot=f"t{n}") for n in range(4)]
print([verdict.status.value for verdict in asyncio.run(run_checks(checks, 1, 2, find_hostile))])
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "['ok', 'ok', 'ok', 'ok']"


def test_checks_of_math_run_for_real_and_an_endless_power_is_killed() -> None:
    checks = [
        a_check("The answer is 18.", "math_answer", "18", "t0"),
        a_check("The answer is $9^{9^{9^9}}$", "math_answer", "18", "t1"),
        a_check("The answer is 17.", "math_answer", "18", "t2"),
        a_check("The answer is 17.", "math_answer", None, "t3"),
    ]
    verdicts = asyncio.run(run_checks(checks, 2, 2.0))
    statuses = [VerdictStatus.OK, VerdictStatus.FAILED, VerdictStatus.OK, VerdictStatus.ABSTAINED]
    assert [verdict.status for verdict in verdicts] == statuses
    assert [verdict.score for verdict in verdicts] == [1.0, None, 0.0, None]


def test_slow_imports_count_against_no_check_where_the_fork_server_was_started_by_something_else() -> None:
    code = """
import asyncio, sys
from factory.processes import process_context
process_context([]).Process(target=print).start()
from tests.factory.judging.test_verifying import a_check, find_hostile, run_checks
print(asyncio.run(run_checks([a_check("imported")], 1, 60, find_hostile))[0].reply)
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split()[-1] == "True"


def test_checks_from_a_thread_beside_a_running_loop_work() -> None:
    found: list[Verdict] = []

    async def beside() -> int:
        def run() -> None:
            found.extend(asyncio.run(run_checks([a_check("fine")], 1, LONG, find_hostile)))

        thread = threading.Thread(target=run)
        thread.start()
        ticks = 0
        while thread.is_alive():
            await asyncio.sleep(0.01)
            ticks += 1
        return ticks

    assert asyncio.run(beside()) > 0
    assert [verdict.score for verdict in found] == [1.0]


def test_checks_cancelled_leave_no_process_behind() -> None:
    async def cancelled() -> None:
        checking = asyncio.create_task(run_checks([a_check("hang")], 1, LONG, find_hostile))
        await asyncio.sleep(0.5)
        checking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await checking

    before = {child.pid for child in psutil.Process().children()}
    asyncio.run(cancelled())
    assert [child.pid for child in psutil.Process().children() if child.pid not in before] == []


def test_checks_that_do_not_apply_start_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_pool(*_: object, **__: object) -> None:
        pytest.fail("a pool was started")

    monkeypatch.setattr(verifying, "ProcessPool", no_pool)
    checks = [a_check("The answer is 18.", "math_answer"), a_check("Oui.", "language")]
    verdicts = asyncio.run(run_checks(checks, 2, LONG))
    assert [(verdict.judge, verdict.status) for verdict in verdicts] == [
        ("math_answer", VerdictStatus.ABSTAINED),
        ("language", VerdictStatus.ABSTAINED),
    ]
    assert asyncio.run(run_checks([], 2, LONG)) == ()


def test_checks_unknown_verifier_is_an_error_and_not_a_row() -> None:
    with pytest.raises(RecipeError, match="math_answer"):
        asyncio.run(run_checks([a_check("18", "math_anser", "18")], 1, LONG))


def test_check_pool_serves_several_shards_at_once_from_the_same_processes() -> None:
    async def both() -> tuple[tuple[Verdict, ...], tuple[Verdict, ...]]:
        async with CheckPool(1, LONG, find_hostile) as pool:
            first, second = await asyncio.gather(pool.run([a_check("fine")]), pool.run([a_check("fine", slot="t1")]))
            return first, second

    (one,), (other,) = asyncio.run(both())
    assert (one.rollout_id, other.rollout_id) == ("p:t0", "p:t1")
    assert one.reply == other.reply  # the number of the process
