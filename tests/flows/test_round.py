"""Whole runs against a fake engine: what holds of every run, what a second one sends, what a kill costs.

recipe = read_recipe(path)
with RunFolder(run_folder(recipe)).locked():
    manifest, sent = asyncio.run(make_round(open_run(recipe, Silent()), PlainRunner(2), Stage.EXPORT))
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from factory.ledger.identity import Stage
from factory.recipes.recipe_file import read_recipe
from factory.run import run_folder
from judges import clarity, correctness, helpfulness
from schemas.errors import DriftError, EngineUnavailable, FactoryError
from schemas.rows import (
    Cause,
    DropReason,
    Loop,
    VerdictStatus,
)
from tests.conftest import PROMPTS, Command, RecipeWriter
from tests.fake_engine import (
    FakeEngine,
    Seen,
    always,
    busy,
    dies_after,
    error,
    first_tries,
    html,
    no_choices,
    no_faults,
    reset,
    reset_within,
    slowly,
    truncated,
    whenever,
)
from tests.runs import Tables, assert_equal, kept, made, make, tables

SLOTS = ("greedy", "t0", "t1", "t2", "t3", "t4")
RUBRICS = {judge.name: judge.rubric for judge in (helpfulness.JUDGE, correctness.JUDGE, clarity.JUDGE)}


@dataclass(frozen=True)
class Finished:
    """A run that many tests look at: none of them may change it."""

    write_recipe: RecipeWriter
    engine: FakeEngine
    root: Path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    with FakeEngine() as engine:
        write = RecipeWriter(tmp_path_factory.mktemp("finished"), engine.url)
        root, _ = make(write())
        engine.seen.clear()
        yield Finished(write, engine, root)


@pytest.fixture(scope="module")
def undisturbed(finished: Finished) -> Tables:
    """The small recipe's rows from a run in which nothing happened."""
    return tables(finished.root)


# What holds of every run


def test_round_every_prompt_has_each_slot_once(undisturbed: Tables) -> None:
    found = Counter((row.prompt_id, row.slot) for row in undisturbed.rollouts)

    assert found == Counter((prompt.prompt_id, slot) for prompt in undisturbed.prompts for slot in SLOTS)
    assert len(undisturbed.prompts) == len(PROMPTS)


def test_round_seeds_are_all_different(undisturbed: Tables) -> None:
    assert len({row.seed for row in undisturbed.rollouts}) == len(undisturbed.rollouts)


def test_round_every_prompt_ends_in_one_pair_or_one_drop(undisturbed: Tables) -> None:
    ended = Counter(row.prompt_id for row in undisturbed.pairs) + Counter(row.prompt_id for row in undisturbed.dropped)

    assert ended == Counter(prompt.prompt_id for prompt in undisturbed.prompts)


def test_round_has_something_of_everything(undisturbed: Tables) -> None:
    """Else the laws here would hold of nothing."""
    assert {row.cause for row in undisturbed.pairs} >= {Cause.JURY, Cause.LOOP}
    assert {row.reason for row in undisturbed.dropped} >= {
        DropReason.ALL_LOOPS,
        DropReason.ALL_SAME,
        DropReason.UNFINISHED,
    }
    assert {row.loop for row in undisturbed.rollouts} >= {Loop.CLEAN, Loop.HARD}
    assert any(row.reasoning for row in undisturbed.rollouts)
    assert any(row.rejected_trimmed for row in undisturbed.pairs)


def test_round_loops_are_never_chosen_and_rejected_where_there_is_one(undisturbed: Tables) -> None:
    loops = {row.rollout_id for row in undisturbed.rollouts if row.loop is Loop.HARD}
    with_loops = {row.prompt_id for row in undisturbed.rollouts if row.loop is Loop.HARD}

    assert not loops & {row.chosen_id for row in undisturbed.pairs}
    assert all((row.rejected_id in loops) == (row.prompt_id in with_loops) for row in undisturbed.pairs)


def test_round_chosen_and_rejected_are_two_answers_to_the_same_prompt(undisturbed: Tables) -> None:
    answers = {row.rollout_id: row for row in undisturbed.rollouts}
    for pair in undisturbed.pairs:
        assert answers[pair.chosen_id].prompt_id == answers[pair.rejected_id].prompt_id == pair.prompt_id
        assert pair.chosen == answers[pair.chosen_id].answer
        assert answers[pair.rejected_id].answer.startswith(pair.rejected)
        assert pair.rejected_trimmed == (answers[pair.rejected_id].answer != pair.rejected)
        assert pair.chosen.strip() != pair.rejected.strip()


def test_round_score_is_null_exactly_where_status_is_not_ok(undisturbed: Tables) -> None:
    assert {verdict.status for verdict in undisturbed.verdicts} >= {VerdictStatus.OK, VerdictStatus.SKIPPED_LOOP}
    assert all((row.score is None) == (row.status is not VerdictStatus.OK) for row in undisturbed.verdicts)


