"""Judging beside the rollouts: that it is beside, that no row knows, and that no straggler holds the engine up."""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from factory.ledger.identity import Stage
from factory.recipes.recipe_file import read_recipe
from factory.run import run_folder
from factory.serving.models import LocalModel
from flows.judging import beside_policy
from schemas.errors import BudgetSpent
from schemas.recipe import ModelRef, Recipe
from tests.conftest import RecipeWriter
from tests.fake_engine import Body, FakeEngine, Fault, Script, Seen, empty_text, whenever
from tests.runs import assert_equal, kept, made, make, tables

PATIENCE = 30.0  # seconds: what never comes is a failed test, not one that hangs
MANY: list[Mapping[str, object]] = [
    {"prompt": f"Write a sentence about number {number}.", "language": "en" if number % 2 else None}
    for number in range(12)
]
CASCADE: dict[str, object] = {"jury.cascade": {"first": 1, "margin": 0.5}}
CHECKED: dict[str, object] = CASCADE | {"jury.verifiers": ["language"]}
WATCHED: dict[str, object] = {"jury.trust": {"canaries": 0.3, "reasked": 0.3}, "jury.verifiers": ["language"]}


def until(engine: FakeEngine, questions: int = 0, judging: int = 0) -> Fault:
    """The right answer, once the engine was asked so many questions, or so many of a judge."""

    async def fault(_: web.Request, answer: Body) -> web.Response:
        async with asyncio.timeout(PATIENCE):
            while len(engine.questions) < questions or sum(seen.is_judging for seen in engine.questions) < judging:
                await asyncio.sleep(0.01)
        return web.json_response(answer)

    return fault


def about(number: int, *, judging: bool = False) -> Callable[[Seen], bool]:
    """Requests about one of the prompts."""
    return lambda seen: f"number {number}." in seen.asked and seen.is_judging == judging


def order_of(engine: FakeEngine) -> list[str]:
    """r for each rollout and j for each judgement, in the order of arrival."""
    return ["j" if seen.is_judging else "r" for seen in engine.questions]


def test_overlapped_judging_begins_while_later_answers_are_still_written(
    write_recipe: RecipeWriter, fake_engine: FakeEngine
) -> None:
    """The answers of the last prompt come when a judge was asked about earlier ones: never, if that came after."""
    fake_engine.faults = whenever(about(11), until(fake_engine, judging=1))

    rows = made(write_recipe({"machine.shard_size": 3}, MANY))

    assert not [row for row in rows.rollouts if row.error]


def test_overlapped_judge_on_a_server_of_its_own_begins_as_early(
    write_recipe: RecipeWriter, fake_engine: FakeEngine
) -> None:
    with FakeEngine(model="judge-model") as second:
        seat = {"judge": "clarity", "model": {"model": "judge-model", "urls": [second.url]}}
        fake_engine.faults = whenever(about(11), until(second, judging=1))

        rows = made(write_recipe({"machine.shard_size": 3, "jury.judges": [seat]}, MANY))

    assert not [row for row in rows.rollouts if row.error]


def test_after_no_judge_is_asked_before_the_last_answer_is_there(
    write_recipe: RecipeWriter, fake_engine: FakeEngine
) -> None:
    made(write_recipe({"machine.shard_size": 3, "machine.judging": "after"}, MANY))

    order = order_of(fake_engine)
    assert order.index("j") == 72 == order.count("r")


@pytest.mark.parametrize("size", [1, 3, 256])
@pytest.mark.parametrize("changes", [{}, CASCADE, CHECKED, WATCHED], ids=["plain", "cascade", "checked", "watched"])
def test_overlapped_writes_the_same_rows_as_one_after_the_other(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, changes: dict[str, object], size: int
) -> None:
    # Two of three judges fail at one answer, so that something is asked again.
    fake_engine.faults = first_time(about(3, judging=True), empty_text)
    beside = made(write_recipe(changes | {"name": "beside", "machine.shard_size": size}, MANY))
    fake_engine.faults = first_time(about(3, judging=True), empty_text)
    after = made(
        write_recipe(changes | {"name": "after", "machine.judging": "after", "machine.shard_size": size}, MANY)
    )

    assert_equal(beside, after)


