"""What Prefect and Ray cost over the plain runner, for each shard.

    python -m benchmarks.orchestration            60 shards, five times each
    python -m benchmarks.orchestration --quick    20 shards, three times each: about two minutes

A run is made first, by a server of the tests. Then every runner takes its finished shards through all steps of a round once
more, one shard after the other: rollouts, judging and verdicts, then pairs. Each step finds that there is nothing left to do,
and what remains is what it costs to be told: with Prefect four task runs a shard, against its own server; with Ray two tasks a
shard, to a node on this machine, whose worker opens the shard's records anew; with both, two of each. The plain runner's own
time is taken off. What is paid once in a run (Prefect's server, a worker's start) stands beside it.

The rule that its reader must not break: these are this machine's figures, and others may use it; the median of the passes
counts. The last line of the output is one JSON object.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

import yaml
from ray.cluster_utils import Cluster as Nodes
from rich.console import Console
from rich.table import Table

from factory.client.gate import Gate
from factory.judging.verifying import CheckPool
from factory.ledger.identity import Stage
from factory.opening import Opened, cache_folder, open_run
from factory.progress import Silent
from factory.recipes.recipe_file import read_recipe
from factory.run import RunFolder, run_folder
from factory.serving.engines import EngineRoom
from flows.cluster import ClusterRunner, crew_of
from flows.errands import Errand, Kind
from flows.hands import Hands
from flows.judging import Runner
from flows.plain import PlainRunner
from flows.round import gate_of, make_round
from flows.scheduled import PrefectRunner, as_flow
from tests.fake_engine import in_a_process

SEATS = ("helpfulness",)
CHAIN = (Errand(Kind.ANSWER, SEATS), Errand(Kind.HEAR, SEATS), Errand(Kind.CLOSE, SEATS))
MINUTE, GOAL = 60.0, 0.02  # seconds of a shard; share of it
MEBI = 2**20


@dataclass(frozen=True, slots=True)
class Load:
    shards: int
    passes: int


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds for each shard, pass by pass, and the seconds that are paid once."""

    runner: str
    passes: tuple[float, ...]
    once: float

    @property
    def median(self) -> float:
        return median(self.passes)


@dataclass(frozen=True, slots=True)
class Bench:
    """A finished run, and how often its shards are gone through."""

    hands: Hands
    gate: Gate
    load: Load

    async def passes(self, name: str, runner: Runner, began: float) -> Cost:
        """The first pass pays for what is paid once."""
        await self._through(runner)
        once, taken = time.monotonic() - began, []
        for _ in range(self.load.passes):
            taken.append(await self._through(runner))
        each = tuple(round(1e3 * seconds / self.load.shards, 3) for seconds in taken)
        return Cost(name, each, round(once - median(taken), 2))

    async def _through(self, runner: Runner) -> float:
        began, shards = time.monotonic(), list(range(self.load.shards))
        await runner.each([self.hands.step(errand) for errand in CHAIN], shards)
        await runner.each([self.hands.step(Errand(Kind.PAIR))], shards)
        return time.monotonic() - began

    async def plain(self) -> Cost:
        return await self.passes("plain", PlainRunner(1), time.monotonic())

    async def prefect(self) -> Cost:
        return await self._in_a_flow("Prefect", lambda runner: runner)

    async def ray(self) -> Cost:
        began = time.monotonic()
        async with crew_of(self.hands.opened, self.gate) as crew:
            return await self.passes("Ray", ClusterRunner(crew, PlainRunner(1)), began)

    async def both(self) -> Cost:
        async with crew_of(self.hands.opened, self.gate) as crew:
            return await self._in_a_flow("Prefect over Ray", lambda runner: ClusterRunner(crew, runner))

    async def _in_a_flow(self, name: str, dressed: Callable[[PrefectRunner], Runner]) -> Cost:
        found, began = list[Cost](), time.monotonic()

        async def do(runner: PrefectRunner) -> None:
            found.append(await self.passes(name, dressed(replace(runner, in_flight=1)), began))

        await as_flow(self.hands.opened, do, self.gate, lambda: None)
        return found[0]