def test_round_every_answer_has_one_verdict_of_each_judge(undisturbed: Tables) -> None:
    found = Counter((row.rollout_id, row.judge) for row in undisturbed.verdicts)
    answered = [row.rollout_id for row in undisturbed.rollouts if row.text or row.finished]

    assert found == Counter((rollout_id, judge) for rollout_id in answered for judge in RUBRICS)


def test_round_token_ids_say_what_the_texts_say(undisturbed: Tables) -> None:
    """The fake's tokens are characters, and 0 is its end token."""
    for row in undisturbed.rollouts:
        assert row.token_ids is not None
        assert "".join(chr(token) for token in row.token_ids if token) == row.answer
    for pair in undisturbed.pairs:
        assert "".join(chr(token) for token in pair.chosen_token_ids or () if token) == pair.chosen
        assert "".join(chr(token) for token in pair.rejected_token_ids or () if token) == pair.rejected


# Run it again


def test_round_second_run_sends_nothing(write_recipe: RecipeWriter, fake_engine: FakeEngine) -> None:
    make(write_recipe(), Stage.EXPORT)
    fake_engine.seen.clear()

    _, sent = make(write_recipe(), Stage.EXPORT)

    assert sent == 0
    assert fake_engine.seen == []


def test_round_stage_by_stage_is_the_same_run(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, undisturbed: Tables
) -> None:
    for last in (Stage.PROMPTS, Stage.ROLLOUTS, Stage.VERDICTS, Stage.PAIRS):
        root, _ = make(write_recipe(), last)

    assert_equal(tables(root), undisturbed)
    assert len({str(seen.body) for seen in fake_engine.questions}) == len(fake_engine.questions)


@pytest.mark.parametrize(
    "changes",
    [
        {"machine.shard_size": 2},
        {"machine.concurrency": 1, "machine.shards_in_flight": 1},
        {"machine.max_model_len": 4096},
        {"export.test_share": 0.5},
    ],
    ids=lambda changes: next(iter(changes)).split(".")[1],
)
def test_round_what_only_says_how_it_runs_may_change(
    finished: Finished, undisturbed: Tables, changes: dict[str, object]
) -> None:
    make(finished.write_recipe(changes))

    assert finished.engine.seen == []
    assert_equal(tables(finished.root), undisturbed)


def test_round_another_address_of_the_same_model_is_the_same_run(finished: Finished, undisturbed: Tables) -> None:
    with FakeEngine() as other:
        make(finished.write_recipe({"policy.urls": [other.url]}))

        assert other.seen == finished.engine.seen == []
    assert_equal(tables(finished.root), undisturbed)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", 8),
        ("rollouts.max_tokens", 300),
        ("pairing.margin", 0.9),
        ("policy.model", "another-model"),
        ("jury.quorum", 3),
        ("prompts.sample", 3),
    ],
)
def test_round_folder_of_another_recipe_is_refused_with_the_field(
    finished: Finished, undisturbed: Tables, field: str, value: object
) -> None:
    with pytest.raises(DriftError, match=rf"{finished.root}.*{field}: .* -> .*{value}"):
        make(finished.write_recipe({field: value}))

    assert finished.engine.seen == []
    assert_equal(tables(finished.root), undisturbed)


def test_round_prompts_that_changed_are_refused_with_the_source(finished: Finished) -> None:
    with pytest.raises(DriftError, match=r"sources\.prompts"):
        make(finished.write_recipe(prompts=[*PROMPTS, {"prompt": "One more."}]))


def test_round_empty_source_that_is_filled_afterwards_goes_on(write_recipe: RecipeWriter) -> None:
    """Nothing was made from the empty file, so nothing can have drifted."""
    with pytest.raises(FactoryError, match="holds no prompts"):
        make(write_recipe(prompts=""))

    root, _ = make(write_recipe())

    assert len(tables(root).prompts) == len(PROMPTS)


def test_round_model_name_that_is_mended_as_the_error_says_goes_on(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, undisturbed: Tables
) -> None:
    """Prompts were made, which no model decides; nothing was made by the wrong model."""
    models = {"data": [{"id": "fake-model"}, {"id": "other"}]}

    async def listed(_: web.Request, __: object) -> web.StreamResponse:
        return web.json_response(models)

    fake_engine.faults = always(listed, "/v1/models")
    with pytest.raises(FactoryError, match="name one of these as `model`"):
        make(write_recipe({"policy.model": "fake"}))

    root, _ = make(write_recipe({"policy.model": "fake-model"}))

    assert_equal(tables(root), undisturbed)


# Kills


