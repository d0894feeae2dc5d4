"""A run in an object store: killed and gone on with, and how many requests of the store that takes.

    python -m benchmarks.object_store            160 prompts in 10 shards: about six minutes
    python -m benchmarks.object_store --quick    32 prompts in 4 shards: about three

A server that speaks S3 holds the runs, and a server of the tests answers every question after a fixed time; both are processes
of their own. The same recipe is run on disk, then in the store four times: undisturbed; killed (`kill -9`) in the middle and
gone on with by the same machine, which has its own journal; killed and gone on with by another one, which has nothing but what
the store has; and on top of that the store does not answer for a while in the middle. Then another machine asks one question
in SQL of a run that it has no copy of.

The rule that its reader must not break: requests of the store are those of its own log, and questions those that the engine
counted. The last line of the output is one JSON object.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.killed_run import lost_rows, rows_of
from factory.objects.holding import PACE
from tests.fake_engine import Served, in_a_process
from tests.object_store import BUCKET, ObjectStore, object_store

KINDS = ("LIST", "GET", "HEAD", "PUT", "DELETE")
JUDGES = ("helpfulness", "correctness", "clarity")
CONCURRENCY = 8
LOOK = 0.1  # seconds between two looks at the engine's count
SILENT = 20.0  # seconds for which the store does not answer
LONGEST = 600.0  # seconds for one process; more is a hang


@dataclass(frozen=True, slots=True)
class Load:
    prompts: int
    shard: int
    latency: float

    @property
    def shards(self) -> int:
        return -(-self.prompts // self.shard)


FULL, QUICK = Load(160, 16, 0.12), Load(32, 8, 0.2)


@dataclass(frozen=True, slots=True)
class Arm:
    """What one run came to. `requests`: of the store, by kind."""

    name: str
    seconds: float
    kills: int
    questions: int
    again: int  # questions that were asked more often than by the run on disk
    lost: int  # rows that are not as on disk
    sound: bool  # by `prefactory verify`
    requests: Mapping[str, int]
    shards: int

    @property
    def per_shard(self) -> float:
        return sum(self.requests.values()) / self.shards


@dataclass
class Bench:
    folder: Path
    load: Load
    store: ObjectStore
    engine: Served
    console: Console
    rows: dict[str, list[object]] = field(default_factory=dict)
    questions: int = 0

    def recipe(self, name: str, runs: str) -> Path:
        prompts = self.folder / "prompts.jsonl"
        if not prompts.exists():
            lines = (
                {"prompt": f"Write a sentence about number {n}.", "language": "en"} for n in range(self.load.prompts)
            )
            prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
        document = {
            "name": name,
            "seed": 7,
            "prompts": {"sources": [{"path": "prompts.jsonl"}]},
            "policy": {"model": "fake-model", "urls": [self.engine.url]},
            "rollouts": {"max_tokens": 300},
            "jury": {"judges": [{"judge": judge} for judge in JUDGES], "trust": {"canaries": 0, "reasked": 0}},
            "machine": {"runs": runs, "shard_size": self.load.shard, "concurrency": CONCURRENCY},
        }
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    def start(self, machine: str, *words: object) -> "subprocess.Popen[bytes]":
        """A command, on a machine that has a cache of its own."""
        own = {"XDG_CACHE_HOME": str(self.folder / machine), **self.store.environment}
        said = (self.folder / "said").open("ab")
        return subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *map(str, words)], env=os.environ | own, stdout=said, stderr=said
        )

    def command(self, machine: str, *words: object) -> int:
        return self.start(machine, *words).wait(LONGEST)

    def on_disk(self) -> Arm:
        began, before = time.monotonic(), self.engine.done().asked
        recipe = self.recipe("disk", str(self.folder / "runs"))
        code = self.command("disk", "run", recipe, "--plain")
        assert code == 0, (self.folder / "said").read_text()
        self.rows, self.questions = rows_of(self.folder / "runs" / "disk"), self.engine.done().asked - before
        seconds = time.monotonic() - began
        sound = self.command("disk", "verify", self.folder / "runs" / "disk") == 0
        return Arm("on disk", seconds, 0, self.questions, 0, 0, sound, {}, self.load.shards)

    def in_store(self, name: str, machines: tuple[str, ...], disturb: Callable[[], None] = lambda: None) -> Arm:
        """Killed before each machine but the first takes over."""
        url, recipe = f"s3://{BUCKET}/runs/{name}", self.recipe(name, f"s3://{BUCKET}/runs")
        began, before, asked = time.monotonic(), self.engine.done().asked, len(self.store.asked())
        for number, machine in enumerate(machines[:-1], 1):
            process = self.start(machine, "run", recipe, "--plain")
            self._until(before + self.questions * number // len(machines), process)
            process.send_signal(signal.SIGKILL)
            process.wait()
        last = self.start(machines[-1], "run", recipe, "--plain")
        self._until(before + self.questions * 2 // 3, last)
        disturb()
        assert last.wait(LONGEST) == 0, (self.folder / "said").read_text()
        seconds, requests = time.monotonic() - began, self.store.counted(asked)
        questions = self.engine.done().asked - before
        sound = self.command("checker", "verify", url) == 0
        (copy,) = (self.folder / "checker").rglob(f"copies/*/{name}")
        lost = lost_rows(rows_of(copy), self.rows)
        again = questions - self.questions
        return Arm(name, seconds, len(machines) - 1, questions, again, lost, sound, dict(requests), self.load.shards)

    def _until(self, questions: int, process: "subprocess.Popen[bytes]") -> None:
        until = time.monotonic() + LONGEST
        while self.engine.done().asked < questions and process.poll() is None and time.monotonic() < until:
            time.sleep(LOOK)

    def silence(self) -> None:
        self.store.pause()
        time.sleep(SILENT)
        self.store.go_on()

    def question(self) -> Counter[str]:
        """What it costs a machine without a copy to ask how long the answers are, and how many pairs there are."""
        asked = len(self.store.asked())
        sql = "SELECT (SELECT avg(length(text)) FROM rollouts) AS length, (SELECT count(*) FROM pairs) AS pairs"
        assert self.command("looker", "query", f"s3://{BUCKET}/runs/undisturbed", sql) == 0
        return self.store.counted(asked)


def shown(console: Console, arms: list[Arm], load: Load) -> None:
    title = f"{load.prompts} prompts in {load.shards} shards; the store is told every {PACE.every:g} s"
    table = Table(title=title)
    for name in ("run", "s", "kills", "questions", "again", "rows lost", "verify", "requests a shard", *KINDS):
        table.add_column(name, justify="left" if name == "run" else "right")
    for arm in arms:
        figures = (f"{arm.seconds:.0f}", arm.kills, arm.questions, arm.again, arm.lost, "ok" if arm.sound else "FAULTS")
        kinds = (str(arm.requests.get(kind, 0)) for kind in KINDS)
        table.add_row(arm.name, *map(str, figures), f"{arm.per_shard:.1f}", *kinds)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.object_store", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer prompts")
    load = QUICK if parser.parse_args().quick else FULL
    console = Console(width=160)
    with (
        tempfile.TemporaryDirectory(prefix="prefactory-store-") as scratch,
        object_store(Path(scratch) / "log") as store,
        in_a_process("--latency", str(load.latency)) as engine,
    ):
        bench = Bench(Path(scratch), load, store, engine, console)
        arms = [bench.on_disk()]
        arms.append(bench.in_store("undisturbed", ("one",)))
        looked = bench.question()
        arms.append(bench.in_store("killed", ("two", "two", "two")))
        arms.append(bench.in_store("moved", ("three", "four")))
        arms.append(bench.in_store("silent", ("five",), bench.silence))
    shown(console, arms, load)
    console.print(f"A question of a machine without a copy: {dict(looked)}")
    figures = {
        "shards": load.shards,
        "arms": [asdict(arm) | {"requests_per_shard": round(arm.per_shard, 2)} for arm in arms],
        "question": dict(looked),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
