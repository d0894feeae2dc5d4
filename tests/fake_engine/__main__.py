"""See `tests.fake_engine.process`."""

import argparse
import asyncio
import logging
import os
import sys
import time
from collections import deque

from aiohttp import web

from tests.fake_engine.faults import FAULTS, Dice, Script, Seen, no_faults, slowly, whenever
from tests.fake_engine.process import TOLD, Done
from tests.fake_engine.server import FakeEngine


def is_question(seen: Seen) -> bool:
    return seen.is_question


async def serve(options: argparse.Namespace) -> None:
    dice = Dice(options.faults, options.share, options.seed)
    script: Script = whenever(is_question, slowly(options.latency)) if options.latency else no_faults
    engine = FakeEngine(faults=dice if options.faults else script, seen=deque(maxlen=0), port=options.port)

    async def told(_: web.Request) -> web.Response:
        done = Done(engine.asked, dict(dice.dealt), engine.most_in_flight, time.process_time())
        return web.json_response(done._asdict())

    runner = await engine.start({TOLD: told})
    sys.stdout.write(f"{engine.port}\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.fake_engine", description="The fake engine.")
    parser.add_argument("--faults", nargs="*", choices=FAULTS, default=[], help="the faults to deal")
    parser.add_argument("--share", type=float, default=0.2, help="of the attempts that meet one")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that every answer takes; without faults")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--core", type=int, help="the core to stay on")
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    logging.getLogger("aiohttp.server").disabled = True  # it is meant that connections break
    asyncio.run(serve(options))