@pytest.mark.parametrize("answered", [1, 30, 100], ids=["at once", "in the rollouts", "in the verdicts"])
@pytest.mark.usefixtures("unhurried")
def test_round_dead_engine_costs_no_answer(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, undisturbed: Tables, answered: int
) -> None:
    fake_engine.faults = dies_after(answered)
    with pytest.raises(EngineUnavailable):
        make(write_recipe())
    root = run_folder(read_recipe(write_recipe()))
    have = kept(root)
    fake_engine.faults = no_faults
    fake_engine.seen.clear()

    make(write_recipe())

    whole = len(undisturbed.rollouts) + sum(row.status is VerdictStatus.OK for row in undisturbed.verdicts)
    assert have == answered
    assert len(fake_engine.questions) == whole - have
    assert_equal(tables(root), undisturbed)


def test_round_killed_process_costs_no_answer_and_holds_no_lock(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, undisturbed: Tables
) -> None:
    fake_engine.faults = whenever(lambda _: len(fake_engine.questions) > 20, slowly(0.5))
    path = write_recipe()
    process = subprocess.Popen([sys.executable, "-m", "flows.cli", "run", path, "--plain"], stderr=subprocess.DEVNULL)
    while len(fake_engine.questions) < 30:
        assert process.poll() is None
    process.kill()
    process.wait()
    root = run_folder(read_recipe(path))
    have = kept(root)
    fake_engine.faults = no_faults
    fake_engine.seen.clear()

    make(path)

    assert 10 <= have < len(undisturbed.rollouts)
    assert len([seen for seen in fake_engine.questions if not seen.is_judging]) == len(undisturbed.rollouts) - have
    assert_equal(tables(root), undisturbed)


# Things that go wrong


@pytest.mark.usefixtures("unhurried")
def test_round_every_first_try_fails_and_leaves_no_trace(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, undisturbed: Tables
) -> None:
    fake_engine.faults = first_tries(
        error(500), html(502), busy(), busy("3"), reset, reset_within, truncated, no_choices, error(408)
    )

    root, sent = make(write_recipe())

    assert_equal(tables(root), undisturbed)
    assert sent == len(fake_engine.questions) == 2 * len({str(seen.body) for seen in fake_engine.questions})


@pytest.mark.usefixtures("unhurried")
def test_round_poison_prompt_is_dropped_and_the_others_go_on(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, undisturbed: Tables
) -> None:
    poison = "Write a sentence about number 3."
    fake_engine.faults = whenever(lambda seen: seen.asked == poison, error(500, "CUDA error"))

    rows = made(write_recipe())

    (prompt_id,) = (prompt.prompt_id for prompt in rows.prompts if prompt.messages[-1].content == poison)
    assert {row.reason for row in rows.dropped if row.prompt_id == prompt_id} == {DropReason.ENGINE_ERROR}
    assert all("CUDA error" in (row.error or "") for row in rows.rollouts if row.prompt_id == prompt_id)
    others = [row for row in rows.rollouts if row.prompt_id != prompt_id]
    assert others == [row for row in undisturbed.rollouts if row.prompt_id != prompt_id]


def test_round_prompt_too_long_is_dropped_with_that_reason(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, undisturbed: Tables
) -> None:
    rows = made(write_recipe(prompts=[*PROMPTS, {"prompt": "long " * 40_000}]))

    (long,) = (row for row in rows.dropped if row.reason is DropReason.PROMPT_TOO_LONG)
    assert "maximum context length" in (long.detail or "")
    assert {row.prompt_id for row in rows.rollouts if row.error} == {long.prompt_id}
    assert len(rows.pairs) == len(undisturbed.pairs)


@pytest.mark.usefixtures("unhurried")
def test_round_reply_that_never_comes_is_a_failed_verdict(write_recipe: RecipeWriter, fake_engine: FakeEngine) -> None:
    def of_clarity(seen: Seen) -> bool:
        return seen.is_judging and str(seen.body["messages"][0]["content"]).startswith(RUBRICS["clarity"])

    fake_engine.faults = whenever(of_clarity, error(400, "will not"))

    rows = made(write_recipe())

    judged = [row for row in rows.verdicts if not row.status.value.startswith("skipped")]
    assert {row.judge for row in judged if row.status is VerdictStatus.FAILED} == {"clarity"}
    assert {row.judge for row in judged if row.status is VerdictStatus.OK} == {"helpfulness", "correctness"}
    assert rows.pairs


# Other engines


