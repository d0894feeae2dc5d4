"""How fast the shipped model runs under vLLM's CPU build, and what each setting of the server is worth.

    python -m benchmarks.engine_cpu            every variant, three times each
    python -m benchmarks.engine_cpu --quick    the baseline and the default
    python -m benchmarks.engine_cpu --only "the default" "bfloat16, 128 sequences"

Through HTTP, on prompts from `data/prompts`: output tokens/s with as many requests at once as the server takes, and
calls/s as a judge (about 300 tokens in, one out), with fresh prompts and with prompts that the prefix cache knows.
The last line of the output is one JSON object.

The rule that its reader must not break: compare ratios to the baseline of the same run, never figures of two runs. The
baseline runs first and last, so that a machine that got slower in between shows. Of the repetitions the one counts
during which other processes took the least of the machine, and how much they took stands beside it.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle, islice
from pathlib import Path

import httpx
import psutil
from platformdirs import user_cache_path
from rich.console import Console
from rich.table import Table

from factory.serving.models import DEFAULT_MODEL, LocalModel, resolve_model
from factory.serving.server import choose_port, running
from factory.serving.server_command import Engine, Launch, arguments, environment, preloads
from schemas.recipe import Machine, ModelRef

PROMPTS = Path(__file__).parent.parent / "data" / "prompts"
RUBRIC = (
    "You grade answers. Read the question and the answer, then give one digit from 1 to 9: 1 is useless, wrong, or "
    "full of repetition, 5 is usable with effort, 9 is correct, complete and pleasant to read. Do not reward length. "
    "An answer that stops in the middle loses two points, one that says the same thing again loses three. "
) * 2
DIGITS = {"structured_outputs": {"choice": list("123456789")}}


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to start the server: what differs from the default."""

    name: str
    machine: Machine
    env: Mapping[str, str] = field(default_factory=dict)
    preload: bool = True


@dataclass(frozen=True, slots=True)
class Measured:
    variant: str
    start_s: float
    tokens_per_s: float
    tokens_per_cpu_s: float  # for each second of CPU that the server and its children took
    others: float  # cores that other processes kept busy meanwhile
    judge_fresh_per_s: float
    judge_cached_per_s: float


@dataclass(frozen=True, slots=True)
class Load:
    """How much is asked of each variant."""

    requests: int
    tokens: int
    repeat: int
    calls: int  # as a judge


def variant(
    name: str, *engine_args: str, preload: bool = True, env: Mapping[str, str] | None = None, **machine: object
) -> Variant:
    settings = Machine.model_validate({"engine_args": list(engine_args), **machine})
    return Variant(name=name, machine=settings, env=env or {}, preload=preload)


ONE_PROCESS = {  # the engine and its worker in one process, which then has to be told its threads itself
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "OMP_NUM_THREADS": str(os.cpu_count()),
    "KMP_AFFINITY": "disabled",  # the first process would bind itself to one core, and its children inherit that
    "KMP_BLOCKTIME": "5",
    "KMP_TPAUSE": "0",
}
BASELINE = variant("float32, no preload", dtype="float32", preload=False)
DEFAULT = variant("the default")
VARIANTS = (
    variant("float32, preload", dtype="float32"),
    variant("bfloat16, no preload", dtype="bfloat16", preload=False),
    variant("bfloat16", dtype="bfloat16"),
    variant("one process", dtype="bfloat16", env=ONE_PROCESS),
    variant("one process, one thread", dtype="bfloat16", env=ONE_PROCESS | {"OMP_NUM_THREADS": "1"}),
    variant("one thread", dtype="bfloat16", threads=1),
    variant("one process, compiled, cold", "--no-enforce-eager", dtype="bfloat16", env=ONE_PROCESS),
    variant("one process, compiled, warm", "--no-enforce-eager", dtype="bfloat16", env=ONE_PROCESS),
    variant("32 sequences", dtype="bfloat16", max_num_seqs=32),
    variant("128 sequences", dtype="bfloat16", max_num_seqs=128),
    variant("blocks of 32", "--block-size", "32", dtype="bfloat16"),
)


