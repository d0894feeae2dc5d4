"""A real server for a benchmark: started and probed as a run does it, with its counters.

The rule that must not break: `reset` empties the prefix cache, so that what was asked before is not what makes the next
arm cheap. Counters are read when the server has counted every request that it answered.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import httpx
from rich.console import Console

from factory.client.probe import probe
from factory.client.transport import http_client
from factory.engine import Engine, Sleep
from factory.opening import cache_folder
from factory.serving.models import DEFAULT_MODEL, resolve_model
from factory.serving.server import choose_port, running
from factory.serving.server_command import launch
from schemas.recipe import Machine, ModelRef

_SETTLE = 0.2  # seconds between two looks at counters that are still moving
_LOOKS = 150


@dataclass(frozen=True, slots=True)
class Counters:
    """What a server has done so far. Prefilled is what the prefix cache did not have."""

    calls: int
    prompt_tokens: int
    completion_tokens: int
    queried: int  # tokens that were looked up in the prefix cache
    hit: int

    def since(self, before: "Counters") -> "Counters":
        return Counters(*(now - then for now, then in zip(astuple(self), astuple(before), strict=True)))

    @property
    def prefilled(self) -> int:
        return self.queried - self.hit


_NAMES = (
    "vllm:request_success_total",
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:prefix_cache_queries_total",
    "vllm:prefix_cache_hits_total",
)


def read_counters(metrics: str) -> Counters:
    """From the text of `/metrics`, each summed over its labels. Raises ValueError where one is missing."""
    found: dict[str, float] = {}
    for line in metrics.splitlines():
        name, _, rest = line.partition("{")
        if name in _NAMES:
            found[name] = found.get(name, 0.0) + float(rest.rpartition(" ")[2])
    if missing := [name for name in _NAMES if name not in found]:
        raise ValueError(f"/metrics: no {', '.join(missing)}; this is not vLLM, or one that counts otherwise")
    return Counters(*(round(found[name]) for name in _NAMES))


@dataclass(frozen=True, slots=True)
class Served:
    """The shipped model behind a server of its own."""

    engine: Engine
    client: httpx.AsyncClient
    sleep: Sleep = asyncio.sleep

    @property
    def _root(self) -> str:
        return self.engine.urls[0].removesuffix("/v1")

    async def counters(self) -> Counters:
        """Looked at until two looks agree: the server counts a moment after it answers."""
        before = None
        for _ in range(_LOOKS):
            reply = await self.client.get(f"{self._root}/metrics")
            now = read_counters(reply.raise_for_status().text)
            if now == before:
                return now
            before = now
            await self.sleep(_SETTLE)
        raise TimeoutError("/metrics: the counters do not come to rest; somebody else asks this server")

    async def reset(self) -> None:
        """Empty the prefix cache."""
        reply = await self.client.post(f"{self._root}/reset_prefix_cache")
        if not reply.raise_for_status().json()["success"]:
            raise RuntimeError("/reset_prefix_cache: refused; somebody else asks this server")


@asynccontextmanager
async def served(console: Console, machine: Machine | None = None) -> AsyncIterator[Served]:
    """The development mode of the server is on: only there can the prefix cache be emptied."""
    ref, machine = ModelRef(model=DEFAULT_MODEL), machine or Machine()
    model = resolve_model(ref, cache_folder(), console.print)
    start = launch(model, ref, machine, choose_port(machine.port))
    start = replace(start, env={**start.env, "VLLM_SERVER_DEV_MODE": "1"})
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "server.log"
        async with (
            running(start, machine.start_timeout, log, console.print) as url,
            http_client(machine.concurrency, machine.request_timeout) as client,
            httpx.AsyncClient(timeout=machine.request_timeout, trust_env=False) as http,
        ):
            probed = await probe(client, url, ref.model)
            yield Served(Engine(client, (url,), probed.wire, machine.concurrency), http)
