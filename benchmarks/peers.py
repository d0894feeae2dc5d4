"""The rollout stage beside those of distilabel and datatrove: same prompts, model, vLLM server, samples; time, and a kill.

    python -m benchmarks.peers                 20 prompts x 6 answers x 48 tokens, three times each: some seven minutes
    python -m benchmarks.peers --quick         6 prompts x 6 answers x 12 tokens, once each
    python -m benchmarks.peers --only prefactory datatrove

Each peer lives in an environment of its own, which is made with uv in the user's cache folder at the first run. Where one
does not install, its row says why. Between every arm and vLLM stands a counting proxy: it sees what is asked and what
comes back, and says when half of the answers are there. Then the arm is killed (SIGKILL, its children too), started again
with the same command, and what it asked for twice is counted. The last line of the output is one JSON object.

The rule that its reader must not break: `stage` is the time from the first request for an answer to the last reply, the same
measure for all. The engine is slower at first, so it is warmed with as many requests as an arm sends, and the arms begin in
another order each time; a ratio is taken within a time, and the median of those is the figure. Each arm uses what it has by
default to go on from; the two settings that are chosen here are those that it needs for that (a cache folder, checkpoints of
ten prompts), and how many answers are in flight, which is the same for all.
"""

import argparse
import asyncio
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import aiohttp
from platformdirs import user_cache_path
from rich.console import Console
from rich.table import Table

from benchmarks.engine_cpu import PROMPTS
from benchmarks.peer_arms import AT_ONCE, PATIENCE, PEERS, SAMPLES, Arm, arm_of, finish, kill, last_words, start
from benchmarks.peer_proxy import Proxy, Seen
from factory.serving.models import DEFAULT_MODEL, resolve_model
from factory.serving.server import serve
from schemas.recipe import Machine, ModelRef

TIMES = 3
AFTER_A_KILL = ("given_at_kill", "kept", "asked_again", "finished")


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
    """Of `wanted` answers: how many had come back at the kill, how many of those were kept, how many were asked again.

    None where the second run came to no end: what it would have asked for is not known.
    """

    arm: str
    wanted: int
    given_at_kill: int
    kept: int | None
    asked_again: int | None  # beyond what was wanted, those in flight at the kill included
    finished: bool


def prompts_of(count: int) -> list[str]:
    lines = (PROMPTS / "short_answers.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["prompt"] for line in lines[:count]]


async def timed(arm: Arm, proxy: Proxy, wanted: int, log: Path) -> Timed:
    proxy.seen, began = Seen(), time.monotonic()
    done = await finish(await start(arm, log))
    whole, seen = time.monotonic() - began, proxy.seen
    if not done or seen.given < wanted or seen.first is None:
        raise RuntimeError(f"gave {seen.given} of {wanted} answers: {last_words(log)}")
    stage = seen.last - seen.first
    return Timed(arm.name, seen.given, seen.tokens, round(stage, 6), round(whole, 6), round(seen.tokens / stage, 1))


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
    if not await finish(await start(arm, log)):
        return Killed(arm.name, wanted, given, None, None, finished=False)
    return Killed(arm.name, wanted, given, wanted - second.asked, first.asked + second.asked - wanted, finished=True)


async def measure(options: argparse.Namespace, scratch: Path, console: Console) -> dict[str, object]:
    prompts, tokens = prompts_of(options.prompts), options.tokens
    source, wanted = scratch / "prompts.jsonl", len(prompts) * SAMPLES
    source.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts), encoding="utf-8")
    ref, machine = ModelRef(model=DEFAULT_MODEL), Machine()
    model = resolve_model(ref, user_cache_path("prefactory"), console.print)
    arms = list(options.only or ("prefactory", *PEERS))
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(serve(model, ref, machine, scratch / "vllm.log", console.print))
        proxy = await stack.enter_async_context(Proxy(served, prompts))
        await _warm(proxy.url, prompts, tokens)
        stand = Stand(scratch, source, proxy, tokens, wanted, console)
        for time_ in range(options.times):
            for name in turned(arms, time_):
                await stand.measure(name, time_)
        for name in arms:
            await stand.kill(name)
    return {
        "prompts": len(prompts),
        "samples": SAMPLES,
        "tokens": tokens,
        "at_once": AT_ONCE,
        "times": options.times,
        "timed": [asdict(one) for each in stand.speed for one in each.values()],
        "median": medians(arms, stand.speed),
        "killed": [asdict(one) for one in stand.kills],
        "absent": stand.absent,
    }


