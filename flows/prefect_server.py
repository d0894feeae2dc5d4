"""Prefect's own server for one process, where the user has none.

The rule that must not break: the server is gone when this process is, in whatever way it ends. So it runs under
`factory.serving.guard`, and not as Prefect would start it, which leaves it behind when the run is killed.
"""

import asyncio
import atexit
import os
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path

import httpx

from factory.keys import keyless
from factory.serving.guard import guarded
from factory.serving.server import choose_port
from schemas.errors import EngineUnavailable

LOOK = 0.1  # seconds between two looks at a server that is starting
TIMEOUT = 180.0  # seconds until it must be up
_running: dict[str, "subprocess.Popen[bytes]"] = {}  # by address; a process needs one, however many flows it runs
_APP = "prefect.server.api.server:create_app"


async def start(log: Path, withheld: Collection[str]) -> str:
    """The address of its API. Started where none runs yet; it ends with this process. Raises EngineUnavailable.

    `withheld`: environment variables that hold keys for other servers, which it must not see.
    """
    for address, known in _running.items():
        if known.poll() is None:
            return address
    port = choose_port(None)
    process = _spawn(port, log, withheld)
    atexit.register(_stop, process)
    url = f"http://127.0.0.1:{port}/api"
    began = time.monotonic()
    async with httpx.AsyncClient(trust_env=False) as client:
        while not await _answers(client, url):
            if process.poll() is not None or time.monotonic() - began > TIMEOUT:
                raise EngineUnavailable(f"Prefect's server does not start (log: {log}); without Prefect: --plain")
            await asyncio.sleep(LOOK)
    _running[url] = process
    return url


def _spawn(port: int, log: Path, withheld: Collection[str]) -> "subprocess.Popen[bytes]":
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "uvicorn", "--factory", _APP, "--host", "127.0.0.1", "--port", str(port)]
    with log.open("ab") as sink:
        return subprocess.Popen(
            guarded([*command, "--log-level", "error", "--lifespan", "on"]),
            stdin=subprocess.PIPE,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=keyless(os.environ, withheld)
            | {name: value for name, value in os.environ.items() if name.startswith("PREFECT_")}  # its own
            | {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"},
            start_new_session=True,  # Ctrl-C is ours to handle: it must not reach the server behind our back
        )


async def _answers(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(f"{url}/health", timeout=5)).is_success
    except httpx.TransportError:
        return False


def _stop(process: "subprocess.Popen[bytes]") -> None:
    if process.stdin is not None:
        process.stdin.close()  # the guard sees it and clears up
    process.wait()
