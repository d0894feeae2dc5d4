"""Starts, waits for and stops a local vLLM server, a process of its own for each.

The rule that must not break: a server lives exactly as long as the `async with` block that asked for it. It runs under
`factory.serving.guard`, whose standard input we hold: closing it, or dying, takes the server and its children down.
"""

import asyncio
import re
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import httpx

from factory.serving.guard import guarded
from factory.serving.models import LocalModel
from factory.serving.server_command import Launch, launch
from schemas.errors import EngineUnavailable, RecipeError
from schemas.recipe import Machine, ModelRef

Say = Callable[[str], None]

LOOK = 0.25  # seconds between two looks at a server that is starting
SAY = 5.0  # seconds between two lines of progress

# What a line of vLLM's log says about the start, in the order in which the lines appear.
PHASES = (
    ("", "importing vLLM"),
    ("Resolved architecture", "starting the engine"),
    ("Starting to load model", "loading weights"),
    ("Loading weights took", "making room for the KV cache"),
    ("Warming up model", "compiling and warming up"),
    ("Dynamo bytecode transform", "compiling and warming up"),
    ("Capturing", "capturing CUDA graphs"),
    ("Supported tasks", "opening the port"),
)
PREFIX = re.compile(
    r"^(?:\x1b\[[0-9;]*m)*(?:\(\S+ pid=\d+\)(?:\x1b\[[0-9;]*m)*\s*)?(?:[A-Z]+ [\d-]+ [\d:]+ \[[^\]]*\])?\s*"
)
CAUSE = re.compile(r"^(?:[\w.]+(?:Error|Exception|Interrupt|Exit)\b|Value error,|.*\berror: )")
NOT_THE_CAUSE = ("Engine core initialization failed", "WorkerProc initialization failed", "cancelled")


def phase(log: str) -> str:
    """What a starting server does now, read off its log."""
    return max(PHASES, key=lambda entry: log.rfind(entry[0]) if entry[0] else -1)[1]


def last_words(log: str) -> str:
    """The line of a dead server's log that says why: the last one that names an error, else the last one."""
    lines = [line for line in (PREFIX.sub("", raw).strip() for raw in log.splitlines()) if line]
    causes = [line for line in lines if CAUSE.match(line) and not any(empty in line for empty in NOT_THE_CAUSE)]
    return (causes or lines or ["it wrote nothing"])[-1][:300]


def choose_port(wanted: int | None) -> int:
    """`wanted` if it is free, else RecipeError; any free port for None."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted or 0))
        except OSError as error:
            mend = "name another, or leave it out for a free one"
            raise RecipeError(f"machine.port {wanted} cannot be used ({error.strerror}): {mend}") from error
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class _Server:
    """A server that was started: its guard's process, and where in `log` its own output begins."""

    start: Launch
    process: subprocess.Popen[bytes]
    log: Path
    offset: int

    def output(self) -> str:
        return self.log.read_bytes()[self.offset :].decode(errors="replace")

    def failure(self, what: str) -> EngineUnavailable:
        return EngineUnavailable(f"vLLM {what} (log: {self.log})")

    async def healthy(self, client: httpx.AsyncClient) -> bool:
        try:
            return (await client.get(f"{self.start.address}/health", timeout=5)).is_success
        except httpx.TransportError:
            return False

    async def until_up(self, client: httpx.AsyncClient, timeout: float, say: Say) -> None:
        """Wait until the server answers. Raises EngineUnavailable if it ends before, or takes longer than `timeout`."""
        began = said = time.monotonic()
        while True:
            if self.process.poll() is not None:
                code = self.process.returncode
                raise self.failure(f"ended with code {code} while starting: {last_words(self.output())}")
            if await self.healthy(client):
                return
            now = time.monotonic()
            if now - began > timeout:
                doing = phase(self.output())
                raise self.failure(f"is not up after machine.start_timeout = {timeout:g} s, it was still {doing}")
            if now - said >= SAY:
                said = now
                say(f"vLLM: {phase(self.output())}, {now - began:.0f} s so far")
            await asyncio.sleep(LOOK)

    async def stop(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()  # the guard sees it and clears up
        try:
            while self.process.poll() is None:
                await asyncio.sleep(0.05)
        finally:
            self.process.wait()  # a second cancellation must not leave the port taken


def _spawn(start: Launch, log: Path) -> _Server:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        process = subprocess.Popen(
            guarded(start.argv, scratch="TMPDIR"),  # vLLM leaves sockets and other files where it is killed
            stdin=subprocess.PIPE,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=dict(start.env),
            start_new_session=True,  # Ctrl-C is ours to handle: it must not reach the server behind our back
        )
        return _Server(start=start, process=process, log=log, offset=sink.tell())


@asynccontextmanager
async def running(
    start: Launch, timeout: float, log: Path, say: Say, client: httpx.AsyncClient | None = None
) -> AsyncIterator[str]:
    """Run `start` for as long as the block lasts and yield its base URL. Its output is appended to `log`."""
    began = time.monotonic()
    server = _spawn(start, log)
    try:
        # A proxy named in the environment has no business between us and the loopback address.
        async with nullcontext(client) if client else httpx.AsyncClient(trust_env=False) as http:
            await server.until_up(http, timeout, say)
        say(f"vLLM: up after {time.monotonic() - began:.0f} s on port {start.port}")
        yield f"{start.address}/v1"
    finally:
        if server.process.poll() is not None:
            say(f"vLLM: ended by itself with code {server.process.returncode} (log: {log})")
        await server.stop()


@asynccontextmanager
async def serve(
    model: LocalModel, ref: ModelRef, machine: Machine, log: Path, say: Say, withheld: Collection[str] = ()
) -> AsyncIterator[str]:
    """A vLLM server for `model`, known to its clients as `ref.model`, for as long as the block lasts.

    `withheld`: environment variables that it must not see. Yields the base URL, `http://127.0.0.1:PORT/v1`. Raises
    ModelError where no vLLM can run here, RecipeError where `machine.port` is taken, and EngineUnavailable with the
    log's reason where the server does not come up.
    """
    start = launch(model, ref, machine, choose_port(machine.port), withheld)
    say(f"vLLM: starting {ref.model} on port {start.port} (log: {log})")
    async with running(start, machine.start_timeout, log, say) as url:
        yield url
