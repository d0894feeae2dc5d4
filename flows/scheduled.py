"""A round as a Prefect flow, one task for each shard and stage. The only module that imports prefect.

Prefect holds no state of ours: a task takes a number, does what the plain run does, and returns nothing, so that both
write the same rows. Without a server of the user's (PREFECT_API_URL) an ephemeral one is started for the run, which
keeps its database in the user's cache folder and phones nobody.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from factory.opening import cache_folder
from flows.plain import PlainRunner
from schemas.errors import Transient

SETTINGS = {
    "PREFECT_HOME": str(cache_folder() / "prefect"),
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # The command says in one line what went wrong; on a server of the user's, Prefect's own log is wanted.
    "PREFECT_LOGGING_LEVEL": "INFO" if "PREFECT_API_URL" in os.environ else "CRITICAL",
    "PREFECT_LOGGING_SERVER_LEVEL": "CRITICAL",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "PREFECT_CLI_PROMPT": "false",
}
for _name, _value in SETTINGS.items():
    os.environ.setdefault(_name, _value)
Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)

from prefect import flow, task  # noqa: E402  # reads its settings from the environment when it is imported
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.client.schemas.objects import State, TaskRun  # noqa: E402
from prefect.tasks import Task  # noqa: E402

RETRIES = 2
RETRY_DELAYS = [5.0, 30.0]  # seconds


async def _may_help(_: "Task[..., object]", __: TaskRun, state: State) -> bool:
    """Only what a retry may cure: a wrong key stays wrong."""
    return isinstance(await state.aresult(raise_on_failure=False), Transient)


@dataclass(frozen=True, slots=True)
class PrefectRunner:
    """Each shard of a stage is a task run of the flow that is running."""

    in_flight: int

    async def each(self, stage: str, do: Callable[[int], Awaitable[object]], pending: Sequence[int]) -> None:
        @task(
            name=stage,
            task_run_name=f"{stage}-{{shard:05d}}",
            retries=RETRIES,
            retry_delay_seconds=RETRY_DELAYS,
            retry_condition_fn=_may_help,
            cache_policy=NO_CACHE,
            persist_result=False,
        )
        async def one(shard: int) -> None:
            await do(shard)

        await PlainRunner(self.in_flight).each(stage, one, pending)


async def as_flow(name: str, do: Callable[[PrefectRunner], Awaitable[None]], in_flight: int) -> None:
    """Run `do` inside a flow run called `name`. Errors come out as they were raised."""
    caller = asyncio.current_task()
    assert caller is not None, "a coroutine runs in a task"

    @flow(name="prefactory-round", flow_run_name=name, persist_result=False, validate_parameters=False)
    async def round_flow() -> None:
        # Prefect's handler, set when the flow starts, raises in the middle of whatever runs; ours stops in order.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, caller.cancel)
        await do(PrefectRunner(in_flight))

    await round_flow()
