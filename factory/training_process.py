"""The process in which torch works: what it sees of the environment, and that it never outlives the factory.

The rule that must not break: no key reaches it, and nothing in it looks anything up on the network.
"""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO

from factory.keys import keyless
from factory.serving.guard import guarded

_DEVICES = "CUDA_VISIBLE_DEVICES"  # numbers or names, as a scheduler or a container may have set them


def training_environment(device: str, threads: int | None, withheld: Collection[str]) -> dict[str, str]:
    """One process holds one device, the first that may be seen. `device`: `cpu` hides every GPU.

    `threads`: None leaves that to torch. `withheld`: variables that it must not see.
    """
    env = keyless(os.environ, withheld) | {
        "HF_HUB_OFFLINE": "1",  # the weights are here already
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if threads is not None:
        env["OMP_NUM_THREADS"] = str(threads)
    env[_DEVICES] = "" if device == "cpu" else env.get(_DEVICES, "0").partition(",")[0]
    return env


@asynccontextmanager
async def training_process(
    module: str, plan: Path, environment: Mapping[str, str], stdout: int | IO[bytes], stderr: int | IO[bytes]
) -> AsyncIterator[Process]:
    """`python -m factory.training.MODULE PLAN`, which has ended when the context is left, however it is left."""
    process = await asyncio.create_subprocess_exec(
        *guarded([sys.executable, "-P", "-m", f"factory.training.{module}", str(plan)]),
        stdin=PIPE,
        stdout=stdout,
        stderr=stderr,
        env=dict(environment),
        start_new_session=True,  # Ctrl-C is ours to handle: it must not reach the training behind our back
    )
    try:
        yield process
    finally:
        assert process.stdin is not None, "it is piped: the guard lives as long as this pipe"
        process.stdin.close()
        while process.returncode is None:
            with suppress(asyncio.CancelledError):  # a second one must not leave the training running
                await process.wait()
