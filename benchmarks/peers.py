"""The rollout stage beside those of distilabel and datatrove: same prompts, model, vLLM server, samples; time, and a kill.

    python -m benchmarks.peers                 20 prompts x 6 answers x 48 tokens: some seven minutes on two cores
    python -m benchmarks.peers --quick         6 prompts x 6 answers x 12 tokens
    python -m benchmarks.peers --only prefactory datatrove

Each peer lives in an environment of its own, which is made with uv in the user's cache folder at the first run. Where one
does not install, its row says why. Between every arm and vLLM stands a counting proxy: it sees what is asked and what
comes back, and says when half of the answers are there. Then the arm is killed (SIGKILL, its children too), started again
with the same command, and what it asked for twice is counted. The last line of the output is one JSON object.

The rule that its reader must not break: `stage` is the time from the first request for an answer to the last reply, the same
measure for all. Compare its ratio, never the seconds of two runs. Each arm uses what it has by default to go on from; the
two settings that are chosen here are those that it needs for that (a cache folder, checkpoints of ten prompts), and how
many answers are in flight, which is the same for all.
"""

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import aiohttp
import psutil
import yaml
from aiohttp import web
from platformdirs import user_cache_path
from rich.console import Console
from rich.table import Table

from benchmarks.engine_cpu import PROMPTS
from factory.guard import guarded
from factory.models import DEFAULT_MODEL, resolve_model
from factory.server import serve
from schemas.recipe import Machine, ModelRef

HERE = Path(__file__).parent
SAMPLES, AT_ONCE = 6, 60
PEERS = {  # distilabel's own list lacks the last two, without which it does not start and does not end
    "distilabel": ("distilabel[openai]>=1.5", "requests", "beautifulsoup4"),
    "datatrove": ("datatrove[io,inference]>=0.10",),
}
PATIENCE = 300.0  # seconds for one command


@dataclass(frozen=True, slots=True)
class Arm:
    """A way to get the answers: its command, and its environment."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]


@dataclass(slots=True)
class Seen:
    """What passed the proxy since it was last reset: answers asked for and given, and when."""

    asked: int = 0
    given: int = 0
    tokens: int = 0
    first: float | None = None
    last: float = 0.0
    half: asyncio.Event = field(default_factory=asyncio.Event)
    enough: int = sys.maxsize  # answers after which `half` is set


@dataclass(frozen=True, slots=True)
class Timed:
    arm: str
    answers: int
    tokens: int
    stage_s: float
    whole_s: float
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Killed:
    """Of `wanted` answers: how many had come back at the kill, how many of those were kept, how many were asked again."""

    arm: str
    wanted: int
    given_at_kill: int
    kept: int
    asked_again: int  # beyond what was wanted, those in flight at the kill included
    finished: bool


class Proxy:
    """Between the arms and the server. Only requests about the benchmark's own prompts are counted."""

    def __init__(self, target: str, prompts: Sequence[str]) -> None:
        self.target, self.prompts, self.seen, self.url = target.removesuffix("/v1"), frozenset(prompts), Seen(), ""

    async def __aenter__(self) -> "Proxy":
        self._client = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._pass)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await self._client.close()

    async def _pass(self, request: web.Request) -> web.Response:
        body, seen = await request.read(), self.seen
        answers = self._answers(body)
        seen.asked += answers
        if answers and seen.first is None:
            seen.first = time.monotonic()
        kept = {name: value for name, value in request.headers.items() if name.lower() == "content-type"}
        async with self._client.request(
            request.method, self.target + request.raw_path, data=body, headers=kept
        ) as reply:
            content = await reply.read()
        if answers and reply.status == 200:
            seen.last = time.monotonic()
            seen.given += answers
            seen.tokens += int(json.loads(content)["usage"]["completion_tokens"])
            if seen.given >= seen.enough:
                seen.half.set()
        return web.Response(status=reply.status, body=content, content_type=reply.content_type)

    def _answers(self, body: bytes) -> int:
        """How many answers a request asks for; 0 where it asks about something else."""
        document = json.loads(body) if body else {}
        messages = document.get("messages") or [{}]
        return int(document.get("n") or 1) if messages[-1].get("content") in self.prompts else 0


