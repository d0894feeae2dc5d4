"""How fast the shipped model runs under vLLM's CPU build, and what each setting of the server is worth.

    python -m benchmarks.engine_cpu            every variant, three times each
    python -m benchmarks.engine_cpu --quick    the baseline and the default
    python -m benchmarks.engine_cpu --only "the default" "bfloat16, 128 sequences"

Through HTTP, on prompts from `data/prompts`: output tokens/s with as many requests at once as the server takes, and
calls/s as a judge (about 300 tokens in, one out), with fresh prompts and with prompts that the prefix cache knows.
The last line of the output is one JSON object.

The rule that its reader must not break: compare ratios to the baseline of the same run, never figures of two runs. The
baseline runs first and last, so that a machine that got slower in between shows.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import cycle, islice
from pathlib import Path

import httpx
from platformdirs import user_cache_path
from rich.console import Console
from rich.table import Table

from factory.models import DEFAULT_MODEL, LocalModel, resolve_model
from factory.server import choose_port, running
from factory.server_command import Engine, Launch, arguments, environment, preloads
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
    machine: Machine = Machine()
    env: Mapping[str, str] = field(default_factory=dict)
    preload: bool = True


@dataclass(frozen=True, slots=True)
class Measured:
    variant: str
    start_s: float
    tokens_per_s: float  # median of the repetitions
    spread: float  # (largest - smallest) / median
    judge_fresh_per_s: float
    judge_cached_per_s: float


@dataclass(frozen=True, slots=True)
class Load:
    """How much is asked of each variant."""

    requests: int
    tokens: int
    repeat: int
    calls: int  # as a judge


def variant(name: str, *engine_args: str, preload: bool = True, env: Mapping[str, str] | None = None, **machine: object) -> Variant:
    settings = Machine.model_validate({"engine_args": list(engine_args), **machine})
    return Variant(name=name, machine=settings, env=env or {}, preload=preload)


BASELINE = variant("float32, no preload", dtype="float32", preload=False)
DEFAULT = variant("the default")
VARIANTS = (
    variant("float32", dtype="float32"),
    variant("bfloat16", dtype="bfloat16"),
)


def conversations() -> list[list[dict[str, str]]]:
    """Every shipped prompt as messages, in the files' order."""
    found: list[list[dict[str, str]]] = []
    for path in sorted(PROMPTS.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            found.append(row.get("messages") or [{"role": "user", "content": row["prompt"]}])
    return found


def rollout_bodies(count: int, tokens: int) -> list[dict[str, object]]:
    """Six requests a prompt, one of them greedy, each with its own seed and all of the same length.

    Equal lengths (`ignore_eos`) give every variant the same work, whatever its numerics make the model say.
    """
    prompts = conversations()
    step = max(1, len(prompts) // (count // 6 + 1))  # spread over all files
    chosen = (messages for messages in cycle(prompts[::step]) for _ in range(6))
    return [
        {
            "model": DEFAULT_MODEL,
            "messages": messages,
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
            "messages": [{"role": "user", "content": f"{RUBRIC}\nAnswer {run}-{i}: {' '.join(islice(cycle(filler), 97 * i, 97 * i + 90))}"}],
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


async def rate(work: Callable[[], Awaitable[int]]) -> float:
    """What `work` counts, for each second that it takes."""
    began = time.perf_counter()
    return await work() / (time.perf_counter() - began)


def launch_of(variant: Variant, model: LocalModel) -> Launch:
    ref, port = ModelRef(model=DEFAULT_MODEL), choose_port(None)
    env = environment(Engine.CPU, variant.machine, preloads() if variant.preload else []) | dict(variant.env)
    return Launch(argv=tuple(arguments(Engine.CPU, model, ref, variant.machine, port)), env=env, port=port)


async def measure(variant: Variant, model: LocalModel, load: Load, log: Path, say: Callable[[str], None]) -> Measured:
    began = time.perf_counter()
    async with running(launch_of(variant, model), variant.machine.start_timeout, log, lambda _line: None) as url:
        started = time.perf_counter() - began
        limits = httpx.Limits(max_connections=variant.machine.max_num_seqs)
        async with httpx.AsyncClient(timeout=600, limits=limits, trust_env=False) as client:
            at_once = variant.machine.max_num_seqs
            await post_all(client, url, rollout_bodies(8, 8), at_once)  # what is made at first use is not the setting's
            rates = [
                await rate(lambda: post_all(client, url, rollout_bodies(load.requests, load.tokens), at_once))
                for _ in range(load.repeat)
            ]
            await post_all(client, url, judge_bodies(4, "warm"), at_once)
            fresh, cached = [
                await rate(lambda: post_all(client, url, judge_bodies(load.calls, "judged"), at_once)) for _ in range(2)
            ]
    middle = statistics.median(rates)
    measured = Measured(
        variant=variant.name,
        start_s=round(started, 1),
        tokens_per_s=round(middle, 1),
        spread=round((max(rates) - min(rates)) / middle, 2),
        judge_fresh_per_s=round(fresh, 2),
        judge_cached_per_s=round(cached, 2),
    )
    say(str(measured))
    return measured
