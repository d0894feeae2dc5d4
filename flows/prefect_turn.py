"""One run after the other in a run folder, as the recipe says, of the runs that Prefect starts.

The rule that must not break: who works is decided by the folder's lock, which the kernel holds for exactly as long as its
owner lives, and not by a limit of Prefect's. The lease behind such a limit lies in the server's memory: a server that is killed
and started again would end the run that is going on, and a worker that is killed would hold up the next one for minutes.
What has become of other runs is told to Prefect from here.

Prefect's scheduler makes a run for every time that a schedule names, and keeps those that nobody took: after a night without a
worker all of them come at once. So a run whose time came before another one began is caught up by that one.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException
from prefect.states import Cancelled, Cancelling, Crashed

from factory.ledger.lock import AT_ONCE, FOR_EVER
from factory.ledger.turns import Turn, caught_up, last_turn, write_turn
from factory.run import RunFolder
from factory.work import now
from flows.prefect_page import Page
from schemas.errors import Busy
from schemas.schedule import Overlap

SKIPPED = "Skipped"  # the name of the state of a run that did not take place


class NotNow(Exception):
    """This run does not take place, and why."""


@dataclass(frozen=True, slots=True)
class Me:
    """The flow run that is running. `wanted`: when its schedule wanted it; None for one that a person started."""

    id: UUID
    deployment: UUID | None
    wanted: datetime | None


def me() -> Me:
    context = FlowRunContext.get()
    assert context is not None, "called inside a flow run"
    assert context.flow_run is not None, "called inside a flow run"
    run = context.flow_run
    return Me(run.id, run.deployment_id, run.expected_start_time if run.auto_scheduled else None)


@contextmanager
def turn(folder: RunFolder, overlap: Overlap, page: Page) -> Iterator[None]:
    """The run folder, held. Raises NotNow where this run does not take place."""
    mine = me()
    with ExitStack() as stack:
        _take(stack, folder, overlap, page)
        before = last_turn(folder)
        if before is not None and caught_up(before, mine.wanted):
            raise NotNow(
                f"missed at {mine.wanted:%Y-%m-%d %H:%M:%S} UTC, and caught up by the run that began at "
                f"{before.began:%Y-%m-%d %H:%M:%S} UTC"
            )
        began = Turn(run=str(mine.id), began=now())
        write_turn(folder, began)
        _told(page, lambda: _bury(before, page))
        _told(page, lambda: _drop_missed(mine, began.began))
        try:
            yield
        finally:
            write_turn(folder, began.model_copy(update={"ended": now()}))


def _take(stack: ExitStack, folder: RunFolder, overlap: Overlap, page: Page) -> None:
    try:
        stack.enter_context(folder.locked(AT_ONCE, page.say))
    except Busy as busy:
        if overlap is Overlap.SKIP:
            raise NotNow(f"{busy}, and `schedule.overlap` is skip") from busy
        holder = last_turn(folder)
        if overlap is Overlap.CANCEL and holder is not None and holder.ended is None:
            _told(page, lambda: _cancel(UUID(holder.run), page))
        stack.enter_context(folder.locked(FOR_EVER, page.say))


def _told(page: Page, tell: Callable[[], None]) -> None:
    """What a server that is away does not hear changes nothing of the work."""
    try:
        tell()
    except (httpx.HTTPError, PrefectException) as error:
        page.say(f"Prefect's server was not told what became of other runs ({type(error).__name__})")


def _cancel(run: UUID, page: Page) -> None:
    page.say(f"cancelling the flow run {run}, which still works on this run folder")
    _set(run, Cancelling(message="a later run of the schedule takes over (`schedule.overlap` is cancel)"))


def _bury(before: Turn | None, page: Page) -> None:
    """The holder of the turn before is dead where it did not say that it ended; its server may still show it at work."""
    if before is None or before.ended is not None:
        return
    page.say(f"the flow run {before.run} was killed; this one goes on from where it was")
    _set(UUID(before.run), Crashed(message="its process was killed; a later run goes on from where it was"))


def _drop_missed(mine: Me, began: datetime) -> None:
    """Runs whose time has come and that no worker took yet: this one does what they were for."""
    if mine.deployment is None or mine.wanted is None:
        return
    wanted = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[mine.deployment]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        expected_start_time=FlowRunFilterExpectedStartTime(before_=began),
    )
    with get_client(sync_client=True) as client:
        missed = client.read_flow_runs(flow_run_filter=wanted)
    for run in missed:
        if run.auto_scheduled and run.id != mine.id:
            _set(run.id, Cancelled(name=SKIPPED, message=f"missed, and caught up by the flow run {mine.id}"))


def _set(run: UUID, state: "State[object]") -> None:
    with get_client(sync_client=True) as client:
        found = client.read_flow_run(run)
        if found.state is None or not found.state.is_final():
            client.set_flow_run_state(run, state, force=True)