def recipe_file(folder: Path, url: str, shards: int, address: str) -> Path:
    source = folder / "prompts.jsonl"
    lines = (json.dumps({"prompt": f"Write a sentence about number {number}."}) + "\n" for number in range(shards))
    source.write_text("".join(lines), encoding="utf-8")
    document = {
        "name": "orchestration",
        "prompts": {"sources": [{"path": str(source)}]},
        "policy": {"model": "fake-model", "urls": [url]},
        "rollouts": {"max_tokens": 50},
        "jury": {"judges": [{"judge": SEATS[0]}]},
        "machine": {"runs": str(folder / "runs"), "shard_size": 1, "cluster": {"address": address}},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


@asynccontextmanager
async def at_hand(opened: Opened, gate: Gate) -> AsyncIterator[Hands]:
    work = opened.work
    room = EngineRoom(work.run, work.recipe.machine, cache_folder(), work.progress, frozenset(), gate)
    async with room, CheckPool(1, 20.0) as checkers:
        yield Hands(opened, room, gate, checkers)


async def measured(recipe_path: Path, load: Load) -> list[Cost]:
    recipe = read_recipe(recipe_path)
    with RunFolder(run_folder(recipe)).locked():
        opened = open_run(recipe, Silent())
        gate = gate_of(opened.work)
        await make_round(opened, PlainRunner(2, gate), Stage.PAIRS, gate=gate)
        costs: list[Cost] = []
        async with at_hand(opened, gate) as hands:
            bench = Bench(hands, gate, load)
            arms: Sequence[Callable[[], Awaitable[Cost]]] = (bench.plain, bench.prefect, bench.ray, bench.both)
            for arm in arms:
                costs.append(await arm())
                Console(stderr=True).print(costs[-1])
    return costs


def over(cost: Cost, plain: Cost) -> float:
    """Milliseconds for each shard that it costs more than the plain runner."""
    return cost.median - plain.median


def share(cost: Cost, plain: Cost) -> float:
    """Of a shard that takes a minute."""
    return over(cost, plain) / (1e3 * MINUTE)


def table(costs: Sequence[Cost]) -> Table:
    shown = Table(title="What a runner costs, for each shard of a finished run")
    for title in ("runner", "ms a shard", "over plain", "of a minute", "once in a run s"):
        shown.add_column(title, justify="left" if title == "runner" else "right")
    for cost in costs:
        figures = (
            f"{cost.median:.1f}",
            f"{over(cost, costs[0]):.1f}",
            f"{share(cost, costs[0]):.3%}",
            f"{cost.once:.1f}",
        )
        shown.add_row(cost.runner, *figures)
    return shown


def figures(costs: Sequence[Cost], load: Load) -> dict[str, object]:
    plain, *others = costs
    return {
        "load": asdict(load),
        "costs": [asdict(cost) | {"median": round(cost.median, 3)} for cost in costs],
        "over_plain_ms": {cost.runner: round(over(cost, plain), 3) for cost in others},
        "share_of_a_minute": {cost.runner: round(share(cost, plain), 6) for cost in others},
        "goal": GOAL,
        "reached": all(share(cost, plain) < GOAL for cost in others),
    }


def main(load: Load) -> None:
    with tempfile.TemporaryDirectory(prefix="prefactory-orchestration-") as scratch, in_a_process() as served:
        nodes = Nodes()
        nodes.add_node(num_cpus=1, object_store_memory=80 * MEBI, include_dashboard=False)
        try:
            recipe = recipe_file(Path(scratch), served.url, load.shards, nodes.address)
            costs = asyncio.run(measured(recipe, load))
        finally:
            nodes.shutdown()
    Console(width=120).print(table(costs))
    print(json.dumps(figures(costs, load)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.orchestration", description="Prefect's and Ray's cost.")
    parser.add_argument("--quick", action="store_true", help="fewer shards: about two minutes")
    main(Load(20, 3) if parser.parse_args().quick else Load(60, 5))
