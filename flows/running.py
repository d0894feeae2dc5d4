"""Who runs a round's shards: this process, Prefect, or either of them with the nodes of a cluster."""

from collections.abc import Callable, Coroutine
from dataclasses import replace

from factory.opening import Opened
from flows.judging import Runner
from flows.plain import PlainRunner
from flows.stopping import StopSignals
from schemas.errors import Fixable
from schemas.recipe import Recipe

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


async def _on_cluster(opened: Opened, work: Work, signals: StopSignals, *, plain: bool) -> None:
    _refuse_alone(opened.work.recipe)
    try:
        from flows.cluster import ClusterRunner, crew_of
    except ModuleNotFoundError as error:
        raise Fixable("machine.cluster: wants Ray, which is not installed here: `pip install 'ray>=2.60'`") from error
    opened.work.progress.say("joining the Ray cluster")
    async with crew_of(opened, signals.gate) as crew:
        signals.install()  # Ray has set a handler of its own for SIGTERM
        opened.work.progress.say(f"{crew.places} shards at once are given to it")

        async def spread(runner: Runner) -> None:
            await work(ClusterRunner(crew, runner))

        if plain:
            await spread(PlainRunner(crew.places, signals.gate))
            return
        from flows.scheduled import PrefectRunner, as_flow

        async def with_prefect(runner: PrefectRunner) -> None:
            await spread(replace(runner, in_flight=crew.places))

        await as_flow(opened, with_prefect, signals.gate, signals.install)


def _refuse_alone(recipe: Recipe) -> None:
    """Raises Fixable for what only one process can do."""
    models = {"policy": recipe.policy} | {
        f"jury.judges: {one.seat}": one.model for one in recipe.jury.judges if one.model
    }
    for name, model in models.items():
        if not model.urls:
            raise Fixable(
                f"machine.cluster: {name} {model.model}: workers ask servers that run already; name them as `urls`"
            )
    if recipe.budget.max_requests is not None or recipe.budget.max_tokens_total is not None:
        raise Fixable(
            "machine.cluster: budget.max_requests and budget.max_tokens_total are kept by one process, which a cluster's "
            "workers do not ask; leave them out, or set budget.max_hours"
        )
