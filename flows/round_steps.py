"""The steps of semi-online rounds as they are: real servers, the real trainer, real evaluations.

The rule that must not break: a step is the same function that its own verb calls, so that what a round has done can be looked
at, and gone on with, by that verb.
"""

from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from factory import store
from factory.client.gate import Gate
from factory.client.spending import Spending
from factory.evaluation.evaluating import Evaluated, evaluate, subject_of
from factory.evaluation.figures import Figures
from factory.evaluation.held_out import trained_prompts
from factory.evaluation.report import Against, report, write_report
from factory.keys import key_names
from factory.ledger.identity import Stage
from factory.ledger.rounds import give_up
from factory.merging import merge
from factory.opening import cache_folder, open_run
from factory.progress import Progress
from factory.run import RunFolder, run_folder
from factory.semi_online import MERGED, Checkpoint, Job, Learnt, Weighed
from factory.serving.engines import digest_of
from factory.serving.models import resolve_model
from factory.trainer import LEFT, other_settings, plan_training, train
from factory.work import now
from flows.judging import Runner
from flows.round import gate_of, make_round
from flows.running import with_runner
from flows.stopping import StopSignals
from flows.waiting import turn
from schemas.errors import UsedUp
from schemas.export import ExportFormat
from schemas.recipe import ModelRef, Recipe


@dataclass(frozen=True, slots=True)
class RealSteps:
    """`recipe`: the run's. The caller holds its folder's lock."""

    recipe: Recipe
    signals: StopSignals
    progress: Progress
    plain: bool
    wait: bool
    _evaluated: dict[str, Evaluated] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return run_folder(self.recipe)

    def known(self, ref: ModelRef) -> str:
        return digest_of(ref, cache_folder(), self.progress)

    def asked(self, folder: Path, digest: str) -> ModelRef:
        return ModelRef(model=str(folder), trust_remote_code=self.recipe.policy.trust_remote_code)

    def make(self, recipe: Recipe, round_: int) -> None:
        opened = open_run(with_token_ids(recipe), self.progress, round_=round_)
        gate = gate_of(opened.work)

        async def work(runner: Runner) -> None:
            await make_round(opened, runner, Stage.EXPORT, gate=gate)

        try:
            self.signals.run(with_runner(opened, work, self.signals, plain=self.plain), gate)
        except UsedUp:
            give_up(opened.work.run)
            raise

    def _at_work(self, work: Coroutine[object, None, None]) -> None:
        """With the run's budget of hours, and stopped as everything is."""
        gate = Gate(self.recipe.budget, Spending(RunFolder(self.root).spent_path))

        async def counted() -> None:
            async with gate.at_work():
                await gate.unless_closed(work)

        self.signals.run(counted(), gate)

    def train(self, job: Job) -> Learnt:
        run, cache, say = RunFolder(self.root, job.round), cache_folder(), self.progress.say
        plan = plan_training(
            job.train,
            resolve_model(job.start.ref, cache, say),
            resolve_model(job.reference.ref, cache, say),
            run.export_path(ExportFormat.TRL_TOKENS),
            job.folder,
            threads=self.recipe.machine.threads,
            trust_remote_code=self.recipe.policy.trust_remote_code,
        )
        if changed := other_settings(plan):  # of a round that promoted nothing: a promoted one is not trained again
            aside = _put_aside(run, job.folder)
            say(
                f"round {job.round}: trained anew, for what has changed: {'; '.join(changed)}; the earlier one: {aside}"
            )
        gate = Gate(self.recipe.budget, Spending(run.spent_path))
        found: list[Learnt] = []

        async def work() -> None:
            async with gate.at_work():
                trained = await train(plan, run.log_path("train"), say, gate, key_names(self.recipe))
            if trained.stopped_by is None:
                found.append(Learnt(trained.checkpoint, trained.digest))
            else:
                found.append(Learnt(None, None, trained.stopped_by))

        self.signals.run(work(), gate)
        return found[0]

    def merge(self, folders: Sequence[Path], weights: Sequence[float], target: Path) -> str:
        digests = [self.known(ModelRef(model=str(folder))) for folder in folders]
        self._at_work(merge(folders, digests, weights, target, key_names(self.recipe)))
        return self.known(ModelRef(model=str(target)))

    def evaluate(self, checkpoint: Checkpoint) -> None:
        self._answers_of(checkpoint)

    def _answers_of(self, checkpoint: Checkpoint) -> Evaluated:
        """Asked now, or found as they are: a checkpoint's answers lie in a folder of its own."""
        if (known := self._evaluated.get(checkpoint.digest)) is not None:
            return known
        subject = subject_of(self.recipe, checkpoint.ref, RunFolder(self.root).evaluation_path(), self.progress)
        with turn(subject.folder, self.progress, wait=self.wait):
            self.progress.say(f"evaluating {checkpoint.digest[:16]}")
            # What its checkpoints are asked is a part of the run, and has no budget of its own.
            gate = Gate(self.recipe.budget, Spending(RunFolder(self.root).spent_path))

            async def work() -> None:
                self._evaluated[checkpoint.digest] = await evaluate(subject, gate, self.progress)

            self.signals.run(work(), gate)
        return self._evaluated[checkpoint.digest]

    def weigh(self, before: Checkpoint, after: Checkpoint) -> Weighed:
        found = [self._answers_of(before), self._answers_of(after)]
        whole = report(found, trained_prompts(self.root), self.recipe.evaluation.bounds)
        write_report(whole, found)
        against = whole.against[0]
        tripped = tuple(f"{one.bound}: {one.why}" for one in against.tripped)
        return Weighed(tripped, evaluation_figures(whole.figures[1], against))


def _put_aside(run: RunFolder, folder: Path) -> Path:
    """What a training and its merge have left in a folder that may hold others. Where it lies then. Raises StorageError."""
    at = now()
    try:
        for name in (*LEFT, MERGED):
            run.put_aside(folder / name, at)
    except OSError as error:
        raise store.storage_error(folder, error) from error
    return run.aside_path(at)


def with_token_ids(recipe: Recipe) -> Recipe:
    """Exported for the trainer, whatever else it is exported for."""
    formats = list(dict.fromkeys([*recipe.export.formats, ExportFormat.TRL_TOKENS]))
    return recipe.model_copy(update={"export": recipe.export.model_copy(update={"formats": formats})})


def evaluation_figures(figures: Figures, against: Against) -> dict[str, float | None]:
    """The few that tell one round from the next, by name."""
    found: dict[str, float | None] = {}
    for one in figures.answers:
        found[f"{one.decoding} hard loops at {one.max_tokens}"] = one.hard.value
        found[f"{one.decoding} right at {one.max_tokens}"] = one.accuracy.value
        found[f"{one.decoding} distinct-2 at {one.max_tokens}"] = one.distinct[1]
    for compared in against.compared:
        if compared.wins is not None:
            found[f"{compared.decoding} win rate"] = compared.wins.rate.value
    return found | {"perplexity": figures.perplexity}
