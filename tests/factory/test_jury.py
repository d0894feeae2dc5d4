"""Whose opinion counts, and what a scorecard says of it."""

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.jury import blocks, needs_requeue, quorum
from schemas.recipe import JudgeRef, Jury
from schemas.rows import Rollout, Scorecard, Verdict, VerdictStatus
from tests.verdicts import CHECKED, JUDGES, JURY, Grid, answered, checked, grids, heard, looped, scored, slots

# --- whose opinion counts ---


@pytest.mark.parametrize(("judges", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 4), (6, 4), (9, 6)])
def test_quorum_is_two_thirds_and_never_one_of_many(judges: int, needed: int) -> None:
    assert quorum(Jury(judges=[JudgeRef(judge=f"j{n}") for n in range(judges)])) == needed


def test_quorum_of_the_recipe_is_taken_as_it_is() -> None:
    assert quorum(Jury(judges=JURY.judges, quorum=1)) == 1


def test_blocks_judge_that_missed_one_rollout_is_not_there() -> None:
    rollouts = slots(3)
    verdicts = heard(rollouts, {"helpfulness": [1, 2, 3], "correctness": [1, None, 3]})
    assert blocks(rollouts, verdicts, JUDGES) == {"helpfulness": {"p:greedy": 1, "p:t0": 2, "p:t1": 3}}


def test_blocks_score_beside_a_bad_status_is_no_score() -> None:
    rollouts = slots(2)
    verdicts = [replace(v, status=VerdictStatus.FAILED) for v in heard(rollouts, {"clarity": [-1, 2]})]
    assert blocks(rollouts, verdicts, JUDGES) == {}


def test_blocks_verifier_and_unknown_judge_are_not_judges() -> None:
    rollouts = slots(1)
    assert blocks(rollouts, heard(rollouts, {"math_answer": [1.0], "stranger": [9.0]}), JUDGES) == {}


@pytest.mark.parametrize(
    ("statuses", "asked"),
    [
        ((VerdictStatus.OK, VerdictStatus.OK, VerdictStatus.FAILED), False),  # there is a quorum
        ((VerdictStatus.OK, VerdictStatus.UNREADABLE, VerdictStatus.REFUSED), True),
        ((VerdictStatus.OK, VerdictStatus.FAILED, VerdictStatus.REFUSED), True),
        ((VerdictStatus.OK, VerdictStatus.REFUSED, VerdictStatus.REFUSED), False),
        ((VerdictStatus.OK, VerdictStatus.TRUNCATED, VerdictStatus.LOW_MASS), False),  # would say the same again
        ((VerdictStatus.FILTERED, VerdictStatus.FILTERED, VerdictStatus.UNREADABLE), False),  # would not suffice
        ((VerdictStatus.FAILED, VerdictStatus.FAILED, VerdictStatus.FILTERED), True),
    ],
)
def test_requeue_only_where_asking_again_can_make_the_quorum(statuses: tuple[VerdictStatus, ...], asked: bool) -> None:
    rollouts = slots(2)
    verdicts = []
    for judge, status in zip(JUDGES, statuses, strict=True):
        verdicts.append(Verdict("p", "p:greedy", judge, VerdictStatus.OK, score=5.0))
        score = 5.0 if status is VerdictStatus.OK else None
        verdicts.append(Verdict("p", "p:t0", judge, status, score=score))
    assert needs_requeue(rollouts, verdicts, JURY) is asked


def test_requeue_verdicts_that_are_missing_are_asked_again() -> None:
    assert needs_requeue(slots(2), [], JURY)


@pytest.mark.parametrize(("third", "again"), [(VerdictStatus.FAILED, True), (VerdictStatus.NOT_ASKED, False)])
def test_requeue_answers_that_a_cascade_spares_a_judge_keep_nobody_from_it(third: VerdictStatus, again: bool) -> None:
    """The second judge scored whom it was asked about; the third is short, or was not asked at all."""
    greedy, *_ = rollouts = slots(2)
    said = {"helpfulness": VerdictStatus.REFUSED, "correctness": VerdictStatus.OK, "clarity": third}
    verdicts = [
        Verdict("p", rollout.rollout_id, judge, status if rollout is greedy else VerdictStatus.NOT_ASKED, score=score)
        for judge, status in said.items()
        for rollout in rollouts
        for score in [5.0 if status is VerdictStatus.OK and rollout is greedy else None]
    ]
    assert needs_requeue(rollouts, verdicts, JURY) is again


def test_requeue_prompt_of_loops_alone_is_not_asked_again() -> None:
    assert not needs_requeue([looped("t0"), looped("t1")], [], JURY)


# --- scorecards ---


def cards_of(rollouts: Sequence[Rollout], verdicts: Sequence[Verdict], jury: Jury = JURY) -> dict[str, Scorecard]:
    cards = scored(rollouts, verdicts, jury)
    assert len(cards) == len(rollouts)
    return {card.rollout_id.removeprefix("p:"): card for card in cards}


