"""What three machines are worth over one, and what it costs to lose one of them.

    python -m benchmarks.cluster            216 prompts
    python -m benchmarks.cluster --quick    144 prompts in smaller shards

Three Ray nodes run on this machine (Ray's own `Cluster`, as its developers test with), each with room for one worker. A server
of the tests answers every request after the same time, to however many ask at once: so what a run asks at once decides its
pace, and each worker adds as much as the one process has. Three runs of one recipe: plain, in one process; over the three
nodes; and over them with one killed, by SIGKILL, when all three are at work on a shard. All three must leave the same rows.

The rule that its reader must not break: two cores do the work of all nodes, and whoever else uses them takes from the workers'
pace. The pace is that of the fastest quarter of the questions in a row, as the server counts them: workers start one after the
other, and what that takes is in the whole time, which stands beside it.
The last line of the output is one JSON object.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml
from ray.cluster_utils import Cluster
from rich.console import Console
from rich.table import Table

from tests.fake_engine import Served, in_a_process
from tests.runs import tables

NODES, LATENCY, AT_ONCE = 3, 0.5, 8
LOOK = 0.2  # seconds between two looks at the server's count
GOAL = 2.7
MEBI = 2**20


@dataclass(frozen=True, slots=True)
class Load:
    prompts: int
    shard: int


@dataclass(frozen=True, slots=True)
class Arm:
    """One run. `pace`: requests a second, over the fastest quarter; `asked`: questions that the server got."""

    name: str
    pace: float
    whole: float
    asked: int


@contextmanager
def nodes() -> Iterator[Cluster]:
    cluster = Cluster()
    for _ in range(NODES):
        cluster.add_node(num_cpus=1, object_store_memory=80 * MEBI, include_dashboard=False)
    try:
        yield cluster
    finally:
        cluster.shutdown()


def recipe_file(folder: Path, name: str, url: str, load: Load, address: str | None) -> Path:
    source = folder / "prompts.jsonl"
    if not source.exists():
        lines = (
            json.dumps({"prompt": f"Write a sentence about number {number}."}) + "\n" for number in range(load.prompts)
        )
        source.write_text("".join(lines), encoding="utf-8")
    machine: dict[str, object] = {"runs": str(folder / "runs"), "shard_size": load.shard, "concurrency": AT_ONCE}
    document = {
        "name": name,
        "prompts": {"sources": [{"path": str(source)}]},
        "policy": {"model": "fake-model", "urls": [url]},
        "rollouts": {"max_tokens": 100},
        "jury": {"judges": [{"judge": "helpfulness"}], "trust": {"canaries": 0, "reasked": 0}},
        "machine": machine | ({"cluster": {"address": address}} if address else {}),
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def started(recipe: Path) -> "subprocess.Popen[bytes]":
    log = recipe.with_suffix(".log").open("wb")
    command = [sys.executable, "-m", "flows.cli", "run", str(recipe), "--plain"]
    return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def pace(seen: Sequence[tuple[float, int]]) -> float:
    """Requests a second over the fastest quarter of them. `seen`: times with what the server had been asked by then."""
    wanted = (seen[-1][1] - seen[0][1]) / 4
    best, begin = 0.0, 0
    for time_, asked in seen:
        while asked - seen[begin + 1][1] >= wanted:
            begin += 1
        if asked - seen[begin][1] >= wanted:
            best = max(best, (asked - seen[begin][1]) / (time_ - seen[begin][0]))
    return best


def run(name: str, recipe: Path, served: Served, lose: Callable[[], bool]) -> Arm:
    """`lose` is called again and again until it says that it has done its part."""
    before, began, lost = served.done().asked, time.monotonic(), False
    seen = [(began, before)]
    process = started(recipe)
    while process.poll() is None:
        time.sleep(LOOK)
        seen.append((time.monotonic(), served.done().asked))
        lost = lost or lose()
    if process.returncode != 0:
        raise SystemExit(recipe.with_suffix(".log").read_text())
    whole = time.monotonic() - began
    return Arm(name, round(pace(seen), 2), round(whole, 1), seen[-1][1] - before)


def nothing() -> bool:
    return True


def all_at_work(recipe: Path) -> bool:
    """Whether so many shards as there are nodes have answers and are not finished: each node has one of them."""
    return len(list(root_of(recipe).glob("round=0/_journal/*.jsonl"))) >= NODES


def root_of(recipe: Path) -> Path:
    return recipe.parent / "runs" / recipe.stem


def table(arms: Sequence[Arm]) -> Table:
    shown = Table(
        title=f"{NODES} nodes of one worker each; {AT_ONCE} requests at once for each worker, {LATENCY} s an answer"
    )
    for title in ("run", "requests", "requests/s", "times plain", "whole time s"):
        shown.add_column(title, justify="left" if title == "run" else "right")
    for arm in arms:
        figures = (f"{arm.asked:,}", f"{arm.pace:.1f}", f"{arm.pace / arms[0].pace:.2f}", f"{arm.whole:.1f}")
        shown.add_row(arm.name, *figures)
    return shown


def figures(arms: Sequence[Arm], equal: Sequence[bool]) -> dict[str, object]:
    plain, spread, lossy = arms
    return {
        "arms": [asdict(arm) for arm in arms],
        "speedup": round(spread.pace / plain.pace, 3),
        "goal": GOAL,
        "reached": spread.pace / plain.pace >= GOAL,
        "rows_equal": all(equal),
        "asked_twice_for_the_loss": lossy.asked - plain.asked,
        "asked_twice_at_most": AT_ONCE,
    }


def main(load: Load) -> None:
    console = Console(stderr=True)
    latency = ("--latency", str(LATENCY))
    with tempfile.TemporaryDirectory(prefix="prefactory-cluster-") as scratch, in_a_process(*latency) as served:
        folder = Path(scratch)
        plain = recipe_file(folder, "plain", served.url, load, None)
        arms = [run("plain, one process", plain, served, nothing)]
        console.print(arms[-1])
        with nodes() as cluster:
            names = ("spread", "lossy")
            spread, lossy = (recipe_file(folder, name, served.url, load, cluster.address) for name in names)

            def lose() -> bool:
                if ready := all_at_work(lossy):
                    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
                return ready

            arms.append(run("three nodes", spread, served, nothing))
            console.print(arms[-1])
            arms.append(run("three nodes, one killed", lossy, served, lose))
            console.print(arms[-1])
        rows = tables(root_of(plain))
        equal = [rows == tables(root_of(recipe)) for recipe in (spread, lossy)]
    Console(width=140).print(table(arms))
    print(json.dumps(figures(arms, equal)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description="Three nodes, and one killed.")
    parser.add_argument("--quick", action="store_true", help="fewer prompts, in smaller shards")
    main(Load(144, 12) if parser.parse_args().quick else Load(216, 24))