@dataclass
class Stand:
    """What all arms share, and what came out. An arm that fails once is not tried again; `absent` says why."""

    scratch: Path
    source: Path
    proxy: Proxy
    tokens: int
    wanted: int
    console: Console
    speed: list[dict[str, Timed]] = field(default_factory=list)  # by arm, for each time
    kills: list[Killed] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)

    async def measure(self, name: str, time_: int) -> None:
        if len(self.speed) <= time_:
            self.speed.append({})
        with self._told(name):
            arm = self._arm(name, f"{name}-{time_}")
            self.speed[time_][name] = await timed(arm, self.proxy, self.wanted, self._log(name))
            self.console.print(self.speed[time_][name])

    async def kill(self, name: str) -> None:
        with self._told(name):
            arm = self._arm(name, f"{name}-killed")
            self.kills.append(await killed(arm, self.proxy, self.wanted, self._log(name)))
            self.console.print(self.kills[-1])

    def _arm(self, name: str, folder: str) -> Arm:
        return arm_of(name, self.scratch / folder, self.source, self.proxy.url, self.tokens)

    def _log(self, name: str) -> Path:
        return self.scratch / f"{name}.log"

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, TimeoutError, FileNotFoundError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", None) or str(error)
            self.absent[name] = " ".join(str(said).split())[-300:]
            self.console.print(name, self.absent[name])


def turned(arms: Sequence[str], by: int) -> list[str]:
    """The arms, beginning with another one each time."""
    start = by % len(arms)
    return [*arms[start:], *arms[:start]]


async def _warm(url: str, prompts: Sequence[str], tokens: int) -> None:
    """What the engine makes at first use, and the prompts in its prefix cache, so that no arm pays for the others."""
    places = asyncio.Semaphore(AT_ONCE)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as client:

        async def ask(prompt: str) -> None:
            body = {"model": DEFAULT_MODEL, "messages": [{"role": "user", "content": prompt}], "max_tokens": tokens}
            async with places, client.post(f"{url}/chat/completions", json=body) as reply:
                reply.raise_for_status()

        await asyncio.gather(*(ask(prompt) for prompt in prompts for _ in range(SAMPLES)))


def medians(arms: Sequence[str], speed: Sequence[Mapping[str, Timed]]) -> list[dict[str, object]]:
    """Each arm's tokens a second, and its time for a token over prefactory's of the same time: sampled answers differ in
    length. None where there is nothing to compare with.
    """
    found = []
    for arm in arms:
        own = [each[arm].tokens_per_s for each in speed if arm in each]
        ratios = [
            each["prefactory"].tokens_per_s / each[arm].tokens_per_s
            for each in speed
            if arm in each and "prefactory" in each
        ]
        if own:
            ratio = round(median(ratios), 2) if ratios else None
            found.append({"arm": arm, "times": len(own), "tokens_per_s": round(median(own), 1), "time_ratio": ratio})
    return found


def table(found: Mapping[str, object]) -> Table:
    shown = Table("arm", "times", "tokens/s", "time/ours", "whole s", "at kill", "kept", "asked again", "finished")
    killed_by = {str(row["arm"]): row for row in _rows(found["killed"])}
    for row in _rows(found["median"]):
        kill_row = killed_by.get(str(row["arm"]), {})
        after = ["-" if kill_row.get(name) is None else str(kill_row[name]) for name in AFTER_A_KILL]
        whole = median(float(str(one["whole_s"])) for one in _rows(found["timed"]) if one["arm"] == row["arm"])
        told = [str(row[name]) for name in ("arm", "times", "tokens_per_s", "time_ratio")]
        shown.add_row(*told, f"{whole:.1f}", *after)
    return shown


def _rows(value: object) -> list[dict[str, object]]:
    assert isinstance(value, list)
    return value


def main(options: argparse.Namespace) -> None:
    if options.quick:
        options.prompts, options.tokens, options.times = 6, 12, 1
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
    parser.add_argument("--times", type=int, default=TIMES)
    parser.add_argument("--only", nargs="+", choices=("prefactory", *PEERS))
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="copy what the arms wrote and said there")
    main(parser.parse_args())
