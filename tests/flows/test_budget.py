"""What a recipe's budget lets out, to the last request, and how a run goes on with a larger one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from factory.client.protocol import Ability
from factory.client.spending import read_spent
from factory.ledger.identity import Stage
from factory.recipes.recipe_file import read_recipe
from factory.run import RunFolder, run_folder
from flows.round_page import figure_rows
from schemas.errors import BudgetSpent, RecipeError
from schemas.manifest import Spent
from schemas.rows import Rollout
from tests.conftest import Command, RecipeWriter
from tests.fake_engine import (
    FakeEngine,
    Fault,
    aborted,
    empty_text,
    error,
    first_tries,
    no_choices,
    no_faults,
    slowly,
    whenever,
    wrong_model,
)
from tests.runs import Tables, assert_equal, kept, made, make


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    with FakeEngine() as engine:
        return made(RecipeWriter(tmp_path_factory.mktemp("undisturbed"), engine.url)())


def whole(rows: Tables) -> int:
    """Requests of a run that nothing disturbs."""
    return len(rows.rollouts) + sum(row.status.value == "ok" for row in rows.verdicts)


def spent(path: Path) -> Spent:
    return read_spent(RunFolder(run_folder(read_recipe(path))).spent_path)


@pytest.mark.parametrize("most", [0, 1, 30, 78, 150])
def test_budget_of_requests_lets_not_one_more_out_and_keeps_each_answer(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, undisturbed: Tables, most: int
) -> None:
    path = write_recipe({"budget.max_requests": most})
    with pytest.raises(BudgetSpent, match=f"max_requests: {most} are used up"):
        make(path)
    assert len(fake_engine.questions) == most == kept(run_folder(read_recipe(path)))

    rows = made(write_recipe())

    assert_equal(rows, undisturbed)
    assert len(fake_engine.questions) == whole(undisturbed)


def test_budget_that_is_just_enough_is_enough(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, undisturbed: Tables
) -> None:
    assert_equal(made(write_recipe({"budget.max_requests": whole(undisturbed)})), undisturbed)


@pytest.mark.usefixtures("unhurried")
def test_budget_counts_every_try(write_recipe: RecipeWriter, fake_engine: FakeEngine) -> None:
    fake_engine.faults = first_tries(error(500))

    with pytest.raises(BudgetSpent):
        make(write_recipe({"budget.max_requests": 41}))

    assert len(fake_engine.questions) == 41


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("fault", [empty_text, wrong_model, no_choices, aborted])
def test_budget_counts_the_tokens_of_replies_that_are_no_answers(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, fault: Fault
) -> None:
    prompts = [{"prompt": f"What is number {number}? [ends]"} for number in range(3)]
    path = write_recipe(prompts=prompts)
    make(path, Stage.ROLLOUTS)
    once = spent(path)
    fake_engine.faults = first_tries(fault)
    twice = write_recipe({"name": "twice"}, prompts, "twice")

    make(twice, Stage.ROLLOUTS)

    assert spent(twice).prompt_tokens == 2 * once.prompt_tokens
    assert spent(twice).completion_tokens == 2 * once.completion_tokens


def test_budget_counts_over_all_starts(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, undisturbed: Tables
) -> None:
    for most in (20, 20, 50, 50):
        with pytest.raises(BudgetSpent):
            make(write_recipe({"budget.max_requests": most}))
        assert len(fake_engine.questions) == most

    assert_equal(made(write_recipe({"budget.max_requests": whole(undisturbed)})), undisturbed)


def test_budget_counts_what_a_killed_process_sent(write_recipe: RecipeWriter, fake_engine: FakeEngine) -> None:
    fake_engine.faults = whenever(lambda _: len(fake_engine.questions) > 20, slowly(20))
    path = write_recipe({"budget.max_requests": 40})
    process = subprocess.Popen([sys.executable, "-m", "flows.cli", "run", path, "--plain"], stderr=subprocess.DEVNULL)
    while len(fake_engine.questions) < 30:
        assert process.poll() is None
    process.kill()
    process.wait()
    fake_engine.faults = no_faults

    with pytest.raises(BudgetSpent):
        make(path)

    assert spent(path).requests == 40
    assert 30 <= len(fake_engine.questions) <= 40  # what was counted and had not left yet when it was killed


@pytest.mark.parametrize("most", [1, 5_000, 20_000])
def test_budget_of_tokens_is_never_passed_and_the_run_goes_on_with_a_larger_one(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, undisturbed: Tables, most: int
) -> None:
    path = write_recipe({"budget.max_tokens_total": most})
    with pytest.raises(BudgetSpent, match=r"max_tokens_total: [0-9]+ of [0-9]+ are used"):
        make(path)
    assert spent(path).tokens <= most
    assert spent(path).requests == len(fake_engine.questions) == kept(run_folder(read_recipe(path)))

    rows = made(write_recipe())

    assert_equal(rows, undisturbed)
    assert len(fake_engine.questions) == whole(undisturbed)


def test_budget_of_tokens_counts_what_the_servers_say(write_recipe: RecipeWriter, undisturbed: Tables) -> None:
    path = write_recipe()
    make(path)

    written = sum(len(row.token_ids or ()) for row in undisturbed.rollouts)
    assert spent(path).completion_tokens == written + whole(undisturbed) - len(undisturbed.rollouts)
    assert spent(path).prompt_tokens >= sum(len(row.prompt_token_ids or ()) for row in undisturbed.rollouts)


def test_budget_of_hours_ends_the_run_and_the_next_start_sends_nothing(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, undisturbed: Tables
) -> None:
    fake_engine.faults = whenever(lambda _: len(fake_engine.questions) > 20, slowly(1))
    path = write_recipe({"budget.max_hours": 1 / 3600})
    with pytest.raises(BudgetSpent, match="max_hours"):
        make(path)
    asked = len(fake_engine.questions)
    assert 1 <= spent(path).seconds < 20
    assert kept(run_folder(read_recipe(path))) == asked < whole(undisturbed)
    fake_engine.faults = no_faults

    with pytest.raises(BudgetSpent, match="max_hours"):
        make(path)
    assert len(fake_engine.questions) == asked

    assert_equal(made(write_recipe()), undisturbed)


@pytest.mark.parametrize("way", [["--plain"], []], ids=["plain", "prefect"])
def test_budget_spent_is_one_line_that_says_how_to_go_on(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, undisturbed: Tables, way: list[str]
) -> None:
    path = write_recipe({"budget.max_requests": 100})

    ended = subprocess.run(
        [sys.executable, "-m", "flows.cli", "run", path, *way], capture_output=True, text=True, env=dict(os.environ)
    )

    (line,) = [line for line in ended.stderr.splitlines() if not line.startswith("[")]
    assert ended.returncode == 2
    assert line == (
        "prefactory: budget.max_requests: 100 are used up; raise it or leave it out, "
        "and the same command goes on from here"
    )
    assert len(fake_engine.questions) == 100
    rows = made(write_recipe())
    assert_equal(rows, undisturbed)


def test_plan_says_whether_the_budget_is_enough_for_what_is_left(
    prefactory: Command, write_recipe: RecipeWriter
) -> None:
    before = prefactory("plan", write_recipe({"budget.max_requests": 100})).out
    prefactory("run", write_recipe(), "--plain")
    after = prefactory("plan", write_recipe({"budget.max_requests": 1000})).out

    assert "budget.max_requests 100: 0 used, at most about 312 to go: may not be enough" in " ".join(before.split())
    assert "at most about 0 to go: enough" in " ".join(after.split())


def test_status_says_what_was_spent(prefactory: Command, write_recipe: RecipeWriter, undisturbed: Tables) -> None:
    path = write_recipe()
    prefactory("run", path, "--plain")

    said = " ".join(prefactory("status", run_folder(read_recipe(path))).out.split())

    assert f"Spent: {whole(undisturbed)} requests, {spent(path).prompt_tokens:,} tokens read" in said


def test_pair_again_costs_nothing(prefactory: Command, write_recipe: RecipeWriter) -> None:
    path = write_recipe()
    prefactory("run", path, "--plain")
    before = spent(path)

    assert prefactory("pair", write_recipe({"pairing.margin": 50.0, "budget.max_requests": 0})).code == 0
    assert spent(path) == before


def test_finished_run_needs_no_budget(prefactory: Command, write_recipe: RecipeWriter) -> None:
    prefactory("run", write_recipe(), "--plain")

    assert prefactory("run", write_recipe({"budget.max_requests": 0}), "--plain").code == 0


def test_whole_tables_of_a_stopped_run_are_those_of_finished_shards(
    write_recipe: RecipeWriter, undisturbed: Tables
) -> None:
    """What is there when the budget stops a run is what will be there in the end."""
    path = write_recipe({"budget.max_requests": 100})
    with pytest.raises(BudgetSpent):
        make(path)
    root = run_folder(read_recipe(path))

    finished = [row for shard in range(2) for row in RunFolder(root).read_rows(Rollout, shard)]

    assert finished == undisturbed.rollouts[: len(finished)]


PRICES = {"fake-model": {"prompt": 1000.0, "completion": 2000.0}}


def test_budget_in_money_stops_the_run_and_a_higher_one_goes_on(
    prefactory: Command, write_recipe: RecipeWriter, undisturbed: Tables
) -> None:
    path = write_recipe({"budget.max_cost": 40, "budget.prices": PRICES})
    with pytest.raises(BudgetSpent, match=r"max_cost: [0-9.]+ of 40(\.0)? is spent"):
        make(path)
    assert 0 < spent(path).money <= 40

    root, _ = make(write_recipe({"budget.prices": PRICES}))

    assert_equal(made(path), undisturbed)
    found = spent(path)
    assert found.money == pytest.approx((found.prompt_tokens * 1000 + found.completion_tokens * 2000) / 1e6)
    assert f"at a cost of {found.money:,.2f} by the recipe's prices" in prefactory("status", root).out
    assert f"at a cost of {found.money:,.2f}" in prefactory("status", root, "--watch").out
    asked = prefactory("query", root, "SELECT sum(money) FROM cost", "--format", "csv").out.split()[-1]
    assert float(asked) == pytest.approx(found.money)
    figures = {str(row["figure"]): row["value"] for row in figure_rows(RunFolder(root))}
    assert figures["spent in money, all rounds"] == f"{found.money:,.2f}"


def test_prices_that_come_later_are_no_other_recipe_and_tell_what_was_answered_before(
    prefactory: Command, write_recipe: RecipeWriter
) -> None:
    root, _ = make(write_recipe())
    assert "cost of" not in prefactory("status", root).out
    assert json.loads(prefactory("status", root, "--json").out)["spent"]["money"] is None
    money = "SELECT count(money) AS known, count(*) AS rows FROM cost"
    assert prefactory("query", root, money, "--format", "csv").out.split() == ["known,rows", "0,4"]

    assert make(write_recipe({"budget.prices": PRICES}))[1] == 0

    assert prefactory("query", root, money, "--format", "csv").out.split() == ["known,rows", "4,4"]
    assert prefactory("verify", root).code == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"budget.prices": {"gpt": PRICES["fake-model"]}}, "prices.gpt: is no model of this recipe; they are fake-model"),
        ({"budget.max_cost": 3}, "max_cost wants prices"),
        ({"budget.prices": {"fake-model": {"prompt": -1, "completion": 0}}}, "budget.prices.fake-model.prompt: got -1"),
    ],
)  # fmt: skip
def test_prices_that_cannot_be_meant_are_refused(
    write_recipe: RecipeWriter, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(RecipeError, match=said):
        read_recipe(write_recipe(changes))


def test_cost_of_a_policy_whose_server_gives_no_token_ids_is_as_the_server_counts(
    prefactory: Command, write_recipe: RecipeWriter
) -> None:
    with FakeEngine(abilities=frozenset(Ability) - {Ability.TOKEN_IDS}) as engine:
        path = write_recipe({"budget.prices": PRICES, "policy.urls": [engine.url]})
        root, _ = make(path, Stage.ROLLOUTS)

    asked = prefactory("query", root, "SELECT prompt_tokens, completion_tokens, money FROM cost", "--format", "csv").out
    read, written, money = asked.split()[1].split(",")
    found = spent(path)
    assert (int(read), int(written)) == (found.prompt_tokens, found.completion_tokens)
    assert float(money) == pytest.approx(found.money)
    ids = prefactory("query", root, "SELECT count(token_ids) FROM rollouts", "--format", "csv").out.split()[1]
    assert ids == "0"