def conversations() -> list[list[dict[str, str]]]:
    """Every shipped prompt as messages, in the files' order."""
    found: list[list[dict[str, str]]] = []
    for path in sorted(PROMPTS.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            found.append(row.get("messages") or [{"role": "user", "content": row["prompt"]}])
    return found


def rollout_bodies(count: int, tokens: int, run: str) -> list[dict[str, object]]:
    """Six requests a prompt, one of them greedy, each with its own seed and all of the same length.

    Equal lengths (`ignore_eos`) give every variant the same work, whatever its numerics make the model say. `run`
    stands before each prompt, so that no repetition finds the prompts of another in the prefix cache.
    """
    prompts = conversations()
    step = max(1, len(prompts) // (count // 6 + 1))  # spread over all files
    chosen = (messages for messages in cycle(prompts[::step]) for _ in range(6))
    return [
        {
            "model": DEFAULT_MODEL,
            "messages": [{**messages[0], "content": f"({run}) {messages[0]['content']}"}, *messages[1:]],
            "max_tokens": tokens,
            "temperature": 0.0 if slot % 6 == 0 else 0.7,
            "seed": slot,
            "ignore_eos": True,
            "return_token_ids": True,
        }
        for slot, messages in enumerate(islice(chosen, count))
    ]


def judge_bodies(count: int, run: str) -> list[dict[str, object]]:
    """A shared rubric, then a question and an answer of its own for every call: about 300 tokens in all."""
    prompts = conversations()
    filler = " ".join(message["content"] for messages in prompts for message in messages).split()
    return [
        {
            "model": DEFAULT_MODEL,
            "messages": [{"role": "user", "content": f"{RUBRIC}\n{run}-{i}: {' '.join(filler[97 * i : 97 * i + 90])}"}],
            "max_tokens": 1,
            "temperature": 0.0,
            "logprobs": True,
            "top_logprobs": 20,
            **DIGITS,
        }
        for i in range(count)
    ]


async def post_all(client: httpx.AsyncClient, url: str, bodies: Sequence[Mapping[str, object]], at_once: int) -> int:
    """Send every body, `at_once` of them in flight. Returns the number of tokens that came back."""
    window = asyncio.Semaphore(at_once)

    async def one(body: Mapping[str, object]) -> int:
        async with window:
            reply = await client.post(f"{url}/chat/completions", json=body)
            reply.raise_for_status()
            return int(reply.json()["usage"]["completion_tokens"])

    return sum(await asyncio.gather(*(one(body) for body in bodies)))


def idle_share() -> float:
    """Seconds that the machine's cores have been idle so far, all of them together."""
    return sum(psutil.cpu_times(percpu=False)[3:5])


@dataclass(frozen=True, slots=True)
class Burst:
    rate: float
    cpu_s: float  # of the server and its children
    others: float  # cores that other processes (the client included) kept busy meanwhile


def cpu_seconds(server: psutil.Process) -> float:
    return sum(sum(each.cpu_times()[:2]) for each in [server, *server.children(recursive=True)])


async def burst(server: psutil.Process, work: Callable[[], Awaitable[int]]) -> Burst:
    began, idle, own = time.perf_counter(), idle_share(), cpu_seconds(server)
    count = await work()
    wall, cpu = time.perf_counter() - began, cpu_seconds(server) - own
    busy = wall * (os.cpu_count() or 1) - (idle_share() - idle)
    return Burst(rate=count / wall, cpu_s=cpu / count, others=max(0.0, busy - cpu) / wall)


def quietest(bursts: Sequence[Burst]) -> Burst:
    return min(bursts, key=lambda each: each.others)


def launch_of(variant: Variant, model: LocalModel, cache: Path) -> Launch:
    ref, port = ModelRef(model=DEFAULT_MODEL), choose_port(None)
    libraries = preloads() if variant.preload else []
    kept = {"VLLM_CACHE_ROOT": str(cache), "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor")}
    env = environment(Engine.CPU, variant.machine, libraries) | kept | dict(variant.env)
    return Launch(argv=tuple(arguments(Engine.CPU, model, ref, variant.machine, port)), env=env, port=port)


async def measure(variant: Variant, model: LocalModel, load: Load, scratch: Path) -> Measured:
    start, at_once = launch_of(variant, model, scratch / "cache"), variant.machine.max_num_seqs
    began = time.perf_counter()
    limits = httpx.Limits(max_connections=at_once)
    async with (
        running(start, variant.machine.start_timeout, scratch / "vllm.log", lambda _line: None) as url,
        httpx.AsyncClient(timeout=600, limits=limits, trust_env=False) as client,
    ):
        started = time.perf_counter() - began
        server = next(child for child in psutil.Process().children() if str(start.port) in child.cmdline())

        def send(bodies: Sequence[Mapping[str, object]]) -> Callable[[], Awaitable[int]]:
            return lambda: post_all(client, url, bodies, at_once)

        await send([*rollout_bodies(8, 8, "warm"), *judge_bodies(4, "warm")])()  # what is made at first use
        rolled = quietest(
            [await burst(server, send(rollout_bodies(load.requests, load.tokens, f"{i}"))) for i in range(load.repeat)]
        )
        fresh = quietest([await burst(server, send(judge_bodies(load.calls, f"{i}"))) for i in range(load.repeat)])
        cached = quietest([await burst(server, send(judge_bodies(load.calls, "0"))) for _ in range(load.repeat)])
    return Measured(
        variant=variant.name,
        start_s=round(started, 1),
        tokens_per_s=round(rolled.rate, 1),
        tokens_per_cpu_s=round(1 / rolled.cpu_s, 1),
        others=round(rolled.others, 2),
        judge_fresh_per_s=round(fresh.rate, 2),
        judge_cached_per_s=round(cached.rate, 2),
    )


def table(rows: Sequence[Measured]) -> Table:
    titles = (
        "variant",
        "start s",
        "tokens/s",
        "ratio",
        "tokens/CPU-s",
        "others' cores",
        "judge fresh/s",
        "judge cached/s",
    )
    shown = Table(*titles, title="SmolLM2-135M-Instruct on vLLM's CPU build")
    base = rows[0].tokens_per_s
    for row in rows:
        figures = (row.start_s, row.tokens_per_s, round(row.tokens_per_s / base, 2), row.tokens_per_cpu_s, row.others)
        shown.add_row(row.variant, *map(str, (*figures, row.judge_fresh_per_s, row.judge_cached_per_s)))
    return shown


def chosen(options: argparse.Namespace) -> list[Variant]:
    if options.quick:
        return [BASELINE, DEFAULT]
    picked = [each for each in (DEFAULT, *VARIANTS) if not options.only or each.name in options.only]
    return [BASELINE, *picked, BASELINE]


async def main(options: argparse.Namespace) -> None:
    console = Console(stderr=True)
    model = resolve_model(ModelRef(model=DEFAULT_MODEL), user_cache_path("prefactory"), console.print)
    load = Load(requests=48, tokens=32, repeat=1, calls=16) if options.quick else Load(48, 64, 3, 24)
    rows: list[Measured] = []
    with tempfile.TemporaryDirectory() as scratch:
        for each in chosen(options):
            rows.append(await measure(each, model, load, Path(scratch)))
            console.print(rows[-1])
    Console(width=140).print(table(rows))
    print(json.dumps({"load": asdict(load), "rows": [asdict(row) for row in rows]}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine_cpu", description="Speed of vLLM on this CPU.")
    parser.add_argument("--quick", action="store_true", help="the baseline and the default, once each")
    parser.add_argument("--only", nargs="+", metavar="VARIANT", help="these variants beside the baseline")
    asyncio.run(main(parser.parse_args()))
