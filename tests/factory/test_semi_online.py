"""The loop over rounds: what is promoted, what is tried again, what is refused, and what a kill costs.

story = go_rounds(recipe, steps, progress)
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from factory.progress import Silent
from factory.recipes.recipe_file import identity, read_recipe
from factory.run import RunFolder, run_folder
from factory.semi_online import Checkpoint, Job, Learnt, Weighed, go_rounds, read_story, shares, weakened
from factory.serving.models import resolve_model
from schemas.errors import DriftError, Fixable, SchemaError, UsedUp
from schemas.recipe import ModelRef, Recipe
from schemas.semi_online import Fallback, Merge, SemiOnline, Story
from schemas.train import Train
from tests.conftest import RecipeWriter

Gate = Callable[[Job], Sequence[str]]


class Killed(BaseException):
    """What no handler of ours sees."""


def holds(_: Job) -> Sequence[str]:
    return ()


def first_tries_trip(job: Job) -> Sequence[str]:
    return ("loops: went up",) if job.attempt == 0 else ()


def all_trip(_: Job) -> Sequence[str]:
    return ("loops: went up",)


@dataclass
class Bench:
    """Steps that keep what they did on disk, as the real ones do, and count what was new. Weights are text."""

    recipe: Recipe
    cache: Path
    gate: Gate = holds
    rounds_of_prompts: int = 99
    guarded: frozenset[tuple[int, int]] = frozenset()  # rounds and attempts whose training a guard stops
    new: Counter[str] = field(default_factory=Counter)
    steps: list[str] = field(default_factory=list)
    jobs: dict[str, Job] = field(default_factory=dict)  # by the digest that came out
    survived: set[str] | None = None  # where it is there, the first step that is not in it is the last one of this life

    @property
    def root(self) -> Path:
        return run_folder(self.recipe)

    def _step(self, name: str) -> None:
        self.steps.append(name)
        if self.survived is not None and name not in self.survived:
            self.survived.add(name)
            raise Killed

    def _once(self, name: str, path: Path, text: str) -> None:
        if not path.exists():
            self.new[name] += 1
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def known(self, ref: ModelRef) -> str:
        return f"remote:{ref.model}" if ref.urls else resolve_model(ref, self.cache, print).digest

    def asked(self, folder: Path, digest: str) -> ModelRef:
        return ModelRef(model=str(folder))

    def make(self, recipe: Recipe, round_: int) -> None:
        if round_ >= self.rounds_of_prompts:
            raise UsedUp("each prompt was taken by an earlier round")
        made = {
            "policy": self.known(recipe.policy),
            "judges": [seat.model and seat.model.model for seat in recipe.jury.judges],
        }
        self._once("make", RunFolder(self.root, round_).export_path("trl-tokens") / "pairs", json.dumps(made))
        self._step(f"make {round_}")

    def train(self, job: Job) -> Learnt:
        if (job.round, job.attempt) in self.guarded:
            return Learnt(None, None, "max_kl: 0.9 over 0.5")
        pairs = (RunFolder(self.root, job.round).export_path("trl-tokens") / "pairs").read_text()
        made_from = [pairs, job.start.digest, job.reference.digest, job.train.model_dump_json()]
        checkpoint = job.folder / "checkpoint"
        self._once("config", checkpoint / "config.json", "{}")
        self._once("train", checkpoint / "model.safetensors", "\n".join(made_from))
        digest = self.known(ModelRef(model=str(checkpoint)))
        self.jobs[digest] = job
        self._step(f"train {job.round}.{job.attempt}")
        return Learnt(checkpoint, digest)

    def merge(self, folders: Sequence[Path], weights: Sequence[float], target: Path) -> str:
        parts = [(folder / "model.safetensors").read_text() for folder in folders]
        self._once("config", target / "config.json", "{}")
        self._once("merge", target / "model.safetensors", json.dumps([parts, list(weights)]))
        digest = self.known(ModelRef(model=str(target)))
        self.jobs[digest] = self.jobs[self.known(ModelRef(model=str(folders[-1])))]
        self._step(f"merge {len(folders)} into {digest[:6]}")
        return digest

    def evaluate(self, checkpoint: Checkpoint) -> None:
        name = hashlib.sha256(checkpoint.digest.encode()).hexdigest()[:16]
        self._once("evaluate", self.root / "evaluation" / name, checkpoint.digest)
        self._step(f"evaluate {checkpoint.digest[:6]}")

    def weigh(self, before: Checkpoint, after: Checkpoint) -> Weighed:
        self._step(f"weigh {after.digest[:6]} against {before.digest[:6]}")
        return Weighed(tuple(self.gate(self.jobs[after.digest])), {"perplexity": 13.0})


BenchMaker = Callable[..., Bench]


@pytest.fixture
def bench(write_recipe: RecipeWriter, tmp_path: Path) -> BenchMaker:
    def make(changes: Mapping[str, object] | None = None, **how: object) -> Bench:
        recipe = read_recipe(write_recipe({"semi_online.rounds": 3, **(changes or {})}))
        return Bench(recipe, tmp_path / "cache", **how)  # type: ignore[arg-type]  # as the test names them

    return make


def go(bench: Bench) -> Story:
    with RunFolder(bench.root).locked():
        return go_rounds(bench.recipe, bench, Silent())


def test_rounds_each_is_answered_by_what_the_one_before_promoted(bench: BenchMaker) -> None:
    story = go(bench())

    assert [one.round for one in story.rounds] == [0, 1, 2]
    assert story.rounds[0].policy == "remote:fake-model"
    assert [one.policy for one in story.rounds[1:]] == [one.promoted for one in story.rounds[:-1]]
    assert len({one.promoted for one in story.rounds}) == 3


def test_rounds_promoted_checkpoint_lies_where_the_story_says(bench: BenchMaker) -> None:
    made = bench()

    for one in go(made).rounds:
        assert one.folder == f"train/round-{one.round}/checkpoint"
        assert made.known(ModelRef(model=str(made.root / one.folder))) == one.promoted == one.trained


@pytest.mark.parametrize("reference", ["base", "previous"])
def test_rounds_reference_is_the_recipes(bench: BenchMaker, reference: str) -> None:
    made = bench({"semi_online.reference": reference})

    story = go(made)

    wanted = ["remote:fake-model"] * 3 if reference == "base" else [one.policy for one in story.rounds]
    assert [one.reference for one in story.rounds] == wanted
    assert {job.reference.digest for job in made.jobs.values()} == {one.reference for one in story.rounds}


def test_rounds_judges_without_a_model_stay_with_the_first_policy(bench: BenchMaker) -> None:
    made = bench()

    go(made)

    told = [
        json.loads((RunFolder(made.root, number).export_path("trl-tokens") / "pairs").read_text())["judges"]
        for number in (0, 1, 2)
    ]
    assert told == [[None] * 3, ["fake-model"] * 3, ["fake-model"] * 3]


def test_rounds_evaluate_the_base_before_anything_is_trained(bench: BenchMaker) -> None:
    made = bench()

    go(made)

    assert made.steps[0].startswith("evaluate remote")
    assert made.new["evaluate"] == 4


def test_rounds_tripped_gate_stops_and_keeps_the_reason(bench: BenchMaker) -> None:
    made = bench(gate=all_trip)

    story = go(made)

    (only,) = story.rounds
    assert only.promoted is None
    assert only.attempts[0].tripped == ["against the previous: loops: went up", "against the base: loops: went up"]
    assert read_story(RunFolder(made.root)) == story
    assert made.new["train"] == 1


def test_rounds_guard_that_stops_a_training_is_a_reason_too(bench: BenchMaker) -> None:
    (only,) = go(bench(guarded=frozenset({(0, 0)}))).rounds

    assert only.promoted is None
    assert only.attempts[0].tripped == ["training: max_kl: 0.9 over 0.5"]


def test_rounds_retry_takes_the_fallback_into_a_folder_of_its_own(bench: BenchMaker) -> None:
    made = bench(
        {"semi_online.on_tripped": "retry", "semi_online.fallback": {"learning_rate": 0.25}}, gate=first_tries_trip
    )

    story = go(made)

    rates = [made.jobs[one.trained].train.learning_rate for one in story.rounds[0].attempts if one.trained]
    assert rates == [1e-5, 2.5e-6]
    assert story.rounds[0].folder == "train/round-0/try-1/checkpoint"
    assert [len(one.attempts) for one in story.rounds] == [2, 2, 2]


def test_rounds_retries_are_bounded(bench: BenchMaker) -> None:
    made = bench({"semi_online.on_tripped": "retry", "semi_online.fallback": {"tries": 3}}, gate=all_trip)

    assert len(go(made).rounds[0].attempts) == 4


def test_rounds_gate_that_was_opened_goes_on_without_paying_again(bench: BenchMaker) -> None:
    made = bench(gate=all_trip)
    go(made)
    before = made.new.copy()
    made.gate, made.steps = holds, []

    story = go(made)

    assert len(story.rounds) == 3
    assert made.new["train"] == before["train"] + 2


def test_rounds_used_up_prompts_end_them(bench: BenchMaker) -> None:
    assert len(go(bench(rounds_of_prompts=2)).rounds) == 2


def test_rounds_merge_takes_the_last_promoted_ones(bench: BenchMaker) -> None:
    made = bench({"semi_online.merge": {"last": 2}})

    story = go(made)

    assert [one.folder for one in story.rounds] == [
        "train/round-0/checkpoint", "train/round-1/merged", "train/round-2/merged",
    ]  # fmt: skip
    assert [one.trained == one.promoted for one in story.rounds] == [True, False, False]
    assert [step[:7] for step in made.steps if step.startswith("merge")] == ["merge 2", "merge 2"]


@pytest.mark.parametrize("merge", [None, {"last": 3}])
def test_rounds_killed_after_every_step_come_to_the_same_end_and_pay_nothing_twice(
    bench: BenchMaker, tmp_path: Path, merge: object
) -> None:
    changes = {"semi_online.on_tripped": "retry", "semi_online.merge": merge}
    undisturbed = bench({**changes, "name": "undisturbed"}, gate=first_tries_trip)
    wanted = go(undisturbed)
    made = bench({**changes, "name": "killed"}, gate=first_tries_trip)

    made.survived = set()
    story = None
    while story is None:
        try:
            story = go(made)
        except Killed:
            made.jobs = {}

    assert made.survived == set(undisturbed.steps)
    assert story == wanted
    assert made.new == undisturbed.new


def test_rounds_second_start_does_nothing(bench: BenchMaker) -> None:
    made = bench()
    story = go(made)
    made.steps, before = [], made.new.copy()

    assert go(made) == story
    assert made.steps == []
    assert made.new == before


def test_rounds_more_of_them_go_on_from_the_last(bench: BenchMaker) -> None:
    first = go(bench())

    story = go(bench({"semi_online.rounds": 4}))

    assert story.rounds[:3] == first.rounds
    assert story.rounds[3].policy == first.rounds[2].promoted


def test_rounds_promoted_weights_that_changed_are_refused(bench: BenchMaker) -> None:
    made = bench()
    story = go(made)
    weights = made.root / str(story.rounds[1].folder) / "model.safetensors"
    weights.write_text("something else")

    with pytest.raises(DriftError, match=r"round-1/checkpoint: has the digest .* and was promoted with"):
        go(made)


def test_rounds_other_policy_under_the_same_name_is_refused(bench: BenchMaker) -> None:
    go(bench())

    with pytest.raises(DriftError, match="round 0 was answered by remote:fake-mode"):
        go(bench({"policy.model": "another"}))


def test_story_that_is_none_is_refused_with_its_name(bench: BenchMaker) -> None:
    made = bench()
    made.root.mkdir(parents=True)
    RunFolder(made.root).story_path.write_text("{")

    with pytest.raises(SchemaError, match=r"semi_online\.json"):
        read_story(RunFolder(made.root))


def test_rounds_recipe_without_the_section_is_refused(bench: BenchMaker) -> None:
    made = bench({"semi_online": None})

    with pytest.raises(Fixable, match="semi_online: the recipe has no such section"):
        go(made)


def test_section_decides_no_row(write_recipe: RecipeWriter) -> None:
    with_it = read_recipe(write_recipe({"semi_online.rounds": 3, "semi_online.merge": {"last": 2}}))

    assert identity(with_it) == identity(read_recipe(write_recipe()))


@given(st.integers(2, 6), st.data())
def test_shares_sum_up_to_one_and_keep_the_order(last: int, data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.floats(0.1, 9), min_size=last, max_size=last))
    count = data.draw(st.integers(1, last))

    found = shares(Merge(last=last, weights=weights), count)

    assert sum(found) == pytest.approx(1)
    assert [share / found[-1] for share in found] == pytest.approx([one / weights[-1] for one in weights[-count:]])
    assert shares(Merge(last=last), count) == pytest.approx([1 / count] * count)


@given(st.integers(0, 5), st.floats(0.1, 1), st.floats(1, 4), st.floats(0.1, 0.99))
def test_weakened_multiplies_each_factor_so_many_times(times: int, rate: float, beta: float, steps: float) -> None:
    fallback = Fallback(learning_rate=rate, beta=beta, steps=steps)

    by_epochs = weakened(Train().settled(1), fallback, times)
    by_steps = weakened(Train(max_steps=40).settled(1), fallback, times)

    assert by_epochs.learning_rate == pytest.approx(1e-5 * rate**times)
    assert by_epochs.beta == pytest.approx(5 * beta**times)
    assert by_epochs.epochs == pytest.approx(3 * steps**times)
    assert by_steps.max_steps == max(1, round(40 * steps**times))


@pytest.mark.parametrize(
    ("section", "why"),
    [
        ({"fallback": {"learning_rate": 1}}, "changes nothing"),
        ({"merge": {"last": 3, "weights": [1, 2]}}, "2 weights for 3 checkpoints"),
        ({"merge": {"last": 2, "weights": [1, 0]}}, "the newest checkpoint's is above 0"),
        ({"rounds": 0}, "greater than or equal to 1"),
    ],
)
def test_section_that_makes_no_sense_is_refused(section: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        SemiOnline.model_validate(section)
