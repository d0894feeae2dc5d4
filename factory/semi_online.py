"""Rounds one after the other: answer, judge and pair; train; merge; evaluate; promote what holds the gates; and again.

    <root>/semi_online.json                    what became of each round, written when it is decided
    <root>/train/round-0/checkpoint            trained as the recipe says; in try-1, try-2 … with the fallback
    <root>/train/round-0/merged                where checkpoints are merged

The rule that must not break: no step is remembered here but the decision. Each step finds by itself what it has done already,
so that the loop is gone through in the same way after a kill at any point, and nothing is paid twice. A promoted checkpoint
whose weights are not what they were is refused.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from factory import store
from factory.ledger.rounds import round_recipe
from factory.progress import Progress
from factory.recipes.recipe_file import stored_recipe
from factory.run import RunFolder, run_folder
from schemas.errors import DriftError, Fixable, SchemaError, UsedUp
from schemas.recipe import ModelRef, Recipe
from schemas.semi_online import Attempt, Fallback, Merge, RoundOutcome, SemiOnline, Story
from schemas.train import Train

MERGED = "merged"  # a folder beside the checkpoint


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Weights by their digest, and how they are asked. `folder`: None for the recipe's own policy."""

    digest: str
    ref: ModelRef
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One training of a round."""

    round: int
    attempt: int
    train: Train  # settled
    start: Checkpoint
    reference: Checkpoint
    folder: Path


@dataclass(frozen=True, slots=True)
class Learnt:
    """What a training came to: a checkpoint, or the reason why a guard stopped it."""

    checkpoint: Path | None
    digest: str | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Weighed:
    """A checkpoint against an earlier one: the gates that do not hold, and its figures."""

    tripped: tuple[str, ...]
    figures: dict[str, float | None]


class Steps(Protocol):
    """What a round is made of. Each finds what it has done already. Raises Fixable, Transient or Halted."""

    def known(self, ref: ModelRef) -> str:
        """The digest of a model's weights."""

    def asked(self, folder: Path, digest: str) -> ModelRef:
        """How a checkpoint in a folder is asked."""

    def make(self, recipe: Recipe, round_: int) -> None:
        """Prompts to pairs, exported for the trainer. Raises UsedUp too."""

    def train(self, job: Job) -> Learnt: ...

    def merge(self, folders: Sequence[Path], weights: Sequence[float], target: Path) -> str:
        """The weighted mean of checkpoints as one more; its digest."""

    def evaluate(self, checkpoint: Checkpoint) -> None: ...

    def weigh(self, before: Checkpoint, after: Checkpoint) -> Weighed:
        """Both were evaluated."""


def recipe_of(recipe: Recipe, run: RunFolder) -> Recipe:
    """The recipe by which a round that lies there was made. Raises SchemaError, RecipeError where that is not known."""
    if not run.round:
        return recipe
    before = [one.folder for one in read_story(run).promoted if one.round == run.round - 1]
    policy = stored_recipe(run.recipe_path).policy
    if policy == recipe.policy:  # a round of new prompts for the same model
        return recipe
    if before and before[0] is not None and not policy.urls:
        policy = policy.model_copy(update={"model": str(run.root / before[0])})  # wherever the run's folder lies by now
    return round_recipe(recipe, policy)


Told = Callable[[RoundOutcome], None]


def settings_of(recipe: Recipe) -> SemiOnline:
    """Raises Fixable where the recipe has none."""
    if recipe.semi_online is None:
        raise Fixable("semi_online: the recipe has no such section; write one, `semi_online: {rounds: 3}` is enough")
    return recipe.semi_online


def read_story(run: RunFolder) -> Story:
    """Raises SchemaError where it cannot be read."""
    try:
        return Story.model_validate_json(run.story_path.read_bytes())
    except FileNotFoundError:
        return Story()
    except (ValidationError, OSError) as error:
        mend = "take it away, and the rounds are gone through again from what lies there"
        raise SchemaError(f"{run.story_path}: does not say what became of the rounds; {mend}") from error


def go_rounds(recipe: Recipe, steps: Steps, progress: Progress, told: Told = lambda _: None) -> Story:
    """All rounds that are left. The caller holds the folder's lock.

    Ends early where a round promotes nothing, and where the prompts are used up: the story and what was said tell which.
    """
    loop = _Loop(recipe, settings_of(recipe), steps, progress)
    base = Checkpoint(steps.known(recipe.policy), recipe.policy)
    story = read_story(loop.run)
    done = loop.checked(story.promoted, base)
    for number in range(len(done) - 1, loop.settings.rounds):
        progress.say(f"round {number} of {loop.settings.rounds}: answered by {done[-1].digest[:16]}")
        try:
            outcome = loop.go(number, done)
        except UsedUp as error:
            progress.say(f"round {number}: {error}")
            return story
        story = Story(rounds=[*story.promoted, outcome])
        store.write_text(loop.run.story_path, story.model_dump_json(indent=1))
        told(outcome)
        if outcome.promoted is None or outcome.folder is None:
            return story
        done.append(loop.checkpoint(outcome.folder, outcome.promoted))
    return story