def test_round_judges_own_engine_gets_its_questions_and_no_others(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, undisturbed: Tables
) -> None:
    with FakeEngine(model="judge-model") as second, FakeEngine(model="third-model") as third:
        seats = [
            {"judge": "helpfulness"},
            {"judge": "correctness", "model": {"model": "judge-model", "urls": [second.url]}},
            {"judge": "clarity", "model": {"model": "third-model", "urls": [third.url]}},
        ]
        rows = made(write_recipe({"jury.judges": seats}))

        asked = {
            name: {seen.body["messages"][0]["content"] for seen in engine.questions if seen.is_judging}
            for name, engine in (("helpfulness", fake_engine), ("correctness", second), ("clarity", third))
        }
        for name, systems in asked.items():
            (system,) = systems
            assert system.startswith(RUBRICS[name])
        assert all(seen.is_judging for seen in (*second.questions, *third.questions))
    assert rows.verdicts == undisturbed.verdicts


def test_round_replicas_share_the_work_and_change_nothing(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, undisturbed: Tables
) -> None:
    with FakeEngine() as other:
        rows = made(write_recipe({"policy.urls": [fake_engine.url, other.url]}))

        shares = len(fake_engine.questions), len(other.questions)
    assert min(shares) > 0.3 * sum(shares)
    assert_equal(rows, undisturbed)


@pytest.mark.usefixtures("unhurried")
def test_round_replica_that_dies_leaves_its_questions_to_the_other(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, undisturbed: Tables
) -> None:
    """A dead server never turns into rows that say so."""
    with FakeEngine(faults=dies_after(10)) as other:
        rows = made(write_recipe({"policy.urls": [fake_engine.url, other.url]}))

    assert [row.error for row in rows.rollouts if row.error] == []
    assert_equal(rows, undisturbed)


def test_round_judge_that_nobody_serves_is_found_before_a_rollout_is_paid(
    write_recipe: RecipeWriter, fake_engine: FakeEngine
) -> None:
    with FakeEngine() as gone:
        seat = {"judge": "clarity", "model": {"model": "judge-model", "urls": [gone.url]}}
    with pytest.raises(EngineUnavailable):
        make(write_recipe({"jury.judges": [seat]}))

    assert fake_engine.questions == []


# Prefect


def test_round_prefect_writes_the_same_rows(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, undisturbed: Tables
) -> None:
    path = write_recipe()

    ended = subprocess.run(
        [sys.executable, "-m", "flows.cli", "run", path], capture_output=True, text=True, env=dict(os.environ)
    )

    assert ended.returncode == 0, ended.stderr
    assert_equal(tables(run_folder(read_recipe(path))), undisturbed)
    assert len(fake_engine.questions) == len({str(seen.body) for seen in fake_engine.questions})


# Pair again


def test_pair_with_another_margin_needs_no_request(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, undisturbed: Tables, prefactory: Command
) -> None:
    root, _ = make(write_recipe())
    fake_engine.seen.clear()

    ended = prefactory("pair", write_recipe({"pairing.margin": 50.0}))

    assert ended.code == 0, ended.err
    assert fake_engine.seen == []
    rows = tables(root)
    assert {row.cause for row in rows.pairs} == {Cause.LOOP}
    assert DropReason.BELOW_MARGIN in {row.reason for row in rows.dropped}
    assert (rows.rollouts, rows.verdicts) == (undisturbed.rollouts, undisturbed.verdicts)


def test_pair_with_other_rollouts_is_refused_with_the_field(write_recipe: RecipeWriter, prefactory: Command) -> None:
    make(write_recipe())

    ended = prefactory("pair", write_recipe({"rollouts.max_tokens": 300}))

    assert ended.code == 2
    assert "rollouts.max_tokens: 400 -> 300" in ended.error


def test_pair_of_an_unfinished_run_is_refused_and_changes_nothing(
    write_recipe: RecipeWriter, prefactory: Command
) -> None:
    make(write_recipe(), Stage.ROLLOUTS)

    ended = prefactory("pair", write_recipe({"pairing.margin": 50.0}))

    assert ended.code == 2
    make(write_recipe())  # else it is refused as another recipe's run


def with_another_judge(url: str) -> dict[str, object]:
    seats = [{"judge": judge} for judge in ("helpfulness", "correctness")]
    return {"jury.judges": [*seats, {"judge": "clarity", "model": {"model": "judge-model", "urls": [url]}}]}


def test_judge_may_have_another_model_until_there_are_verdicts(
    write_recipe: RecipeWriter, fake_engine: FakeEngine
) -> None:
    with FakeEngine(model="judge-model") as other:
        path, changes = write_recipe(), with_another_judge(other.url)
        make(path, Stage.ROLLOUTS)
        answered = len(fake_engine.questions)

        rows = made(write_recipe(changes))
        with pytest.raises(DriftError, match=r"jury\.judges\.2\.model"):
            make(write_recipe())

    assert len(fake_engine.questions) - answered == sum(one.calls for one in rows.verdicts if one.judge != "clarity")
    assert {one.is_judging for one in other.questions} == {True}