def prompts_of(count: int) -> list[str]:
    lines = (PROMPTS / "short_answers.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["prompt"] for line in lines[:count]]


def environment_of(peer: str) -> Path:
    """The Python of a peer's environment, made where it is not there. Raises CalledProcessError, FileNotFoundError."""
    wanted = hashlib.sha256(" ".join(PEERS[peer]).encode()).hexdigest()[:8]
    folder = user_cache_path("prefactory") / "peers" / f"{peer}-{wanted}"
    python = folder / "bin" / "python"
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}") or "uv"
    if not (folder / "whole").exists():
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        line = [uv, "pip", "install", "--quiet", "--python", str(python), *PEERS[peer]]
        subprocess.run(line, check=True, capture_output=True, text=True)
        (folder / "whole").touch()
    return python


def own_arm(folder: Path, source: Path, url: str, tokens: int) -> Arm:
    recipe = {
        "name": "peer",
        "prompts": {"sources": [{"path": str(source)}]},
        "policy": {"model": DEFAULT_MODEL, "urls": [url]},
        "rollouts": {"max_tokens": tokens, "sampling": {"temperature": 0.7}, "repetition_detection": None},
        "jury": {"judges": [{"judge": "clarity"}]},
        "machine": {"runs": str(folder / "runs"), "concurrency": AT_ONCE},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    line = (sys.executable, "-m", "flows.cli", "rollout", str(folder / "recipe.yaml"))
    return Arm("prefactory", line, dict(os.environ))


def peer_arm(name: str, folder: Path, source: Path, url: str, tokens: int) -> Arm:
    python, script = environment_of(name), HERE / f"peer_{name}.py"
    folder.mkdir(parents=True, exist_ok=True)
    told = (str(source), url, DEFAULT_MODEL, str(SAMPLES), str(tokens), str(AT_ONCE), str(folder))
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return Arm(name, (str(python), str(script), *told), env | {"HF_HUB_OFFLINE": "1"})


def arm_of(name: str, folder: Path, source: Path, url: str, tokens: int) -> Arm:
    return (own_arm if name == "prefactory" else lambda *more: peer_arm(name, *more))(folder, source, url, tokens)


async def start(arm: Arm, log: Path) -> asyncio.subprocess.Process:
    """Under a guard, which holds the other end of the pipe: an arm ends with this benchmark, however that is stopped."""
    line = guarded(arm.command)
    with log.open("ab") as sink:
        return await asyncio.create_subprocess_exec(
            *line, stdin=subprocess.PIPE, stdout=sink, stderr=sink, env=arm.env, start_new_session=True
        )


async def finish(process: asyncio.subprocess.Process) -> bool:
    """Whether it ended well in time; if not in time, it is killed."""
    try:
        return await asyncio.wait_for(process.wait(), PATIENCE) == 0
    except TimeoutError:
        await kill(process)
        return False


async def kill(process: asyncio.subprocess.Process) -> None:
    """SIGKILL, with all that came of it. Its guard sees that, and ends by itself."""
    for one in psutil.Process(process.pid).children(recursive=True):
        try:
            one.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    await process.wait()


def last_words(log: Path) -> str:
    return (log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1][:200]


async def timed(arm: Arm, proxy: Proxy, wanted: int, log: Path) -> Timed:
    proxy.seen, began = Seen(), time.monotonic()
    done = await finish(await start(arm, log))
    whole, seen = time.monotonic() - began, proxy.seen
    if not done or seen.given < wanted or seen.first is None:
        raise RuntimeError(f"gave {seen.given} of {wanted} answers: {last_words(log)}")
    stage = seen.last - seen.first
    return Timed(arm.name, seen.given, seen.tokens, round(stage, 2), round(whole, 2), round(seen.tokens / stage, 1))


async def killed(arm: Arm, proxy: Proxy, wanted: int, log: Path) -> Killed:
    proxy.seen = first = Seen(enough=wanted // 2)
    process = await start(arm, log)
    ended, half = asyncio.ensure_future(process.wait()), asyncio.ensure_future(first.half.wait())
    await asyncio.wait({ended, half}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    given = first.given
    half.cancel()
    if not ended.done():
        await kill(process)
    if not first.half.is_set():
        raise RuntimeError(f"gave {given} of {wanted} answers and ended before it could be killed: {last_words(log)}")
    await asyncio.sleep(2)  # the proxy notices who is gone, and vLLM stops writing for them
    proxy.seen = second = Seen()
    done = await finish(await start(arm, log))
    kept = wanted - second.asked
    return Killed(arm.name, wanted, given, kept, first.asked + second.asked - wanted, done)


async def measure(options: argparse.Namespace, scratch: Path, console: Console) -> dict[str, object]:
    prompts, tokens = prompts_of(options.prompts), options.tokens
    source, wanted = scratch / "prompts.jsonl", len(prompts) * SAMPLES
    source.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts), encoding="utf-8")
    ref, machine = ModelRef(model=DEFAULT_MODEL), Machine()
    model = resolve_model(ref, user_cache_path("prefactory"), console.print)
    speed, kills, absent = list[Timed](), list[Killed](), dict[str, str]()
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(serve(model, ref, machine, scratch / "vllm.log", console.print))
        proxy = await stack.enter_async_context(Proxy(served, prompts))
        await _warm(proxy.url, prompts)
        for name in options.only or ("prefactory", *PEERS):
            log = scratch / f"{name}.log"
            try:
                speed.append(await timed(arm_of(name, scratch / name, source, proxy.url, tokens), proxy, wanted, log))
                console.print(speed[-1])
                kills.append(
                    await killed(
                        arm_of(name, scratch / f"{name}-killed", source, proxy.url, tokens), proxy, wanted, log
                    )
                )
                console.print(kills[-1])
            except (RuntimeError, TimeoutError, FileNotFoundError, subprocess.CalledProcessError) as error:
                said = getattr(error, "stderr", None) or str(error)
                absent[name] = " ".join(str(said).split())[-300:]
                console.print(name, absent[name])
    return {
        "prompts": len(prompts),
        "samples": SAMPLES,
        "tokens": tokens,
        "at_once": AT_ONCE,
        "timed": [asdict(one) | {"stage_ratio": ratio(one, speed)} for one in speed],
        "killed": [asdict(one) for one in kills],
        "absent": absent,
    }


async def _warm(url: str, prompts: Sequence[str]) -> None:
    """What the engine makes at first use, and the prompts in its prefix cache, so that no arm pays for the others."""
    async with aiohttp.ClientSession() as client:
        for prompt in prompts:
            body = {"model": DEFAULT_MODEL, "messages": [{"role": "user", "content": prompt}], "max_tokens": 2}
            async with client.post(f"{url}/chat/completions", json=body) as reply:
                reply.raise_for_status()


def ratio(one: Timed, speed: Sequence[Timed]) -> float | None:
    """Its stage over prefactory's, by token, since sampled answers differ in length."""
    own = next((each for each in speed if each.arm == "prefactory"), None)
    return round(own.tokens_per_s / one.tokens_per_s, 2) if own else None


def table(found: Mapping[str, object]) -> Table:
    shown = Table(
        "arm", "answers", "tokens", "stage s", "tokens/s", "time/ours", "at kill", "kept", "asked again", "finished"
    )
    killed_by = {str(row["arm"]): row for row in _rows(found["killed"])}
    for row in _rows(found["timed"]):
        kill_row = killed_by.get(str(row["arm"]), {})
        after = [str(kill_row.get(name, "-")) for name in ("given_at_kill", "kept", "asked_again", "finished")]
        told = [str(row[name]) for name in ("arm", "answers", "tokens", "stage_s", "tokens_per_s", "stage_ratio")]
        shown.add_row(*told, *after)
    return shown


def _rows(value: object) -> list[dict[str, object]]:
    assert isinstance(value, list)
    return value


def main(options: argparse.Namespace) -> None:
    if options.quick:
        options.prompts, options.tokens = 6, 12
    with tempfile.TemporaryDirectory(prefix="prefactory-peers-") as scratch:
        found = asyncio.run(measure(options, Path(scratch), Console(stderr=True)))
        if options.keep:
            shutil.copytree(scratch, options.keep, dirs_exist_ok=True)
    Console(width=120).print(table(found))
    absent = found["absent"]
    assert isinstance(absent, dict)
    for name, why in absent.items():
        print(f"{name}: not measured: {why}")
    print(json.dumps(found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description="Beside other tools, one server.")
    parser.add_argument("--quick", action="store_true", help="6 prompts, 12 tokens")
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--only", nargs="+", choices=("prefactory", *PEERS))
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="copy what the arms wrote and said there")
    main(parser.parse_args())
