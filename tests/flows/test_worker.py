"""What a worker of a cluster does with a shard, without a cluster: it gets a brief and a job, and gives back what it did."""

import asyncio
import pickle
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from signal import SIGTERM

import pytest

from factory.ledger import lock
from factory.ledger.identity import Stage
from factory.opening import Opened, open_run
from factory.progress import Silent
from factory.recipes.recipe_file import identity, read_recipe
from factory.run import RunFolder, run_folder
from flows.errands import Errand, Kind
from flows.plain import PlainRunner
from flows.round import gate_of, make_round
from flows.worker import Brief, Done, Job, Worker, brief_of
from schemas.errors import Fixable, Halted, Stopped
from schemas.recipe import Machine
from tests.conftest import RecipeWriter
from tests.fake_engine import FakeEngine, slowly, whenever
from tests.runs import assert_equal, made, make, tables

SEATS = ("helpfulness", "correctness", "clarity")
WHOLE = (Errand(Kind.ANSWER, SEATS), Errand(Kind.HEAR, SEATS), Errand(Kind.CLOSE, SEATS))


async def never() -> Halted:
    await asyncio.Event().wait()
    raise AssertionError("unreachable: nobody sets the event")


def sent_over(brief: Brief, job: Job) -> tuple[Brief, Job]:
    """As the other machine gets them."""
    found: tuple[Brief, Job] = pickle.loads(pickle.dumps((brief, job)))
    return found


def done_by_a_worker(
    brief: Brief, jobs: Sequence[Job], stopping: Callable[[], Awaitable[Halted]] = never
) -> list[Done]:
    async def work() -> list[Done]:
        over = [sent_over(brief, job) for job in jobs]
        async with Worker(over[0][0]) as worker:
            return [await worker.do(job, stopping) for _, job in over]

    return pickle.loads(pickle.dumps(asyncio.run(work())))  # type: ignore[no-any-return]


def with_prompts(path: Path) -> Opened:
    """A run whose prompts are there, and nothing else."""
    make(path, Stage.PROMPTS)
    return open_run(read_recipe(path), Silent())


def test_worker_takes_every_shard_through_all_steps_as_a_plain_run_does(write_recipe: RecipeWriter) -> None:
    plain = made(write_recipe({"name": "plain"}, name="plain"))
    path = write_recipe()
    opened = with_prompts(path)
    done = done_by_a_worker(brief_of(opened), [Job(shard, WHOLE) for shard in opened.work.shards()])
    assert [one.error for one in done] == [None, None, None]
    root, sent = make(path)
    assert sent == 0
    assert_equal(tables(root), plain)


def test_worker_tells_what_it_sent_and_which_records_it_wrote(
    write_recipe: RecipeWriter, fake_engine: FakeEngine
) -> None:
    opened = with_prompts(write_recipe())
    assert 1 in opened.work.pending(Stage.VERDICTS)  # looked up, which is done once
    (done,) = done_by_a_worker(brief_of(opened), [Job(1, WHOLE)])
    assert done.spent.requests == len(fake_engine.questions)
    assert done.spent.completion_tokens > 0
    assert [(one.stage, one.shard) for one in done.records] == [("rollouts", 1), ("verdicts", 1)]
    assert done.told.advanced["rollouts"] == 5 * 6
    assert 1 in opened.work.pending(Stage.VERDICTS)
    for record in done.records:
        opened.work.learn(record)
    assert 1 not in opened.work.pending(Stage.VERDICTS)


def test_worker_that_is_stopped_keeps_what_was_under_way(write_recipe: RecipeWriter, fake_engine: FakeEngine) -> None:
    fake_engine.faults = whenever(lambda seen: seen.is_question, slowly(0.3))

    async def soon() -> Halted:
        while not fake_engine.questions:
            await asyncio.sleep(0.01)
        return Stopped("stopped", SIGTERM)

    path = write_recipe()
    opened = with_prompts(path)
    (done,) = done_by_a_worker(brief_of(opened), [Job(0, WHOLE)], soon)
    assert isinstance(done.error, Stopped)
    fake_engine.faults = lambda _: None
    asked = len(fake_engine.questions)
    assert 0 < asked < 5 * 6
    _, sent = make(path)
    plain_root, plain_sent = make(write_recipe({"name": "plain"}, name="plain"))
    assert sent + asked == plain_sent
    assert_equal(tables(run_folder(read_recipe(path))), tables(plain_root))


def test_worker_with_another_version_touches_nothing(write_recipe: RecipeWriter, fake_engine: FakeEngine) -> None:
    opened = with_prompts(write_recipe())
    brief = replace(brief_of(opened), versions={**brief_of(opened).versions, "pyarrow": "1.0"})
    (done,) = done_by_a_worker(brief, [Job(0, WHOLE)])
    assert isinstance(done.error, Fixable)
    assert "pyarrow" in str(done.error)
    assert not fake_engine.questions


def test_worker_with_other_weights_than_the_run_was_begun_with_does_nothing(
    write_recipe: RecipeWriter, fake_engine: FakeEngine
) -> None:
    brief = brief_of(with_prompts(write_recipe()))
    there = replace(brief, identity={**brief.identity, "models.policy": '"0123456789abcdef0123"'})
    (done,) = done_by_a_worker(there, [Job(0, WHOLE)])
    assert isinstance(done.error, Fixable)
    assert "policy fake-model: a worker has weights remote:fake-mode, the run was begun with 0123456789abcdef" in str(
        done.error
    )
    assert not fake_engine.questions


def test_worker_counts_what_was_tried_in_vain_before_it(write_recipe: RecipeWriter) -> None:
    opened = with_prompts(write_recipe())
    (done,) = done_by_a_worker(brief_of(opened), [Job(0, WHOLE, {"timeout": 3})])
    (verdicts,) = [record for record in done.records if record.stage == Stage.VERDICTS]
    assert verdicts.notes["retries.timeout"] == 3


def test_folder_is_not_taken_while_a_worker_of_the_run_before_is_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "OUTLIVED", 0.0)
    said: list[str] = []
    with (
        lock.at_work(tmp_path),
        pytest.raises(Fixable, match="workers of an earlier run"),
        lock.held(tmp_path, lock.AT_ONCE, said.append),
    ):
        raise AssertionError("unreachable")
    assert len(said) == 1
    with lock.held(tmp_path, lock.AT_ONCE, said.append), lock.at_work(tmp_path), lock.at_work(tmp_path):
        assert len(said) == 1


def test_cluster_is_no_part_of_the_identity(write_recipe: RecipeWriter) -> None:
    alone = read_recipe(write_recipe())
    spread = read_recipe(write_recipe({"machine.cluster": {"address": "10.0.0.1:6379"}}))
    assert isinstance(spread.machine, Machine)
    assert spread.machine.cluster is not None
    assert identity(alone) == identity(spread)


def test_plain_round_after_a_worker_counts_its_requests(write_recipe: RecipeWriter) -> None:
    path = write_recipe()
    opened = with_prompts(path)
    (done,) = done_by_a_worker(brief_of(opened), [Job(0, WHOLE)])
    with RunFolder(run_folder(read_recipe(path))).locked():
        again = open_run(read_recipe(path), Silent())
        gate = gate_of(again.work)
        gate.add(done.spent)
        _, sent = asyncio.run(make_round(again, PlainRunner(2, gate), Stage.PAIRS, gate=gate))
        assert gate.spending is not None
        assert gate.spending.requests == sent > done.spent.requests
