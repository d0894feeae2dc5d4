"""A recipe as Prefect deployments, in a process work pool, on the server that Prefect's own settings name.

The rule that must not break: a deployment holds the recipe's place and nothing of what stands in it. So an edited recipe holds
from the next run on, and no server keeps what a recipe says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.schedules import construct_schedule
from prefect.deployments.runner import DeploymentApplyError, RunnerDeployment
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.settings.context import get_current_settings
from prefect.types.entrypoint import EntrypointType
from prefect.workers.process import ProcessWorker

from flows.deployed import Ending, export_run, round_run, semi_online_run, verify_run
from schemas.errors import EngineUnavailable, Fixable
from schemas.recipe import Recipe
from schemas.schedule import DeploymentKind

TAG = "prefactory"


_FLOWS: "Mapping[DeploymentKind, Flow[..., Ending]]" = {
    DeploymentKind.ROUND: round_run,
    DeploymentKind.SEMI_ONLINE: semi_online_run,
    DeploymentKind.EXPORT: export_run,
    DeploymentKind.VERIFY: verify_run,
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """`cron` None: nothing runs by itself. `folder`: where workers run it, and `machine.runs` starts from."""

    recipe: Recipe
    path: Path
    folder: Path
    pool: str
    scheduled: DeploymentKind
    cron: str | None = None
    timezone: str | None = None


def deploy_all(wanted: Wanted) -> list[str]:
    """The deployments' names. What was deployed before under the same name is replaced, its schedule too."""
    if get_current_settings().api.url is None:
        raise Fixable(
            "PREFECT_API_URL: names no Prefect server; `prefect server start` starts one here, and "
            "`prefect config set PREFECT_API_URL=http://127.0.0.1:4200/api` names it"
        )
    _refuse_bad_schedule(wanted)
    try:
        _make_pool(wanted.pool)
        return [_deploy(wanted, kind) for kind in kinds(wanted.recipe)]
    except httpx.TransportError as error:
        url = get_current_settings().api.url
        raise EngineUnavailable(f"{url}: no Prefect server answers there ({type(error).__name__})") from error
    except (PrefectException, httpx.HTTPStatusError, DeploymentApplyError) as error:
        raise Fixable(f"Prefect's server refused the deployment: {' '.join(str(error).split())}") from error


def kinds(recipe: Recipe) -> Sequence[DeploymentKind]:
    """Semi-online rounds and rounds of new prompts do not share a run folder: a recipe has the one or the other."""
    return (
        DeploymentKind.ROUND if recipe.semi_online is None else DeploymentKind.SEMI_ONLINE,
        DeploymentKind.EXPORT,
        DeploymentKind.VERIFY,
    )


def _refuse_bad_schedule(wanted: Wanted) -> None:
    if wanted.scheduled not in kinds(wanted.recipe):
        raise Fixable(f"--schedule {wanted.scheduled}: this recipe is deployed as {', '.join(kinds(wanted.recipe))}")
    if wanted.cron is not None:
        try:
            construct_schedule(cron=wanted.cron, timezone=wanted.timezone)
        except ValueError as error:
            said = " ".join(str(error).split())
            raise Fixable(f"--cron {wanted.cron!r}, --timezone {wanted.timezone}: not a schedule ({said})") from error


def _make_pool(name: str) -> None:
    """A process pool of that name, where there is none."""
    with get_client(sync_client=True) as client:
        try:
            kind = client.read_work_pool(name).type
        except ObjectNotFound:
            template = ProcessWorker.get_default_base_job_template()
            client.create_work_pool(WorkPoolCreate(name=name, type=ProcessWorker.type, base_job_template=template))
            return
    if kind != ProcessWorker.type:
        raise Fixable(f"--pool {name}: is of type {kind}, and runs need a process pool; name another one")


def _deploy(wanted: Wanted, kind: DeploymentKind) -> str:
    flow = _FLOWS[kind]
    by_itself = wanted.cron is not None and kind is wanted.scheduled
    deployment = flow.to_deployment(
        wanted.recipe.name,
        schedules=[construct_schedule(cron=wanted.cron, timezone=wanted.timezone)] if by_itself else [],
        parameters={"recipe": str(wanted.path.absolute())},
        tags=[TAG],
        work_pool_name=wanted.pool,
        job_variables={"working_dir": str(wanted.folder)},
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    assert isinstance(deployment, RunnerDeployment), "without an event loop it is there at once"
    deployment.apply()
    return deployment.full_name