def test_score_is_the_mean_of_centred_scores_in_sigmas() -> None:
    rollouts = slots(2)
    verdicts = heard(rollouts, {"helpfulness": [4, 8], "clarity": [5, 6]})
    low, high = scored(rollouts, verdicts, JURY, {"helpfulness": 2.0, "clarity": 0.5})
    assert (low.score, high.score) == (-1.0, 1.0)
    assert (high.judges, high.spread, high.eligible) == (2, 0.0, True)
    assert high.note == "correctness did not score every answer"
    skewed = scored(rollouts, verdicts, JURY, {"helpfulness": 4.0, "clarity": 0.25})
    assert skewed[1].score == 1.25
    assert skewed[1].spread == pytest.approx(statistics.stdev([0.5, 2.0]))


@given(grids, st.lists(st.floats(-3, 3), min_size=3, max_size=3))
def test_score_lenient_and_harsh_judges_score_alike(grid: Grid, leniency: list[float]) -> None:
    rollouts = slots(len(grid["clarity"]))
    shifted = {
        judge: [score + shift for score in scores if score is not None]
        for (judge, scores), shift in zip(grid.items(), leniency, strict=True)
    }
    plain, moved = (scored(rollouts, heard(rollouts, one)) for one in (grid, shifted))
    assert [card.score for card in plain] == pytest.approx([card.score for card in moved], abs=1e-9)
    assert math.fsum(card.score or 0.0 for card in plain) == pytest.approx(0.0, abs=1e-9)


@given(grids, st.randoms())
def test_score_rows_in_any_order_are_the_same_to_the_last_bit(grid: Grid, shuffler: random.Random) -> None:
    rollouts = slots(len(grid["clarity"]))
    verdicts = heard(rollouts, grid)
    cards = scored(rollouts, verdicts)
    shuffler.shuffle(rollouts)
    shuffler.shuffle(verdicts)
    assert scored(rollouts, verdicts) == cards


@given(grids, st.data())
def test_score_one_verdict_lost_takes_its_judge_along_and_nothing_leans(grid: Grid, data: st.DataObject) -> None:
    """Scores of the others alone, as if that judge had never been asked."""
    rollouts = slots(len(grid["clarity"]))
    verdicts = heard(rollouts, grid)
    lost = data.draw(st.sampled_from(verdicts))
    left = [verdict for verdict in verdicts if verdict is not lost]
    status = data.draw(st.sampled_from([VerdictStatus.UNREADABLE, VerdictStatus.FAILED, VerdictStatus.LOW_MASS]))
    unscored = [*left, replace(lost, status=status, score=None)]
    without = [verdict for verdict in verdicts if verdict.judge != lost.judge]
    expected = scored(rollouts, without)
    assert scored(rollouts, left) == expected
    assert scored(rollouts, unscored) == expected
    assert {card.judges for card in expected} == {2}


def test_score_judge_without_a_sigma_is_left_out_and_noted() -> None:
    rollouts = slots(2)
    verdicts = heard(rollouts, {"helpfulness": [4, 8], "correctness": [5, 5], "clarity": [1, 2]})
    cards = scored(rollouts, verdicts, JURY, {"helpfulness": 2.0, "clarity": 1.0})
    assert [card.judges for card in cards] == [2, 2]
    assert cards[0].score == (-1 - 0.5) / 2
    assert cards[0].note == "correctness tells no two answers apart"


def test_score_no_judge_counts_is_null_and_not_zero() -> None:
    cards = scored(slots(2), [])
    assert [(card.score, card.spread, card.judges) for card in cards] == [(None, None, 0)] * 2


def test_score_single_candidate_beside_a_loop_counts_its_judges_without_any_sigma() -> None:
    rollouts = [looped("greedy"), answered("t0")]
    verdicts = heard(rollouts[1:], {judge: [6.0] for judge in JUDGES})
    loop, other = scored(rollouts, verdicts, JURY, {})
    assert (other.score, other.judges, other.eligible) == (0.0, 3, True)
    assert (loop.score, loop.tier, loop.eligible, loop.note) == (None, -2, False, "hard loop")


def test_score_duplicate_stands_where_its_text_stands_and_is_not_eligible() -> None:
    rollouts = [answered("t0", "right 18"), answered("t1", "wrong"), answered("t2", "right 18")]
    verdicts = [
        *heard(rollouts[:2], {judge: [8.0, 2.0] for judge in JUDGES}),
        *(checked(rollout, "math_answer", score) for rollout, score in zip(rollouts[:2], (1.0, 0.0), strict=True)),
        *(checked(rollout, "language", None) for rollout in rollouts[:2]),
    ]
    cards = cards_of(rollouts, verdicts, CHECKED)
    assert (cards["t2"].score, cards["t2"].tier) == (cards["t0"].score, 1)
    assert (cards["t0"].eligible, cards["t2"].eligible) == (True, False)
    assert cards["t2"].note == "same text as another"
