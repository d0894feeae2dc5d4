"""Who runs a round's shards: this process, or Prefect."""

from collections.abc import Callable, Coroutine

from factory.opening import Opened
from flows.judging import Runner
from flows.plain import PlainRunner
from flows.stopping import StopSignals


async def with_runner(
    opened: Opened, work: Callable[[Runner], Coroutine[None, None, None]], signals: StopSignals, *, plain: bool
) -> None:
    """Do the work with one of them. What has nothing left to do needs no Prefect."""
    if plain or opened.work.nothing_left():
        await work(PlainRunner(opened.work.recipe.machine.shards_in_flight, signals.gate))
        return
    opened.work.progress.say("starting Prefect (without it: --plain)")
    from flows.scheduled import as_flow  # seconds to import, and only some verbs want it

    await as_flow(opened, work, signals.gate, signals.install)
