"""How fast the rollout stage goes where the engine costs nothing, and whether its memory stays flat.

    python -m benchmarks.load            5,000 and 50,000 prompts, six requests each
    python -m benchmarks.load --quick    500 and 3,000 prompts: under a minute
    python -m benchmarks.load --prompts 5000 20000

A server of the tests answers on loopback, on a core of its own, as fast as it can (`tests.fake_engine`). The client is the
stage as a run has it: the engine's windows, the journal of each shard, loop detection, Parquet parts and records. It runs in
a process of its own for each size, held to one core, because the peak of a process' memory never goes down. Reading the
prompts is a stage before it, in another process: it holds all prompts at once, which is shown beside.

The rule that its reader must not break: requests a second are this machine's, and while others use it too little comes
out; CPU a request is the figure to compare. The last line of the output is one JSON object.
"""

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from factory import shards
from factory.ledger.identity import Stage
from factory.opening import open_run
from factory.progress import Silent
from factory.prompts import collect
from factory.recipes.recipe_file import read_recipe
from factory.rollouts import Policy
from factory.run import RunFolder, run_folder
from factory.serving.engines import EngineRoom
from factory.shards import Free
from factory.work import Work
from flows.plain import PlainRunner, Step
from tests.fake_engine import WORDS, in_a_process

SIZES, QUICK = (5_000, 50_000), (500, 3_000)
SLOTS = 6
GOAL_RATE, GOAL_MEMORY = 1200, 600  # requests/s on one core, MB
MEBI = 2**20


@dataclass(frozen=True, slots=True)
class Loaded:
    """One size. CPU is the client's, in milliseconds for each request; memory is the peak of the process, in MB."""

    prompts: int
    requests: int
    attempts: int
    seconds: float
    requests_per_s: float
    cpu_ms: float
    requests_per_core_s: float  # what one core would do, were it not shared with others
    server_cpu_ms: float
    memory: float
    memory_at_start: float
    open_files: int
    collecting_memory: float  # of the stage before, which reads the prompts


@dataclass(frozen=True, slots=True)
class Spent:
    """What a client's process tells at its end."""

    seconds: float
    cpu: float
    memory: float
    memory_at_start: float
    open_files: int


def prompts_file(folder: Path, count: int) -> Path:
    """So many different prompts of a few dozen words."""
    path = folder / "prompts.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            words = " ".join(WORDS[(number * 31 + place * 17 + place * place) % len(WORDS)] for place in range(24))
            file.write(json.dumps({"prompt": f"Write about number {number}: {words}."}) + "\n")
    return path


