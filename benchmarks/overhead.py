"""What the factory costs on a real engine: its rollout stage against a bare script that sends the same requests.

    python -m benchmarks.overhead           twelve pairs of runs on a vLLM server that is started for it, or as many as
                                            can be had in six minutes, and at least one
    python -m benchmarks.overhead --quick   three shorter pairs

Both send the same bodies to the same server with as many in flight. The factory also probes nothing here, but plans, keeps
each answer in its journal, looks for loops, and writes parts and records; its time is the `rollouts` phase of its manifest.
The bare script posts with aiohttp, reads each reply as JSON, and forgets it. The last line is one JSON object.

The rule that its reader must not break: the two of a pair run right after one another, the first of them in turn the one and
the other, each on a prefix cache that was emptied before; only ratios within a pair count, and of those the median.

On a machine that others use, wall time says more of them than of us. So there stand beside it: the cores that others kept
busy meanwhile; the requests that were in the engine on average, by its own count (Little's law: their latencies over the
wall time), which shows whether it was kept as full, however slow it was; and the CPU time of server and client together.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

import aiohttp
from rich.console import Console
from rich.table import Table

from benchmarks.arms import Arm, Clock
from factory.client.probe import probe
from factory.client.protocol import Body, Wire
from factory.client.transport import http_client
from factory.ledger.identity import Stage
from factory.opening import cache_folder, open_run
from factory.progress import Silent
from factory.prompts import collect
from factory.rollouts import plan
from factory.run import RunFolder, run_folder
from factory.serving.models import DEFAULT_MODEL, resolve_model
from factory.serving.server import choose_port, running
from factory.serving.server_command import launch
from flows.plain import PlainRunner
from flows.round import make_round
from schemas.recipe import Machine, ModelRef, Recipe

PROMPTS = Path(__file__).parent.parent / "data" / "prompts"
CONCURRENCY = 32
GOAL = 1.05
PATIENCE = 360.0  # seconds for all pairs
SHARD_SIZES = (2, 8, 32)  # in turn: small shards must cost no more than large ones


@dataclass(frozen=True, slots=True)
class Load:
    pairs: int
    prompts: int
    tokens: int  # at most, an answer


@dataclass(frozen=True, slots=True)
class Pair:
    shard_size: int
    first: str
    factory: Arm
    bare: Arm

    @property
    def ratio(self) -> float:
        return self.factory.seconds / self.bare.seconds

    @property
    def emptier(self) -> float:
        """How much fuller the bare script kept the engine; 1 where both kept it as full."""
        return self.bare.in_engine / self.factory.in_engine

    @property
    def cpu_ratio(self) -> float:
        return self.factory.cpu_s / self.bare.cpu_s


def a_recipe(url: str, folder: Path, number: int, load: Load, shard_size: int) -> Recipe:
    """Each pair has prompts' answers of its own: another seed. Rows go into `folder`."""
    return Recipe.model_validate(
        {
            "name": f"pair-{number}",
            "seed": number,
            "prompts": {
                "sources": [
                    {"path": PROMPTS / name}
                    for name in ("open_questions.jsonl", "short_answers.jsonl", "writing.jsonl")
                ],
                "sample": load.prompts,
            },
            "policy": {"model": DEFAULT_MODEL, "urls": [url]},
            "rollouts": {"max_tokens": load.tokens},
            "jury": {"judges": [{"judge": "clarity"}]},
            "machine": {"runs": folder, "shard_size": shard_size, "concurrency": CONCURRENCY},
        }
    )


def bodies(recipe: Recipe, wire: Wire) -> list[Body]:
    """What the rollout stage sends, in its order."""
    prompts = collect(recipe.prompts, recipe.seed, Silent()).prompts
    planned = [one for prompt in prompts for one in plan(prompt, recipe.rollouts, recipe.seed, 0)]
    return [wire.body(one.request) for one in planned]


async def bare_arm(url: str, asked: Sequence[Body]) -> Arm:
    window, tokens = asyncio.Semaphore(CONCURRENCY), 0

    async def one(session: aiohttp.ClientSession, body: Body) -> None:
        nonlocal tokens
        async with window, session.post(f"{url}/chat/completions", json=body) as reply:
            reply.raise_for_status()
            tokens += json.loads(await reply.read())["usage"]["completion_tokens"]

    began, connector = Clock.read(url), aiohttp.TCPConnector(limit=CONCURRENCY)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
        await asyncio.gather(*(one(session, body) for body in asked))
        return began.arm(Clock.read(url), len(asked), tokens)


class Started(Silent):
    """Reads the clock when the rollouts begin: the probe is over then."""

    def __init__(self, url: str) -> None:
        self.url, self.clock = url, Clock.read(url)

    def begin(self, phase: str, total: int) -> None:
        self.clock = Clock.read(self.url)


