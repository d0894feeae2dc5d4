"""Every engine of a run: local servers that are started one after the other, and servers that run already.

Local models share one machine's memory, so at most one local server is up: asking for another model stops the one before.
The same model asked for twice, as policy and as judge, is one server.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from factory.client.gate import Gate
from factory.client.probe import Probed
from factory.client.protocol import Ability
from factory.client.replicas import probe_all
from factory.client.transport import http_client
from factory.engine import Engine
from factory.files import temporary_of
from factory.progress import Progress
from factory.run import RunFolder
from factory.serving.models import LocalModel, resolve_model
from factory.serving.server import serve
from schemas.errors import EngineRefused
from schemas.manifest import Live, ServerNow
from schemas.price import Price
from schemas.recipe import Machine, ModelRef, Recipe, Rollouts

EVERY = 2.0  # seconds between two lines about the servers
LOW_MASS = 0.05  # of a judge's free answer on the nine digits, below which the probe warns


def digest_of(ref: ModelRef, cache: Path, say: Progress) -> str:
    """Of a local model's weights; a remote one is known by the name that it is asked for by."""
    return f"remote:{ref.model}" if ref.urls else resolve_model(ref, cache, say.say).digest


def model_refs(recipe: Recipe) -> dict[str, ModelRef]:
    """Every model of the run by the name of its role: `policy`, and each judge's that names one of its own."""
    refs = {"policy": recipe.policy}
    return refs | {ref.seat: ref.model for ref in recipe.jury.judges if ref.model is not None}


def prices_of(recipe: Recipe) -> dict[str, Price]:
    """Of every role that answers, where its model has a price: a judge without a model of its own is the policy."""
    refs = {seat.seat: seat.model or recipe.policy for seat in recipe.jury.judges} | {"policy": recipe.policy}
    prices = recipe.budget.prices
    return {role: prices[ref.model] for role, ref in refs.items() if ref.model in prices}


def say_live(path: Path, servers: Sequence[ServerNow]) -> None:
    """Whole or not at all, but not kept through a power cut: a few seconds later it is another. Raises OSError."""
    unfinished = temporary_of(path)
    unfinished.write_text(Live(at=time.time(), servers=list(servers)).model_dump_json(), encoding="utf-8")
    unfinished.replace(path)


@dataclass
class EngineRoom:
    """The engines of one process. Enter it as a context; leaving it stops whatever it started."""

    run: RunFolder
    machine: Machine
    cache: Path
    progress: Progress
    keys: frozenset[str]  # environment variables that hold keys: no local server sees them
    gate: Gate = field(default_factory=Gate)
    place: str = ""  # ends the names of its servers' logs, where several processes write into one run folder
    _open: dict[str, Engine] = field(default_factory=dict)
    _sent_before: int = 0
    _local: AsyncExitStack = field(default_factory=AsyncExitStack)
    _remote: AsyncExitStack = field(default_factory=AsyncExitStack)

    _saying: "asyncio.Task[None] | None" = None

    async def __aenter__(self) -> "EngineRoom":
        self._saying = asyncio.create_task(self._say_now())
        return self

    async def __aexit__(self, *details: object) -> None:
        assert self._saying is not None, "entered"
        self._saying.cancel()
        with suppress(asyncio.CancelledError):
            await self._saying
        with suppress(OSError):
            self.run.live_path.unlink(missing_ok=True)
        await self.close()

    async def close(self) -> None:
        """For who has not entered it, since somebody else says how the run fares: stop what was started."""
        await self.stop_local()
        await self._remote.aclose()

    async def _say_now(self) -> None:
        """How the servers fare, for whoever watches: no part of the run, and not worth a failure of it."""
        while True:
            await asyncio.sleep(EVERY)
            with suppress(OSError):
                say_live(self.run.live_path, self.servers())

    def servers(self) -> list[ServerNow]:
        return [
            ServerNow(url=one.url, state=one.state, in_flight=one.in_flight, places=one.window.places)
            for engine in self._open.values()
            for one in engine.replicas
        ]

    @property
    def sent(self) -> int:
        """HTTP attempts for answers so far, probes not counted."""
        return self._sent_before + sum(engine.sent for engine in self._open.values())

    async def engine(self, ref: ModelRef) -> Engine:
        """The engine for a model, started and probed if it is not there yet. Raises Fixable or Transient."""
        key = ref.model_dump_json()
        if key not in self._open:
            self._open[key] = await (self._reach(ref) if ref.urls else self._start(ref))
        return self._open[key]

    async def stop_local(self) -> None:
        """Stop the local server, if one is up, and give its memory back."""
        for key in [key for key in self._open if not ModelRef.model_validate_json(key).urls]:
            self._sent_before += self._open.pop(key).sent
        stack, self._local = self._local, AsyncExitStack()
        await stack.aclose()

    async def _start(self, ref: ModelRef) -> Engine:
        await self.stop_local()
        if ref.trust_remote_code:
            self.progress.say(f"warning: {ref.model}: its own code runs here, because trust_remote_code says so")
        model: LocalModel = resolve_model(ref, self.cache, self.progress.say)
        log = self.run.log_path(f"server-{Path(ref.model).name}{self.place}")
        url = await self._local.enter_async_context(serve(model, ref, self.machine, log, self.progress.say, self.keys))
        return await self._connect(self._local, ref, (url,))

    async def _reach(self, ref: ModelRef) -> Engine:
        return await self._connect(self._remote, ref, tuple(ref.urls))

    async def _connect(self, stack: AsyncExitStack, ref: ModelRef, urls: tuple[str, ...]) -> Engine:
        machine = self.machine
        key = os.environ.get(ref.api_key_env) if ref.api_key_env else None
        total = machine.concurrency * len(urls)
        client = await stack.enter_async_context(
            http_client(total, machine.request_timeout, key, machine.connect_timeout, machine.first_byte_timeout)
        )
        shown = f" with the key in {ref.api_key_env}" if key else ""
        self.progress.say(f"probing {', '.join(urls)} for {ref.model}{shown}")
        roster = await probe_all(client, urls, ref.model, self.progress.say)
        for line in dict.fromkeys(line for one in roster.probed for line in self._warnings(ref, one)):
            self.progress.say(line)
        return Engine(
            client,
            urls,
            roster.wire,
            machine.concurrency,
            say=self.progress.say,
            gate=self.gate,
            price=self.gate.budget.prices.get(ref.model),
            absent=roster.absent,
        )

    @staticmethod
    def _warnings(ref: ModelRef, probed: Probed) -> list[str]:
        lines = [f"warning: {ref.model}: the server lacks {line}" for line in probed.missing()]
        if probed.digit_mass is not None and probed.digit_mass < LOW_MASS:
            lines.append(
                f"warning: {ref.model}: asked for a digit it gives {probed.digit_mass:.1%} of its probability to digits: "
                "as a judge it is held to them, but it hardly means them"
            )
        return lines


def refuse_what_is_ignored(rollouts: Rollouts, engine: Engine) -> None:
    """Raises EngineRefused where the recipe sets a sampler that the policy's server does not know."""
    if Ability.SAMPLERS in engine.wire.abilities:
        return
    every = [rollouts.sampling, *rollouts.slots, *([rollouts.greedy] if rollouts.greedy else [])]
    neutral = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
    for name, off in neutral.items():
        for decoding in every:
            value = getattr(decoding, name)
            if value is not None and value != off:
                raise EngineRefused(
                    f"{', '.join(engine.urls)}: the server does not take {name}, which the recipe sets to {value}; "
                    "leave it out, or use a vLLM server"
                )