def recipe_file(folder: Path, url: str, count: int) -> Path:
    document = {
        "name": "load",
        "prompts": {"sources": [{"path": str(prompts_file(folder, count))}]},
        "policy": {"model": "fake-model", "urls": [url]},
        "rollouts": {"max_tokens": 200},
        "jury": {"judges": [{"judge": "helpfulness"}]},
        "machine": {"runs": str(folder / "runs"), "concurrency": 64},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


# The client's process


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEBI


def collect_prompts(work: Work) -> Spent:
    began, cpu, before = time.perf_counter(), time.process_time(), peak()
    recipe = work.recipe
    shards.write_prompts(work, lambda: collect(recipe.prompts, recipe.seed, work.progress, []))
    return Spent(time.perf_counter() - began, time.process_time() - cpu, peak(), before, open_files())


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # a Path for each of them would be counted too


async def roll_out_all(work: Work) -> Spent:
    async with EngineRoom(work.run, work.recipe.machine, work.run.root, work.progress, frozenset()) as room:
        policy = Policy(await room.engine(work.recipe.policy), "fake-model", "none")
        began, cpu, before, files = time.perf_counter(), time.process_time(), peak(), 0

        async def roll_out(shard: int, free: Free) -> None:
            nonlocal files
            await shards.write_rollouts(work, shard, policy, free)
            files = max(files, open_files())

        runner = PlainRunner(work.recipe.machine.shards_in_flight)
        await runner.each([Step(Stage.ROLLOUTS, roll_out)], list(work.shards()))
        return Spent(time.perf_counter() - began, time.process_time() - cpu, peak(), before, files)


def client(stage: str, recipe: Path) -> Spent:
    """Runs in the child."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    read = read_recipe(recipe)
    with RunFolder(run_folder(read)).locked():
        work = open_run(read, Silent()).work
        return collect_prompts(work) if stage == Stage.PROMPTS else asyncio.run(roll_out_all(work))


# The benchmark's process


def in_child(stage: Stage, recipe: Path) -> Spent:
    command = [sys.executable, "-m", "benchmarks.load", "--client", stage, str(recipe)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return Spent(**json.loads(done.stdout.splitlines()[-1]))


def measure(count: int) -> Loaded:
    core = max(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="prefactory-load-") as scratch, in_a_process("--core", str(core)) as served:
        recipe = recipe_file(Path(scratch), served.url, count)
        collecting = in_child(Stage.PROMPTS, recipe)
        before = served.done()
        spent = in_child(Stage.ROLLOUTS, recipe)
        after = served.done()
    requests = count * SLOTS
    return Loaded(
        prompts=count,
        requests=requests,
        attempts=after.asked - before.asked,
        seconds=round(spent.seconds, 1),
        requests_per_s=round(requests / spent.seconds, 1),
        cpu_ms=round(1e3 * spent.cpu / requests, 3),
        requests_per_core_s=round(requests / spent.cpu, 1),
        server_cpu_ms=round(1e3 * (after.cpu_seconds - before.cpu_seconds) / requests, 3),
        memory=round(spent.memory, 1),
        memory_at_start=round(spent.memory_at_start, 1),
        open_files=spent.open_files,
        collecting_memory=round(collecting.memory, 1),
    )


def table(rows: Sequence[Loaded]) -> Table:
    titles = (
        "prompts",
        "requests",
        "s",
        "requests/s",
        "CPU ms",
        "requests/core-s",
        "server's CPU ms",
        "peak MB",
        "files",
    )
    shown = Table(*titles, title="The rollout stage on one core, before a server that costs nothing")
    for row in rows:
        figures = (row.prompts, row.requests, row.seconds, row.requests_per_s, row.cpu_ms, row.requests_per_core_s)
        shown.add_row(*(f"{figure:,}" for figure in (*figures, row.server_cpu_ms, row.memory, row.open_files)))
    return shown


def figures(rows: Sequence[Loaded]) -> dict[str, object]:
    last = rows[-1]
    return {
        "rows": [asdict(row) for row in rows],
        "goal": {"requests_per_s": GOAL_RATE, "memory": GOAL_MEMORY},
        "rate_reached": last.requests_per_s >= GOAL_RATE,
        "core_rate_reached": last.requests_per_core_s >= GOAL_RATE,
        "memory_reached": last.memory <= GOAL_MEMORY,
        "memory_growth": round(last.memory / rows[0].memory, 3),
        "every_request_once": all(row.attempts == row.requests for row in rows),
    }


def main(options: argparse.Namespace) -> None:
    if options.client:
        stage, recipe = options.client
        print(json.dumps(asdict(client(stage, Path(recipe)))))
        return
    rows = [measure(count) for count in (QUICK if options.quick else options.prompts)]
    Console(width=140).print(table(rows))
    print(json.dumps(figures(rows)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description="The client at full speed.")
    parser.add_argument("--quick", action="store_true", help="fewer prompts: under a minute")
    parser.add_argument(
        "--prompts", nargs="+", type=int, default=SIZES, metavar="N", help="how many prompts, size by size"
    )
    parser.add_argument("--client", nargs=2, metavar=("STAGE", "RECIPE"), help="for the benchmark itself")
    main(parser.parse_args())
