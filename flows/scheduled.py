"""A round as a Prefect flow, one task for each shard and stage. The only module that imports prefect.

Prefect holds no state of ours: a task takes a number, does what the plain run does, and returns nothing, so that both
write the same rows. Without a server of the user's (PREFECT_API_URL) one is started for the run, which keeps its database in
the user's cache folder and phones nobody.
"""

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from factory.client.gate import Gate
from factory.keys import key_names
from factory.opening import Opened, cache_folder
from factory.shards import Free
from flows.failing import Failures, Left
from flows.plain import PlainRunner, Step
from flows.prefect_server import start
from schemas.errors import Transient
from schemas.recipe import ModelRef

SETTINGS = {
    "PREFECT_HOME": str(cache_folder() / "prefect"),
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # The command says in one line what went wrong; on a server of the user's, Prefect's own log is wanted.
    "PREFECT_LOGGING_LEVEL": "INFO" if "PREFECT_API_URL" in os.environ else "CRITICAL",
    "PREFECT_LOGGING_SERVER_LEVEL": "CRITICAL",
    "PREFECT_CLI_PROMPT": "false",
}
for _name, _value in SETTINGS.items():
    os.environ.setdefault(_name, _value)
Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)

from prefect import flow, task  # noqa: E402  # reads its settings from the environment when it is imported
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.client.schemas.objects import State, TaskRun  # noqa: E402
from prefect.settings import PREFECT_API_URL, temporary_settings  # noqa: E402
from prefect.tasks import Task  # noqa: E402

RETRIES = 2
RETRY_DELAYS = [5.0, 30.0]  # seconds


@dataclass(frozen=True, slots=True)
class PrefectRunner:
    """Each step of each shard is a task run of the flow that is running."""

    in_flight: int
    gate: Gate
    failures: Failures = field(default_factory=Failures)

    def reaches(self, _: ModelRef) -> bool:
        """All of them."""
        return True

    async def each(self, steps: Sequence[Step], shards: Sequence[int]) -> None:
        """Raises ShardsLeft too."""
        counted = [self.failures.counted(self._as_task(step)) for step in steps]
        try:
            await PlainRunner(self.in_flight, self.gate).each(counted, shards)
        except Left as left:
            raise self.failures.left(shards) from left

    def _as_task(self, step: Step) -> Step:
        """Prefect is told the shard's number; what frees the shard's place stays with us."""
        frees: dict[int, Free] = {}
        resting = set[int]()  # shards that wait for their next try: nothing of them is under way

        @task(
            name=step.stage,
            task_run_name=f"{step.stage}-{{shard:05d}}",
            retries=RETRIES,
            retry_delay_seconds=RETRY_DELAYS,
            retry_condition_fn=self._may_help,
            cache_policy=NO_CACHE,
            persist_result=False,
        )
        async def one(shard: int) -> None:
            resting.discard(shard)
            try:
                await step.do(shard, frees[shard])
            except Transient:
                resting.add(shard)
                raise

        async def do(shard: int, free: Free) -> None:
            frees[shard] = free
            await self.gate.unless_closed(one(shard), idle=lambda: shard in resting)

        return Step(step.stage, do)

    async def _may_help(self, _: "Task[..., object]", __: TaskRun, state: State) -> bool:
        """Only what a retry may cure: a wrong key stays wrong, and a run that is stopped tries nothing again."""
        return self.gate.why is None and isinstance(await state.aresult(raise_on_failure=False), Transient)


async def as_flow(
    opened: Opened, do: Callable[[PrefectRunner], Awaitable[None]], gate: Gate, taken_over: Callable[[], None]
) -> None:
    """Run `do` inside a flow run. Errors come out as they were raised.

    `taken_over` is called when Prefect has set a handler of its own for SIGTERM, which raises in the middle of whatever runs.
    """
    recipe = opened.work.recipe

    @flow(name="prefactory-round", flow_run_name=recipe.name, persist_result=False, validate_parameters=False)
    async def round_flow() -> None:
        taken_over()
        await do(PrefectRunner(recipe.machine.shards_in_flight, gate))

    url = os.environ.get("PREFECT_API_URL") or await start(opened.work.run.log_path("prefect"), key_names(recipe))
    with temporary_settings({PREFECT_API_URL: url}):
        await round_flow()