@dataclass(frozen=True, slots=True)
class _Loop:
    recipe: Recipe
    settings: SemiOnline
    steps: Steps
    progress: Progress

    @property
    def run(self) -> RunFolder:
        return RunFolder(run_folder(self.recipe))

    def checkpoint(self, folder: str, digest: str) -> Checkpoint:
        path = self.run.root / folder
        return Checkpoint(digest, self.steps.asked(path, digest), path)

    def checked(self, rounds: Sequence[RoundOutcome], base: Checkpoint) -> list[Checkpoint]:
        """The base, and every promoted checkpoint that there is. Raises DriftError where one is not what it was."""
        found = [base]
        for one in rounds:
            if one.policy != found[-1].digest:
                raise DriftError(
                    f"{self.run.story_path}: round {one.round} was answered by {one.policy[:16]}, and before it stands "
                    f"{found[-1].digest[:16]} now; give the recipe another `name`, or set the policy back"
                )
            assert one.folder is not None, "it was promoted"
            assert one.promoted is not None, "it was promoted"
            folder = self.run.root / one.folder
            if (seen := self.steps.known(ModelRef(model=str(folder)))) != one.promoted:
                raise DriftError(
                    f"{folder}: has the digest {seen[:16]}, and was promoted with {one.promoted[:16]}; put the weights back, "
                    f"or take {self.run.story_path.name} away, and the rounds are gone through again"
                )
            found.append(self.checkpoint(one.folder, one.promoted))
        return found

    def go(self, number: int, done: Sequence[Checkpoint]) -> RoundOutcome:
        """`done`: the base, and what each earlier round promoted."""
        policy, base = done[-1], done[0]
        self.steps.evaluate(policy)
        own = round_recipe(self.recipe, None if policy is base else policy.ref)
        self.steps.make(own, number)
        reference = base if self.settings.reference == "base" else policy
        outcome = RoundOutcome(round=number, policy=policy.digest, reference=reference.digest)
        tries = self.settings.fallback.tries if self.settings.on_tripped == "retry" else 0
        attempts: list[Attempt] = []
        for attempt in range(tries + 1):
            attempts.append(self._attempt(number, attempt, done, reference))
            if attempts[-1].passed:
                last = attempts[-1]
                return outcome.model_copy(
                    update={
                        "attempts": attempts,
                        "trained": last.trained,
                        "promoted": last.candidate,
                        "folder": last.folder,
                    }
                )
            self.progress.say(f"round {number}, attempt {attempt}: not promoted: {'; '.join(attempts[-1].tripped)}")
        return outcome.model_copy(update={"attempts": attempts})

    def _attempt(self, number: int, attempt: int, done: Sequence[Checkpoint], reference: Checkpoint) -> Attempt:
        folder = self.run.train_path(number, f"try-{attempt}" if attempt else None)
        train = weakened(self.recipe.train.settled(self.recipe.seed), self.settings.fallback, attempt)
        learnt = self.steps.train(Job(number, attempt, train, done[-1], reference, folder))
        if learnt.checkpoint is None or learnt.digest is None:
            return Attempt(number=attempt, tripped=[f"training: {learnt.reason}"])
        path, digest = self._merged(learnt.checkpoint, learnt.digest, folder, done)
        candidate = self.checkpoint(str(path.relative_to(self.run.root)), digest)
        found = Attempt(
            number=attempt, trained=learnt.digest, candidate=digest, folder=str(path.relative_to(self.run.root))
        )
        if digest == done[-1].digest:
            return found.model_copy(update={"tripped": ["training: the weights did not change"]})
        self.steps.evaluate(candidate)
        opponents = {"previous": done[-1], "base": done[0]}
        weighed = [
            (name, self.steps.weigh(opponents[name], candidate)) for name in dict.fromkeys(self.settings.against)
        ]
        tripped = dict.fromkeys(f"against the {name}: {why}" for name, one in weighed for why in one.tripped)
        return found.model_copy(update={"tripped": list(tripped), "figures": weighed[0][1].figures})

    def _merged(self, checkpoint: Path, digest: str, folder: Path, done: Sequence[Checkpoint]) -> tuple[Path, str]:
        """The checkpoint itself, where nothing is merged."""
        merge = self.settings.merge
        before = [] if merge is None else [one.folder for one in done[1:] if one.folder is not None][1 - merge.last :]
        if merge is None or not before:
            return checkpoint, digest
        target = folder / MERGED
        return target, self.steps.merge([*before, checkpoint], shares(merge, len(before) + 1), target)


def shares(merge: Merge, count: int) -> list[float]:
    """What each of the `count` newest checkpoints weighs, the newest last; they sum up to 1."""
    weights = [1.0] * count if merge.weights is None else merge.weights[-count:]
    return [weight / sum(weights) for weight in weights]


def weakened(train: Train, fallback: Fallback, times: int) -> Train:
    """`train`: settled. With the fallback so many times."""
    assert train.learning_rate is not None, "settled"
    assert train.beta is not None, "settled"
    steps = fallback.steps**times
    return train.model_copy(
        update={
            "learning_rate": train.learning_rate * fallback.learning_rate**times,
            "beta": train.beta * fallback.beta**times,
            "epochs": None if train.epochs is None else train.epochs * steps,
            "max_steps": None if train.max_steps is None else max(1, round(train.max_steps * steps)),
        }
    )