def first_time(holds: Callable[[Seen], bool], fault: Fault) -> Script:
    """Each such question meets the fault once."""
    met: set[str] = set()

    def script(seen: Seen) -> Fault | None:
        if not holds(seen) or str(seen.body) in met:
            return None
        met.add(str(seen.body))
        return fault

    return script


def test_overlapped_with_prefect_is_the_same(write_recipe: RecipeWriter, fake_engine: FakeEngine) -> None:
    small: dict[str, object] = {"machine.shard_size": 3}
    after = made(write_recipe({"name": "after", "machine.judging": "after"} | small, MANY))
    path = write_recipe({"name": "beside"} | small, MANY)
    fake_engine.faults = whenever(about(11), until(fake_engine, judging=len(after.verdicts) + 1))

    ended = subprocess.run(
        [sys.executable, "-m", "flows.cli", "run", path], capture_output=True, text=True, env=dict(os.environ)
    )

    assert ended.returncode == 0, ended.stderr
    assert_equal(tables(run_folder(read_recipe(path))), after)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_stragglers_of_a_shard_do_not_hold_up_the_next(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, size: int
) -> None:
    """One shard at a time may have something to send, and an answer of the first comes when all else was asked."""
    held = first_time(about(0), until(fake_engine, questions=72))
    fake_engine.faults = once(held)
    small: dict[str, object] = {"machine.shard_size": size, "machine.shards_in_flight": 1, "machine.concurrency": 2}

    rows = made(write_recipe(small | {"machine.judging": "after"}, MANY))

    assert not [row for row in rows.rollouts if row.error]
    assert fake_engine.most_in_flight == 2


def once(script: Script) -> Script:
    """Its first fault, and none after that."""
    met = False

    def only(seen: Seen) -> Fault | None:
        nonlocal met
        if met or (fault := script(seen)) is None:
            return None
        met = True
        return fault

    return only


def test_overlapped_judgements_of_an_earlier_shard_go_before_answers_of_a_later_one(
    write_recipe: RecipeWriter, fake_engine: FakeEngine
) -> None:
    one_by_one: dict[str, object] = {"machine.shard_size": 1, "machine.concurrency": 1, "machine.shards_in_flight": 4}

    made(write_recipe(one_by_one, MANY))

    order = order_of(fake_engine)
    assert order.index("j") < 36  # after 72, were they in line in the order in which they came
    assert order[-1] == "j"


def test_overlapped_run_that_was_cut_off_sends_nothing_twice(
    write_recipe: RecipeWriter, fake_engine: FakeEngine
) -> None:
    small: dict[str, object] = {"machine.shard_size": 3, "machine.concurrency": 4}
    whole = made(write_recipe({"name": "whole"} | small, MANY))
    fake_engine.seen.clear()
    path = write_recipe({"budget.max_requests": 100} | small, MANY)
    with pytest.raises(BudgetSpent, match="max_requests"):
        made(path)
    assert kept(run_folder(read_recipe(path))) == 100

    rows = made(write_recipe(small, MANY))

    assert_equal(rows, whole)
    assert len(fake_engine.questions) == len({str(seen.body) for seen in fake_engine.questions})


@dataclass
class Counts:
    """What a person would see at the end of each phase."""

    done: Counter[str] = field(default_factory=Counter)
    total: Counter[str] = field(default_factory=Counter)

    def say(self, line: str) -> None:
        """Lines are looked at elsewhere."""

    def begin(self, phase: str, total: int) -> None:
        assert phase not in self.total
        self.total[phase] = total

    def advance(self, phase: str, steps: int = 1) -> None:
        self.done[phase] += steps

    def expect(self, phase: str, more: int) -> None:
        self.total[phase] += more


@pytest.mark.parametrize("judging", ["overlapped", "after"])
@pytest.mark.parametrize("changes", [{}, CASCADE, CHECKED, WATCHED], ids=["plain", "cascade", "checked", "watched"])
def test_progress_ends_at_its_total_whichever_way_and_after_a_stop(
    write_recipe: RecipeWriter, judging: str, changes: dict[str, object]
) -> None:
    changes = changes | {"machine.judging": judging, "machine.shard_size": 3}
    whole, rest = Counts(), Counts()
    make(write_recipe(changes | {"name": "whole"}), Stage.PAIRS, whole)
    with pytest.raises(BudgetSpent):
        make(write_recipe(changes | {"budget.max_requests": 60}))
    make(write_recipe(changes), Stage.PAIRS, rest)

    assert whole.done == whole.total
    assert rest.done == rest.total
    assert whole.total["rollouts"] == 78 > rest.total["rollouts"] > 0


