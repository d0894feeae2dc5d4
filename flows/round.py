"""One round, from prompts to an exported dataset: which stage comes when, and which engine is up for it.

No state lives here. Each step looks at the run folder for what is still to be done, so that a round that was cut off, or
done, or half done by somebody else, is gone through in the same way.
"""

from contextlib import suppress
from dataclasses import dataclass, field

from factory import shards
from factory.client.gate import Gate
from factory.client.spending import Spending
from factory.export import export, unexported
from factory.judging import deciding
from factory.judging.trust import write_trust
from factory.keys import key_names
from factory.ledger.identity import Stage
from factory.ledger.rounds import taken
from factory.ledger.salvage import salvage
from factory.looking import queries
from factory.looking.figures import tally
from factory.opening import Opened, cache_folder
from factory.prompts import Collected, collect
from factory.serving.engines import EngineRoom, refuse_what_is_ignored
from factory.shards import Free
from factory.work import Work, now
from flows.errands import HEARINGS, Errand, Kind
from flows.hands import Hands, planned
from flows.judging import Judging, Runner, panels
from flows.phases import Phases
from flows.plain import Step
from judges.registry import find_verifier
from schemas.errors import Fixable, UsedUp
from schemas.manifest import RunManifest


@dataclass
class Round:
    """A round at work."""

    hands: Hands
    runner: Runner
    offline: bool = False
    phases: Phases = field(default_factory=Phases)
    judging: Judging = field(init=False)

    def __post_init__(self) -> None:
        self.judging = Judging(self.hands, self.runner, self.phases)

    async def go(self, last: Stage) -> RunManifest:
        """Every stage up to and including `last`. Raises Fixable, Transient or Halted; what is finished stays."""
        queries.keep_catalog(self.hands.work.run.catalog_path, self.hands.work.run.root)  # for whoever looks on
        try:
            await self._up_to(last)
        except BaseException:
            with suppress(Fixable):  # of tables that cannot be read: why it stopped is what is to be said
                self._roll_up()
            raise
        manifest = self._roll_up()
        if last is Stage.EXPORT:
            self._export(manifest)
            manifest = self._roll_up()
        return manifest

    async def _up_to(self, last: Stage) -> None:
        """All that may ask an engine, and the pairs."""
        judged = last not in (Stage.PROMPTS, Stage.ROLLOUTS)
        try:
            await self._prompts()
            if last is not Stage.PROMPTS:
                salvage(self.hands.work)
            if judged and self.hands.work.pending(Stage.VERDICTS):
                await self.judging.reach()
            if last is not Stage.PROMPTS:
                await self._rollouts(judged=judged)
            if judged:
                await self.judging.rest()
                if not self.hands.recipe.jury.confirm:
                    await self.hands.room.stop_local()  # nothing that follows asks anybody
            if last in (Stage.PAIRS, Stage.EXPORT):
                await self._pairs()
        finally:
            await self.hands.room.stop_local()

    async def _prompts(self) -> None:
        with self.phases.timed("prompts"):
            if self.hands.work.finished(Stage.PROMPTS, 0) is None:
                self.hands.work.progress.say("reading prompts")
                used_up = list[UsedUp]()

                async def write(_: int, __: Free) -> None:
                    try:
                        shards.write_prompts(self.hands.work, self._collected)
                    except UsedUp as why:  # no failure of the step's, and not for a scheduler to show as one
                        used_up.append(why)

                await self.runner.each([Step(Stage.PROMPTS, write)], [0])
                if used_up:
                    raise used_up[0]

    def _collected(self) -> Collected:
        recipe, before = self.hands.recipe, taken(self.hands.work.run)
        verifiers = [find_verifier(name) for name in recipe.jury.verifiers]
        return collect(
            recipe.prompts, recipe.seed, self.hands.work.progress, verifiers, before, recipe.schedule.least_prompts
        )

    async def _rollouts(self, *, judged: bool) -> None:
        """The answers; where the servers allow it each shard is judged as soon as its own are there."""
        pending = self.hands.work.pending(Stage.ROLLOUTS)
        if not pending:
            return
        with self.phases.timed("policy server"):
            reached = await self.judging.open(self.hands.recipe.policy)
        for engine in reached:
            refuse_what_is_ignored(self.hands.recipe.rollouts, engine)
        self.hands.work.progress.begin(Stage.ROLLOUTS, sum(planned(self.hands.work, shard) for shard in pending))
        todo = sorted({*pending, *self.hands.work.pending(Stage.VERDICTS)}) if judged else pending
        more = await self.judging.beside_rollouts(todo) if judged else []
        answer = Errand(Kind.ANSWER, self.hands.recipe.jury.seats if more else ())
        with self.phases.timed(f"{Stage.ROLLOUTS} with {HEARINGS}" if more else Stage.ROLLOUTS):
            await self.runner.each([self.hands.step(answer), *more], todo if more else pending)

    async def _pairs(self) -> None:
        with self.phases.timed("pairing"):
            deciding.write_spreads(self.hands.work)
            deciding.write_balance(self.hands.work, self.hands.opened.bench)
        if self.hands.recipe.jury.confirm:
            await self._confirm()
        with self.phases.timed("pairing"):
            await self.runner.each([self.hands.step(Errand(Kind.PAIR))], self.hands.work.pending(Stage.PAIRS))
            write_trust(self.hands.work)

    async def _confirm(self) -> None:
        """Show every final pair to the judges. Offline, only what was asked before counts."""
        bench = self.hands.opened.bench
        pending = [shard for shard in self.hands.work.shards() if deciding.unconfirmed(self.hands.work, shard)]
        if not self.offline and pending:
            self.hands.work.progress.begin(Stage.CONFIRMATIONS, 0)
            for panel in panels(self.hands.recipe, tuple(bench.confirming)):
                names = tuple(one.seat for one in panel)
                with self.phases.timed("judge server"):
                    await self.judging.open_seats(names)
                with self.phases.timed("confirming"):
                    await self.runner.each([self.hands.step(Errand(Kind.CONFIRM, names))], pending)
            await self.hands.room.stop_local()
        for shard in pending:
            deciding.write_confirmations(self.hands.work, shard, bench, asked=not self.offline)

    def _export(self, manifest: RunManifest) -> None:
        if unexported(self.hands.work):
            with self.phases.timed("export"):
                export(self.hands.work, manifest)

    def _roll_up(self) -> RunManifest:
        """Bring manifest and catalog up to what lies on disk."""
        run, before = self.hands.work.run, self.hands.work.run.manifest()
        assert before is not None, "open_run has written it"
        counted = tally(run.root, run.round)
        manifest = before.model_copy(
            update={
                "updated": now(),
                "prompts": counted.prompts,
                "shards": run.shards(),
                "pairs": counted.pairs,
                "dropped": dict(counted.dropped),
                "seconds": self.phases.added_to(before.seconds),
            }
        )
        run.write_manifest(manifest)
        queries.write_catalog(run.catalog_path, run.root)
        return manifest


def gate_of(work: Work) -> Gate:
    """The gate of a run: its recipe's budget, less what was spent before. Raises SchemaError."""
    return Gate(work.recipe.budget, Spending(work.run.spent_path))


async def make_round(
    opened: Opened, runner: Runner, last: Stage, *, gate: Gate | None = None, offline: bool = False
) -> tuple[RunManifest, int]:
    """A round up to `last`; the manifest and the number of requests that were sent for it. `offline`: send none.

    `gate`: for callers that may want to close it.
    """
    work = opened.work
    recipe, gate = work.recipe, gate or gate_of(work)
    opening = EngineRoom(work.run, recipe.machine, cache_folder(), work.progress, key_names(recipe), gate)
    async with gate.at_work(), opening as room, shards.check_pool() as checkers:
        manifest = await Round(Hands(opened, room, gate, checkers), runner, offline=offline).go(last)
        return manifest, room.sent + gate.elsewhere.requests
