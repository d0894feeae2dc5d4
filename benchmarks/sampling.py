"""What each way of sampling costs vLLM's CPU build.

    python -m benchmarks.sampling            every way, three times each: about six minutes
    python -m benchmarks.sampling --quick    once each: about two

One server with the default settings. The same requests are asked in each way in turn, as many at once as it takes, all answers
of one length (`ignore_eos`). Of the passes of a way the one counts during which other processes took the least of the machine.

The rule that its reader must not break: compare ratios of one run. What a way costs here says nothing of a GPU, where sorting a
vocabulary is cheap. The last line of the output is one JSON object.
"""

import argparse
import asyncio
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.engine_cpu import Burst, burst, post_all, quietest, rollout_bodies
from factory.opening import cache_folder
from factory.serving.models import DEFAULT_MODEL, resolve_model
from factory.serving.server import choose_port, running
from factory.serving.server_command import launch
from schemas.recipe import Machine, ModelRef

PLAIN = "temperature 0.7"
WAYS: Mapping[str, Mapping[str, float]] = {
    "greedy": {"temperature": 0.0},
    PLAIN: {"temperature": 0.7},
    "top_k 50": {"temperature": 0.7, "top_k": 50},
    "min_p 0.05": {"temperature": 0.7, "min_p": 0.05},
    "top_p 0.95": {"temperature": 0.7, "top_p": 0.95},
}


@dataclass(frozen=True, slots=True)
class Cost:
    way: str
    tokens_per_s: float
    tokens_per_cpu_s: float  # for each second of CPU that the server and its children took
    ratio: float  # of tokens/s, to temperature alone
    others: float  # cores that other processes kept busy meanwhile


async def measure(console: Console, *, passes: int, requests: int, tokens: int) -> list[Cost]:
    ref, machine = ModelRef(model=DEFAULT_MODEL), Machine()
    model = resolve_model(ref, cache_folder(), console.print)
    start = launch(model, ref, machine, choose_port(machine.port))
    limits = httpx.Limits(max_connections=machine.max_num_seqs)
    bursts: dict[str, list[Burst]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as scratch:
        async with (
            running(start, machine.start_timeout, Path(scratch) / "vllm.log", console.print) as url,
            httpx.AsyncClient(timeout=600, limits=limits, trust_env=False) as client,
        ):
            server = next(child for child in psutil.Process().children() if str(start.port) in child.cmdline())
            await post_all(client, url, rollout_bodies(8, 8, "warm"), machine.max_num_seqs)
            for number in range(passes):
                for way, decoding in WAYS.items():
                    bodies = [{**body, **decoding} for body in rollout_bodies(requests, tokens, f"{number} {way}")]
                    bursts[way].append(
                        await burst(server, lambda bodies=bodies: post_all(client, url, bodies, machine.max_num_seqs))  # type: ignore[misc]
                    )
                    console.print(f"pass {number + 1} of {passes}, {way}: {bursts[way][-1].rate:.1f} tokens/s")
    return costs({way: quietest(found) for way, found in bursts.items()})


def costs(bursts: Mapping[str, Burst]) -> list[Cost]:
    plain = bursts[PLAIN].rate
    return [
        Cost(way, round(one.rate, 1), round(1 / one.cpu_s, 1), round(one.rate / plain, 2), round(one.others, 2))
        for way, one in bursts.items()
    ]


def table(rows: Sequence[Cost], *, at_once: int) -> Table:
    shown = Table(
        *("sampling", "tokens/s", "ratio", "tokens/CPU-s", "others' cores"),
        title=f"{at_once} requests at once, a vocabulary of 49,152",
    )
    for row in rows:
        shown.add_row(row.way, *map(str, (row.tokens_per_s, row.ratio, row.tokens_per_cpu_s, row.others)))
    return shown


def main(options: argparse.Namespace) -> None:
    load = {"passes": 1, "requests": 64, "tokens": 24} if options.quick else {"passes": 3, "requests": 64, "tokens": 48}
    rows = asyncio.run(measure(Console(stderr=True), **load))
    Console(width=120).print(table(rows, at_once=load["requests"]))
    print(json.dumps({"load": load, "rows": [asdict(row) for row in rows]}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sampling", description="What sampling costs a CPU.")
    parser.add_argument("--quick", action="store_true", help="each way once")
    main(parser.parse_args())
