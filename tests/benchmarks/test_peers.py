"""What the benchmark of peers counts, against a server that is no model."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from benchmarks.peer_arms import AT_ONCE, SAMPLES, Arm, own_arm
from benchmarks.peer_proxy import Proxy
from benchmarks.peers import Killed, Timed, killed, medians, prompts_of, table, timed, turned
from factory.serving.models import DEFAULT_MODEL
from tests.fake_engine import FakeEngine, slowly, whenever
from tests.fake_engine import Seen as Asked

T = TypeVar("T")


@pytest.fixture
def engine(fake_engine: FakeEngine) -> FakeEngine:
    fake_engine.model = DEFAULT_MODEL
    return fake_engine


def through(engine: FakeEngine, prompts: list[str], do: Callable[[Proxy], Awaitable[T]]) -> T:
    async def main() -> T:
        async with Proxy(engine.url, prompts) as proxy:
            return await do(proxy)

    return asyncio.run(main())


def source_of(folder: Path, prompts: list[str]) -> Path:
    path = folder / "prompts.jsonl"
    path.write_text("".join(f'{{"prompt": "{prompt}"}}\n' for prompt in prompts))
    return path


def test_timed_own_arm_is_counted_answer_by_answer_without_the_probe(engine: FakeEngine, tmp_path: Path) -> None:
    prompts = ["one [ends]", "two [ends]"]
    source = source_of(tmp_path, prompts)

    found = through(
        engine, prompts, lambda proxy: timed(own_arm(tmp_path, source, proxy.url, 99), proxy, 12, tmp_path / "log")
    )

    assert (found.arm, found.answers) == ("prefactory", 12)
    assert 0 < found.stage_s < found.whole_s


def test_killed_own_arm_keeps_what_came_and_asks_for_the_rest(engine: FakeEngine, tmp_path: Path) -> None:
    prompts = [f"{number} [ends]" for number in range(30)]
    source = source_of(tmp_path, prompts)
    answered = 0

    def late(seen: Asked) -> bool:
        nonlocal answered
        answered += seen.asked in prompts
        return seen.asked in prompts and answered > 60

    engine.faults = whenever(late, slowly(1.0))

    found = through(
        engine, prompts, lambda proxy: killed(own_arm(tmp_path, source, proxy.url, 99), proxy, 180, tmp_path / "log")
    )

    assert found.finished
    assert found.given_at_kill >= 90
    assert found.kept is not None
    assert 0 < found.kept <= 180
    assert found.asked_again is not None
    assert found.asked_again <= 2 * AT_ONCE


def test_timed_arm_that_fails_says_its_last_words(engine: FakeEngine, tmp_path: Path) -> None:
    arm = Arm("broken", (sys.executable, "-c", "raise SystemExit('no such option')"), {})

    with pytest.raises(RuntimeError, match="gave 0 of 6 answers: no such option"):
        through(engine, ["a"], lambda proxy: timed(arm, proxy, 6, tmp_path / "log"))


def test_killed_arm_that_ends_by_itself_is_not_waited_for(engine: FakeEngine, tmp_path: Path) -> None:
    arm = Arm("broken", (sys.executable, "-c", "raise SystemExit('no such option')"), {})

    with pytest.raises(RuntimeError, match="ended before it could be killed: no such option"):
        through(engine, ["a"], lambda proxy: killed(arm, proxy, 6, tmp_path / "log"))


STARTS_AN_ARM = """
import asyncio, sys
from pathlib import Path
from benchmarks.peer_arms import Arm, start
code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
async def main():
    process = await start(Arm("slow", (sys.executable, "-c", code), {}), Path(sys.argv[1]))
    await process.wait()
asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_start_arm_ends_with_the_benchmark_however_that_is_stopped(tmp_path: Path, number: signal.Signals) -> None:
    log = tmp_path / "log"
    with subprocess.Popen([sys.executable, "-c", STARTS_AN_ARM, str(log)]) as benchmark:
        while not (log.exists() and log.read_text().endswith("\n")):
            assert benchmark.poll() is None
            time.sleep(0.02)
        arm = psutil.Process(int(log.read_text()))
        benchmark.send_signal(number)

    assert psutil.wait_procs([arm], timeout=10)[1] == []


def test_medians_compare_by_token_and_within_a_time() -> None:
    def at(arm: str, pace: float) -> Timed:
        return Timed(arm, 120, 4000, 40.0, 60.0, pace)

    times = [{"prefactory": at("prefactory", own), "b": at("b", other)} for own, other in ((9, 3), (8, 4), (4, 8))]

    own, other = medians(["prefactory", "b"], times)

    assert (own["tokens_per_s"], own["time_ratio"]) == (8, 1.0)
    assert (other["tokens_per_s"], other["time_ratio"]) == (4, 2.0)
    assert medians(["b"], [{"b": at("b", 3)}])[0]["time_ratio"] is None
    assert medians(["c"], times) == []


def test_turned_arms_begin_with_another_one_each_time() -> None:
    assert [turned("abc", by)[0] for by in range(4)] == ["a", "b", "c", "a"]
    assert all(sorted(turned("abc", by)) == ["a", "b", "c"] for by in range(4))


def test_table_has_a_row_for_each_arm_and_says_nothing_of_a_second_run_that_hung() -> None:
    timed_row = {"arm": "a", "whole_s": 9.0}
    median_row = {"arm": "a", "times": 1, "tokens_per_s": 9.0, "time_ratio": 1.0}
    hung = asdict(Killed("a", 6, 3, None, None, finished=False))

    shown = table({"timed": [timed_row], "median": [median_row], "killed": [hung]})

    assert [list(column.cells) for column in shown.columns][-4:] == [["3"], ["-"], ["-"], ["False"]]


def test_prompts_are_the_shipped_ones() -> None:
    assert len(set(prompts_of(20))) == 20
    assert SAMPLES == 6