# Who can be heard beside the policy


def recipe(policy: str, *judges: str, **machine: object) -> Recipe:
    """Models by name; one with a colon runs already."""

    def model(name: str) -> dict[str, object]:
        return {"model": name} | ({"urls": ["http://127.0.0.1:9/v1"]} if ":" in name else {})

    return Recipe.model_validate(
        {
            "name": "n",
            "prompts": {"sources": [{"path": "p.jsonl"}]},
            "policy": model(policy),
            "jury": {
                "judges": [
                    {"judge": "clarity", "name": f"{number}"} | ({"model": model(name)} if name != "own" else {})
                    for number, name in enumerate(judges)
                ]
            },
            "machine": machine,
        }
    )


@pytest.mark.parametrize(
    ("policy", "judges", "beside"),
    [
        ("local", ["own", "own"], ["0", "1"]),
        ("local", ["other"], []),
        ("local", ["other", "own"], ["1"]),
        ("local", ["remote:", "other"], ["0"]),
        ("remote:", ["own", "another:"], ["0", "1"]),
        ("remote:", ["first", "second", "first"], ["0", "2"]),
        ("remote:", ["first", "own"], ["0", "1"]),
    ],
    ids=str,
)
def test_beside_policy_never_two_local_models(policy: str, judges: list[str], beside: list[str]) -> None:
    found = [seat.seat for panel in beside_policy(recipe(policy, *judges)) for seat in panel]

    assert sorted(found) == beside


def test_beside_policy_nobody_where_the_recipe_wants_one_after_the_other() -> None:
    assert beside_policy(recipe("remote:", "own", judging="after")) == []


def test_beside_policy_of_a_cascade_only_the_first_judges() -> None:
    whole = recipe("remote:", "own", "own").model_dump()
    cascade = Recipe.model_validate(whole | {"jury": whole["jury"] | {"cascade": {"first": 1}}})

    assert [[seat.seat for seat in panel] for panel in beside_policy(cascade)] == [["0"]]


# One local server at a time


@dataclass
class Local:
    """Models that a run starts servers for, and when each was up."""

    engines: dict[str, FakeEngine]
    events: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def serve(self, _: LocalModel, ref: ModelRef, *__: object) -> AsyncIterator[str]:
        self.events.append(f"{ref.model} up")
        yield self.engines[ref.model].url
        self.events.append(f"{ref.model} down")


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Local]:
    def resolved(ref: ModelRef, *_: object) -> LocalModel:
        return LocalModel(ref.model, tmp_path, f"sha-{ref.model}")

    with FakeEngine(model="own") as own, FakeEngine(model="other") as other:
        found = Local({"own": own, "other": other})
        monkeypatch.setattr("factory.serving.engines.resolve_model", resolved)
        monkeypatch.setattr("factory.serving.engines.serve", found.serve)
        yield found


@pytest.mark.parametrize("judging", ["overlapped", "after"])
def test_local_models_are_up_one_after_the_other_and_once_each(
    write_recipe: RecipeWriter, local: Local, judging: str
) -> None:
    seats = [{"judge": "clarity", "model": {"model": "other"}}, {"judge": "helpfulness"}]
    changes: dict[str, object] = {"policy": {"model": "own"}, "jury.judges": seats, "machine.judging": judging}

    made(write_recipe(changes | {"machine.shard_size": 3}, MANY))

    assert local.events == ["own up", "own down", "other up", "other down"]
    own = order_of(local.engines["own"])
    assert (own.index("j") < 72) == (judging == "overlapped")
    assert set(order_of(local.engines["other"])) == {"j"}


def test_local_judge_is_up_beside_a_policy_that_runs_elsewhere(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, local: Local
) -> None:
    fake_engine.faults = whenever(about(11), until(local.engines["other"], judging=1))
    seats = [{"judge": "clarity", "model": {"model": "other"}}, {"judge": "helpfulness", "model": {"model": "own"}}]

    made(write_recipe({"jury.judges": seats, "machine.shard_size": 3}, MANY))

    assert local.events == ["other up", "other down", "own up", "own down"]