async def factory_arm(recipe: Recipe) -> Arm:
    """The stage alone: prompts are read and the server is probed before its clock starts."""
    folder = RunFolder(run_folder(recipe))
    runner = PlainRunner(recipe.machine.shards_in_flight)
    started = Started(recipe.policy.urls[0])
    with folder.locked():
        await make_round(open_run(recipe, Silent()), runner, Stage.PROMPTS)
        manifest, sent = await make_round(open_run(recipe, started), runner, Stage.ROLLOUTS)
    records = [folder.record(Stage.ROLLOUTS, shard) for shard in range(folder.shards())]
    assert all(records), "the stage is finished"
    tokens = json.loads((folder.root / "spent.json").read_text())["completion_tokens"]
    return started.clock.arm(Clock.read(started.url), sent, tokens, manifest.seconds[Stage.ROLLOUTS])


@asynccontextmanager
async def a_server(scratch: Path, tokens: int) -> AsyncIterator[str]:
    """The shipped model, with the switch that lets its prefix cache be emptied."""
    ref, machine = ModelRef(model=DEFAULT_MODEL), Machine(max_num_seqs=CONCURRENCY, max_model_len=max(512, 4 * tokens))
    start = launch(resolve_model(ref, cache_folder(), lambda _: None), ref, machine, choose_port(None))
    start = replace(start, env={**start.env, "VLLM_SERVER_DEV_MODE": "1"})
    async with running(start, machine.start_timeout, scratch / "vllm.log", lambda _: None) as url:
        yield url


async def empty_cache(url: str) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url.removesuffix('/v1')}/reset_prefix_cache") as reply,
    ):
        reply.raise_for_status()


async def measured(url: str, scratch: Path, load: Load, number: int, wire: Wire) -> Pair:
    shard_size = SHARD_SIZES[number % len(SHARD_SIZES)]
    recipe = a_recipe(url, scratch / "runs", number, load, shard_size)
    asked, order = bodies(recipe, wire), ("factory", "bare") if number % 2 == 0 else ("bare", "factory")
    arms: dict[str, Arm] = {}
    for name in order:
        await empty_cache(url)
        arms[name] = await (factory_arm(recipe) if name == "factory" else bare_arm(url, asked))
    return Pair(shard_size, order[0], arms["factory"], arms["bare"])


def table(pairs: Sequence[Pair]) -> Table:
    shown = Table(title=f"The rollout stage against a bare script, {CONCURRENCY} requests in flight")
    titles = (
        "shard size",
        "first",
        "seconds",
        "ratio",
        "in engine",
        "CPU ms a request",
        "CPU s in all",
        "others",
        "tokens",
    )
    for title in titles:
        shown.add_column(title, justify="right")
    for pair in pairs:
        factory, bare = pair.factory, pair.bare
        shown.add_row(
            str(pair.shard_size),
            pair.first,
            f"{factory.seconds:.2f} : {bare.seconds:.2f}",
            f"{pair.ratio:.3f}",
            f"{factory.in_engine:.1f} : {bare.in_engine:.1f}",
            f"{factory.cpu_ms:.1f} : {bare.cpu_ms:.1f}",
            f"{factory.cpu_s:.1f} : {bare.cpu_s:.1f}",
            f"{factory.others:.1f} : {bare.others:.1f}",
            f"{factory.tokens} : {bare.tokens}",
        )
    return shown


def figures(pairs: Sequence[Pair], load: Load) -> dict[str, object]:
    ratios = [pair.ratio for pair in pairs]
    return {
        "load": asdict(load),
        "concurrency": CONCURRENCY,
        "pairs": [asdict(pair) | {"ratio": round(pair.ratio, 4)} for pair in pairs],
        "ratio_median": round(median(ratios), 4),
        "ratio_least": round(min(ratios), 4),
        "ratio_most": round(max(ratios), 4),
        "emptier_median": round(median(pair.emptier for pair in pairs), 4),
        "cpu_ratio_median": round(median(pair.cpu_ratio for pair in pairs), 4),
        "others_median": round(median(arm.others for pair in pairs for arm in (pair.factory, pair.bare)), 2),
        "cpu_ms_factory": round(median(pair.factory.cpu_ms for pair in pairs), 3),
        "cpu_ms_bare": round(median(pair.bare.cpu_ms for pair in pairs), 3),
        "goal": GOAL,
        "met": median(ratios) <= GOAL,
    }


async def main(load: Load) -> None:
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        async with a_server(folder, load.tokens) as url:
            async with http_client(CONCURRENCY, 600.0) as client:
                wire = (await probe(client, url, DEFAULT_MODEL)).wire
            warm = a_recipe(url, folder / "warm", 2**31, Load(1, 4, 8), 4)
            await bare_arm(url, bodies(warm, wire))  # what the server makes at first use
            await factory_arm(warm)  # and what we do
            pairs: list[Pair] = []
            began = time.monotonic()
            for number in range(load.pairs):
                if number and (time.monotonic() - began) * (1 + 1 / number) > PATIENCE:
                    break  # one more would take too long
                pairs.append(await measured(url, folder, load, number, wire))
                console.print(f"pair {number + 1} of {load.pairs}: {pairs[-1].ratio:.3f}")
    Console(width=140).print(table(pairs))
    print(json.dumps(figures(pairs, load)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description="The factory's own cost.")
    parser.add_argument("--quick", action="store_true", help="three short pairs")
    asyncio.run(main(Load(3, 8, 8) if parser.parse_args().quick else Load(12, 16, 16)))
