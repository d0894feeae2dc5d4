"""Who runs a round's shards: this process, Prefect, or either of them with the nodes of a cluster."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from factory.opening import Opened
from flows.judging import Runner
from flows.plain import PlainRunner
from flows.stopping import StopSignals
from schemas.errors import Fixable
from schemas.recipe import Cluster, Recipe

if TYPE_CHECKING:
    from flows.cluster import Crew
    from flows.scheduled import PrefectRunner

Work = Callable[[Runner], Coroutine[None, None, None]]


async def with_runner(opened: Opened, work: Work, signals: StopSignals, *, plain: bool) -> None:
    """Do the work with one of them. What has nothing left to do needs neither Prefect nor a cluster."""
    recipe = opened.work.recipe
    if opened.work.nothing_left():
        await work(PlainRunner(recipe.machine.shards_in_flight, signals.gate))
    elif recipe.machine.cluster is None:
        await _locally(opened, work, signals, plain=plain)
    else:
        await _on_cluster(opened, work, signals, plain=plain)


async def _locally(opened: Opened, work: Work, signals: StopSignals, *, plain: bool) -> None:
    if plain:
        await work(PlainRunner(opened.work.recipe.machine.shards_in_flight, signals.gate))
        return
    opened.work.progress.say("starting Prefect (without it: --plain)")
    from flows.scheduled import as_flow  # seconds to import, and only some verbs want it

    await as_flow(opened, work, signals.gate, signals.install)


async def inside_flow(opened: Opened, work: Work, signals: StopSignals, runner: "PrefectRunner") -> None:
    """The same within a flow run that is there already."""
    if opened.work.recipe.machine.cluster is None:
        await work(runner)
        return
    async with _joined(opened, signals) as crew:
        await work(crew.runner(replace(runner, in_flight=crew.places)))


async def _on_cluster(opened: Opened, work: Work, signals: StopSignals, *, plain: bool) -> None:
    async with _joined(opened, signals) as crew:
        if plain:
            await work(crew.runner(PlainRunner(crew.places, signals.gate)))
            return
        from flows.scheduled import as_flow

        async def with_prefect(runner: "PrefectRunner") -> None:
            await work(crew.runner(replace(runner, in_flight=crew.places)))

        await as_flow(opened, with_prefect, signals.gate, signals.install)


@asynccontextmanager
async def _joined(opened: Opened, signals: StopSignals) -> AsyncIterator["Crew"]:
    """The cluster's workers. Raises Fixable where they cannot be used."""
    cluster = opened.work.recipe.machine.cluster
    assert cluster is not None, "the caller has looked"
    _refuse_alone(opened.work.recipe, cluster)
    try:
        from flows.cluster import crew_of
    except ModuleNotFoundError as error:
        raise Fixable("machine.cluster: wants Ray, which is not installed here: `pip install 'ray>=2.60'`") from error
    opened.work.progress.say("joining the Ray cluster")
    async with crew_of(opened, signals.gate) as crew:
        signals.install()  # Ray has set a handler of its own for SIGTERM
        opened.work.progress.say(f"{crew.places} shards at once are given to it")
        yield crew


def _refuse_alone(recipe: Recipe, cluster: Cluster) -> None:
    """Raises Fixable for what only one process can do, and where a node would get more servers than it has room for."""
    models = {"policy": recipe.policy} | {
        f"jury.judges: {one.seat}": one.model for one in recipe.jury.judges if one.model
    }
    for name, model in models.items():
        if not model.urls and cluster.gpus == 0 and cluster.cpus <= 1:
            raise Fixable(
                f"machine.cluster: {name} {model.model}: each worker starts a server of its own; say with "
                "machine.cluster.gpus what one takes of its node, or with cpus where nodes have no GPU; or name servers "
                "that run already as `urls`"
            )
    budget = recipe.budget
    if any(most is not None for most in (budget.max_requests, budget.max_tokens_total, budget.max_cost)):
        raise Fixable(
            "machine.cluster: budget.max_requests, budget.max_tokens_total and budget.max_cost are kept by one process, "
            "which a cluster's workers do not ask; leave them out, or set budget.max_hours"
        )
