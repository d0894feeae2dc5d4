"""The loopback server of `benchmarks.kills`, a process of its own: it survives the run that is killed.

    python -m benchmarks.kill_server LOG SECONDS [ABILITY…]

Answers by rule (`tests.fake_engine`), each after SECONDS, without the abilities that are named. A line of LOG for each question
that arrives: a letter, the time, and the digest of the question.
"""

import asyncio
import hashlib
import json
import sys
from pathlib import Path

from aiohttp import web

from benchmarks.asked import ARRIVED, PROBED, writer
from factory.client.protocol import Ability
from tests.fake_engine import CHAT, Body, FakeEngine, Fault, Script, Seen


def digest(body: Body) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:32]


def logging_script(log: Path, seconds: float) -> Script:
    """Every question is written down, and answered late."""
    note = writer(log)

    def script(seen: Seen) -> Fault | None:
        if seen.path != CHAT or seen.is_canary:
            note(PROBED, digest(seen.body))
            return None
        note(ARRIVED, digest(seen.body))

        async def late(_: web.Request, answer: Body) -> web.StreamResponse:
            await asyncio.sleep(seconds)
            return web.json_response(answer)

        return late

    return script


def main(log: str, seconds: str, *without: str) -> None:
    abilities = frozenset(Ability) - {Ability(name) for name in without}
    with FakeEngine(abilities=abilities, faults=logging_script(Path(log), float(seconds))) as engine:
        print(engine.url, flush=True)
        sys.stdin.read()  # until the one who started us lets go


if __name__ == "__main__":
    main(*sys.argv[1:])
