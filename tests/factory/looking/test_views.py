"""What the views of the catalog say of rows that are known."""

from dataclasses import replace
from pathlib import Path

import pytest

from factory.looking import queries
from factory.looking.views import VIEWS, View
from factory.run import RunFolder
from schemas.price import Price
from schemas.rows import (
    Cause,
    Dropped,
    DropReason,
    Loop,
    Pair,
    Row,
    Scorecard,
    TrustFigure,
    Verdict,
    VerdictStatus,
)
from schemas.tables import Table
from tests.reports import a_manifest
from tests.samples import a_prompt, a_rollout

SHORT, LONG, LOOPED = (
    replace(a_rollout("p", "greedy", "abc"), token_ids=(1, 2), prompt_token_ids=(7, 8, 9)),
    a_rollout("p", "t0", "a" * 15),
    replace(a_rollout("p", "t1", "again " * 9), loop=Loop.HARD),
)
FAILED = replace(a_rollout("q", "t0", None), loop=None, error="no answer")
PAIR = Pair("p", (), "a", "b", "p:t0", "p:t1", 1.0, None, None, None, Cause.LOOP, None, None, None, True, False)
HELPFUL = "helpfulness"


def said(rollout: str, status: VerdictStatus, score: float | None = None, judge: str = HELPFUL) -> Verdict:
    return Verdict(rollout[0], rollout, judge, status, score, prompt_tokens=10, completion_tokens=1, calls=1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two prompts: one with a pair, one without; and a second round of one prompt that is not answered yet."""
    rows: dict[Table, list[Row]] = {
        Table.PROMPTS: [a_prompt("p", "Why?"), a_prompt("q")],
        Table.ROLLOUTS: [SHORT, LONG, LOOPED, FAILED],
        Table.VERDICTS: [
            said("p:greedy", VerdictStatus.OK, 4.0),
            said("p:t0", VerdictStatus.OK, 8.0),
            replace(said("p:t1", VerdictStatus.SKIPPED_LOOP), calls=0, prompt_tokens=None, completion_tokens=None),
            said("p:t0", VerdictStatus.UNREADABLE, judge="clarity"),
            said("p:greedy", VerdictStatus.OK, 1.0, judge="math_answer"),
        ],
        Table.SCORECARDS: [
            Scorecard("p", "p:t0", 0, 0.5, 0.1, 2, True),
            Scorecard("p", "p:t1", -2, None, None, 0, False),
        ],
        Table.PAIRS: [PAIR],
        Table.DROPPED: [Dropped("q", DropReason.ENGINE_ERROR)],
        Table.TRUST: [TrustFigure("tau", HELPFUL, 0.25, n=4), TrustFigure("tau", "clarity")],
    }
    for table, own in rows.items():
        RunFolder(tmp_path).write_part(table, 0, own)
    RunFolder(tmp_path, 1).write_part(Table.PROMPTS, 0, [a_prompt("r")])
    return tmp_path


def test_answers_are_rollouts_with_what_became_of_them(root: Path) -> None:
    sql = "SELECT rollout_id, asked, characters, tokens, loop, score, side FROM answers ORDER BY ALL"

    assert queries.ask(root, sql).rows == (
        ("p:greedy", "Why?", 3, 2, "clean", None, None),
        ("p:t0", "Why?", 15, None, "clean", 0.5, "chosen"),
        ("p:t1", "Why?", 54, None, "hard", None, "rejected"),
        ("q:t0", "What is the capital of France?", None, None, None, None, None),
    )


def test_funnel_is_every_prompt_of_a_round_as_a_pair_or_a_drop(root: Path) -> None:
    assert queries.ask(root, "FROM funnel").rows == (
        (0, "prompts", 2, 1.0),
        (0, "dropped: engine_error", 1, 0.5),
        (0, "paired: loop", 1, 0.5),
        (0, "pairs", 1, 0.5),
        (1, "prompts", 1, 1.0),
    )


def test_judge_stats_leave_out_of_the_mean_what_has_no_score(root: Path) -> None:
    sql = "SELECT judge, ok, skipped, failed, mean, sd, tau FROM judge_stats"

    assert queries.ask(root, sql).rows == (
        ("clarity", 0, 0, 1, None, None, None),
        (HELPFUL, 2, 1, 0, 6.0, 2.0, 0.25),
        ("math_answer", 1, 0, 0, 1.0, 0.0, None),
    )


def test_length_bias_is_grades_a_doubling_within_a_prompt_and_of_judges_alone(root: Path) -> None:
    """From 3 to 15 characters are two doublings of length + 1, for which the judge gives four grades more."""
    assert queries.ask(root, "FROM length_bias").rows == ((0, HELPFUL, 2, 2.0, 1.0, 2.0),)


def test_cost_is_by_who_answered_and_null_where_nobody_said(root: Path) -> None:
    assert queries.ask(root, "FROM cost").rows == (
        (0, "rollouts", "policy", 3, 3, 2, None),
        (0, "verdicts", "clarity", 1, 10, 1, None),
        (0, "verdicts", HELPFUL, 2, 20, 2, None),
        (0, "verdicts", "math_answer", 1, 10, 1, None),
    )


def test_cost_is_money_where_a_price_is_given_and_null_where_not(root: Path) -> None:
    prices = {"policy": Price(prompt=1, completion=1_000_000), HELPFUL: Price(prompt=0, completion=0)}
    RunFolder(root).write_manifest(a_manifest().model_copy(update={"prices": prices}))
    RunFolder(root, 1).write_manifest(a_manifest())

    assert queries.ask(root, "SELECT who, money FROM cost").rows == (
        ("policy", 2.000003),
        ("clarity", None),
        (HELPFUL, 0.0),
        ("math_answer", None),
    )
    without = "SELECT sum(money) FROM cost WHERE stage = 'rollouts' AND round = 1"
    assert queries.ask(root, without).rows == ((None,),)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_view_has_its_columns_with_rows_and_without(root: Path, tmp_path: Path, view: View) -> None:
    for folder in (root, tmp_path / "empty"):
        assert list(queries.ask(folder, f"FROM {view.name}").columns) == list(view.columns)
