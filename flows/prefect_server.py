"""Prefect's own API server for one run, where the user has none: a process of ours, under our guard.

Prefect would start one too, but in our process group, so that Ctrl-C takes it away while answers are still waited for, and
in nobody's care, so that it outlives a factory that was killed.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

import httpx

from factory.guard import guarded
from factory.server import choose_port
from schemas.errors import EngineUnavailable

LOOK = 0.1  # seconds between two looks at a server that is starting
PATIENCE = 180.0  # seconds until it must be up
SETTINGS = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}


def _command(port: int) -> list[str]:
    spec = find_spec("prefect")
    assert spec is not None, "it is a dependency"
    assert spec.origin is not None, "it has code"
    app = ["--app-dir", str(Path(spec.origin).parent), "--factory", "prefect.server.api.server:create_app"]
    where = ["--host", "127.0.0.1", "--port", str(port)]
    return [sys.executable, "-m", "uvicorn", *app, *where, "--log-level", "error", "--lifespan", "on"]


@asynccontextmanager
async def prefect_server(log: Path) -> AsyncIterator[str]:
    """Its API's address, for as long as the block lasts. Raises EngineUnavailable where it does not come up."""
    port = choose_port(None)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        process = subprocess.Popen(
            guarded(_command(port)),
            stdin=subprocess.PIPE,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env={**os.environ, **SETTINGS},
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}/api"
        await _until_up(process, url, log)
        yield url
    finally:
        assert process.stdin is not None, "a pipe, as asked for above"
        process.stdin.close()  # the guard sees it and clears up
        await asyncio.shield(asyncio.to_thread(process.wait))


async def _until_up(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    async with httpx.AsyncClient(trust_env=False) as client:
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                raise EngineUnavailable(f"Prefect's server did not come up (log: {log}); --plain goes without it")
            try:
                if (await client.get(f"{url}/health", timeout=5)).is_success:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(LOOK)
