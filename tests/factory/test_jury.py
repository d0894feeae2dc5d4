"""Who is judged, whose opinion counts, and what a scorecard says of it."""

import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.jury import (
    Bar,
    PooledSpread,
    bars,
    blocks,
    candidates,
    needs_requeue,
    quorum,
    score_prompt,
    skipped_verdicts,
    tier,
)
from schemas.recipe import JudgeRef, Jury, Pairing
from schemas.rows import Loop, Rollout, Scorecard, Verdict, VerdictStatus
from tests.samples import a_rollout

JUDGES = ("helpfulness", "correctness", "clarity")
JURY = Jury(judges=[JudgeRef(judge=name) for name in JUDGES])
CHECKED = Jury(judges=JURY.judges, verifiers=["math_answer", "language"])
UNIT = dict.fromkeys(JUDGES, 1.0)
SLOTS = ("greedy", "t0", "t1", "t2", "t3", "t4")
Grid = Mapping[str, Sequence[float | None]]  # judge -> raw score of each slot; None: unreadable


def answered(slot: str = "t0", text: str | None = None, prompt_id: str = "p") -> Rollout:
    """Without a text, one that no other slot has."""
    return a_rollout(prompt_id, slot, f"answer {slot}" if text is None else text)


def looped(slot: str) -> Rollout:
    return replace(answered(slot, "again " * 50), loop=Loop.HARD, finish_reason="repetition")


def failed(slot: str) -> Rollout:
    return replace(answered(slot), text=None, finish_reason=None, loop=None, error="no answer")


def slots(count: int) -> list[Rollout]:
    return [answered(slot) for slot in SLOTS[:count]]


def heard(rollouts: Sequence[Rollout], grid: Grid) -> list[Verdict]:
    return [
        Verdict(
            rollout.prompt_id,
            rollout.rollout_id,
            judge,
            VerdictStatus.UNREADABLE if score is None else VerdictStatus.OK,
            score=score,
        )
        for judge, scores in grid.items()
        for rollout, score in zip(rollouts, scores, strict=True)
    ]


def checked(rollout: Rollout, verifier: str, score: float | None) -> Verdict:
    status = VerdictStatus.ABSTAINED if score is None else VerdictStatus.OK
    return Verdict(rollout.prompt_id, rollout.rollout_id, verifier, status, score=score)


def ids(rollouts: Sequence[Rollout]) -> list[str]:
    return [rollout.slot for rollout in rollouts]


grids = st.integers(2, 6).flatmap(
    lambda n: st.fixed_dictionaries(
        {judge: st.lists(st.floats(1, 9).map(lambda s: round(s, 3)), min_size=n, max_size=n) for judge in JUDGES}
    )
)


# --- who is judged ---


def test_candidates_six_kinds_each_in_one_place() -> None:
    rollouts = [
        looped("t3"),
        answered("t10"),
        answered("t2", " same "),
        failed("t4"),
        answered("t1", "same"),
        looped("greedy"),
        replace(answered("t5"), loop=Loop.SOFT),
    ]
    who = candidates(rollouts)
    assert ids(who.judged) == ["t1", "t5", "t10"]
    assert ids(who.loops) == ["greedy", "t3"]
    assert [(duplicate.rollout.slot, duplicate.of) for duplicate in who.duplicates] == [("t2", "p:t1")]
    assert ids(who.failed) == ["t4"]


def test_candidates_of_equal_texts_a_finished_one_is_judged() -> None:
    capped = replace(answered("greedy", "same"), finish_reason="length")
    assert ids(candidates([capped, answered("t0", "same")]).judged) == ["t0"]


def test_candidates_blank_answer_is_judged_if_it_ended_and_failed_if_it_did_not() -> None:
    ended, cut = answered("t0", " \n"), replace(answered("t1", ""), finish_reason="length")
    who = candidates([ended, cut])
    assert (ids(who.judged), ids(who.failed)) == (["t0"], ["t1"])


@given(st.lists(st.sampled_from(["a", "b", "", "loop", "failed"]), min_size=1, max_size=6), st.randoms())
def test_candidates_any_rollouts_are_split_the_same_in_any_order(kinds: list[str], shuffler: random.Random) -> None:
    makers = {"loop": looped, "failed": failed}
    rollouts = [
        makers[kind](slot) if kind in makers else answered(slot, kind)
        for kind, slot in zip(kinds, SLOTS[: len(kinds)], strict=True)
    ]
    who = candidates(rollouts)
    assert len(who.judged) + len(who.loops) + len(who.duplicates) + len(who.failed) == len(rollouts)
    shuffler.shuffle(rollouts)
    assert candidates(rollouts) == who


def test_skipped_verdicts_loops_and_duplicates_have_a_row_for_each_judge_and_no_score() -> None:
    rows = skipped_verdicts([looped("greedy"), answered("t0", "x"), answered("t1", "x"), failed("t2")], JUDGES[:2])
    assert [(row.rollout_id, row.judge, row.status, row.score) for row in rows] == [
        ("p:greedy", "helpfulness", VerdictStatus.SKIPPED_LOOP, None),
        ("p:greedy", "correctness", VerdictStatus.SKIPPED_LOOP, None),
        ("p:t1", "helpfulness", VerdictStatus.SKIPPED_DUPLICATE, None),
        ("p:t1", "correctness", VerdictStatus.SKIPPED_DUPLICATE, None),
    ]


# --- whose opinion counts ---


@pytest.mark.parametrize(("judges", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 4), (6, 4), (9, 6)])
def test_quorum_is_two_thirds_and_never_one_of_many(judges: int, needed: int) -> None:
    assert quorum(Jury(judges=[JudgeRef(judge=f"j{n}") for n in range(judges)])) == needed


def test_quorum_of_the_recipe_is_taken_as_it_is() -> None:
    assert quorum(Jury(judges=JURY.judges, quorum=1)) == 1


def test_blocks_judge_that_missed_one_rollout_is_not_there() -> None:
    rollouts = slots(3)
    verdicts = heard(rollouts, {"helpfulness": [1, 2, 3], "correctness": [1, None, 3]})
    assert blocks(rollouts, verdicts, JURY) == {"helpfulness": {"p:greedy": 1, "p:t0": 2, "p:t1": 3}}


def test_blocks_score_beside_a_bad_status_is_no_score() -> None:
    rollouts = slots(2)
    verdicts = [replace(v, status=VerdictStatus.FAILED) for v in heard(rollouts, {"clarity": [-1, 2]})]
    assert blocks(rollouts, verdicts, JURY) == {}


def test_blocks_verifier_and_unknown_judge_are_not_judges() -> None:
    rollouts = slots(1)
    assert blocks(rollouts, heard(rollouts, {"math_answer": [1.0], "stranger": [9.0]}), CHECKED) == {}


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


def test_requeue_prompt_of_loops_alone_is_not_asked_again() -> None:
    assert not needs_requeue([looped("t0"), looped("t1")], [], JURY)


# --- the pooled spread ---


def test_spread_two_prompts_pool_squares_over_degrees_of_freedom() -> None:
    spread = PooledSpread()
    for scores in ([1.0, 3.0], [4.0, 6.0, 8.0]):
        rollouts = slots(len(scores))
        spread.add(rollouts, heard(rollouts, {"clarity": scores}), JURY)
    assert spread.degrees == {"clarity": 3}
    assert spread.sigmas() == {"clarity": pytest.approx(math.sqrt((2 + 8) / 3))}


@given(st.lists(grids, min_size=1, max_size=6), st.randoms())
def test_spread_any_order_and_any_split_into_shards_is_the_same_to_the_last_bit(
    prompts: list[Grid], shuffler: random.Random
) -> None:
    def pooled(some: Sequence[Grid]) -> PooledSpread:
        spread = PooledSpread()
        for grid in some:
            rollouts = slots(len(grid["clarity"]))
            spread.add(rollouts, heard(rollouts, grid), JURY)
        return spread

    whole = pooled(prompts).sigmas()
    for judge in JUDGES:
        blocks_of_judge = [[score or 0.0 for score in grid[judge]] for grid in prompts]
        squares = sum(statistics.pvariance(block) * len(block) for block in blocks_of_judge)
        degrees = sum(len(block) - 1 for block in blocks_of_judge)
        assert whole.get(judge, 0.0) == pytest.approx(math.sqrt(squares / degrees), abs=1e-5)
    shuffled = list(prompts)
    shuffler.shuffle(shuffled)
    cut = len(prompts) // 2
    first, second = pooled(shuffled[:cut]), pooled(shuffled[cut:])
    first.merge(second)
    assert first.sigmas() == whole


def test_spread_loops_duplicates_and_incomplete_judges_are_not_in_it() -> None:
    rollouts = [answered("t0"), answered("t1"), looped("t2"), answered("t3", "answer t0")]
    verdicts = heard(rollouts, {"clarity": [4, 6, 1, 1], "helpfulness": [4, None, 9, 9]})
    spread = PooledSpread()
    spread.add(rollouts, verdicts, JURY)
    assert spread.degrees == {"clarity": 1}
    assert spread.sigmas() == {"clarity": pytest.approx(math.sqrt(2))}


def test_spread_judge_that_tells_nothing_apart_has_no_sigma() -> None:
    spread = PooledSpread()
    spread.add(slots(3), heard(slots(3), {"clarity": [5, 5 + 1e-7, 5], "helpfulness": [1, 2, 3]}), JURY)
    spread.add(slots(1), heard(slots(1), {"correctness": [9]}), JURY)
    assert spread.sigmas().keys() == {"helpfulness"}


# --- scorecards ---


def cards_of(rollouts: Sequence[Rollout], verdicts: Sequence[Verdict], jury: Jury = JURY) -> dict[str, Scorecard]:
    cards = score_prompt("p", rollouts, verdicts, jury, UNIT)
    assert len(cards) == len(rollouts)
    return {card.rollout_id.removeprefix("p:"): card for card in cards}


def test_score_is_the_mean_of_centred_scores_in_sigmas() -> None:
    rollouts = slots(2)
    verdicts = heard(rollouts, {"helpfulness": [4, 8], "clarity": [5, 6]})
    low, high = score_prompt("p", rollouts, verdicts, JURY, {"helpfulness": 2.0, "clarity": 0.5})
    assert (low.score, high.score) == (-1.0, 1.0)
    assert (high.judges, high.spread, high.eligible) == (2, 0.0, True)
    assert high.note == "correctness did not score every answer"
    skewed = score_prompt("p", rollouts, verdicts, JURY, {"helpfulness": 4.0, "clarity": 0.25})
    assert skewed[1].score == 1.25
    assert skewed[1].spread == pytest.approx(statistics.stdev([0.5, 2.0]))


@given(grids, st.lists(st.floats(-3, 3), min_size=3, max_size=3))
def test_score_lenient_and_harsh_judges_score_alike(grid: Grid, leniency: list[float]) -> None:
    rollouts = slots(len(grid["clarity"]))
    shifted = {
        judge: [score + shift for score in scores if score is not None]
        for (judge, scores), shift in zip(grid.items(), leniency, strict=True)
    }
    plain, moved = (score_prompt("p", rollouts, heard(rollouts, one), JURY, UNIT) for one in (grid, shifted))
    assert [card.score for card in plain] == pytest.approx([card.score for card in moved], abs=1e-9)
    assert math.fsum(card.score or 0.0 for card in plain) == pytest.approx(0.0, abs=1e-9)


@given(grids, st.randoms())
def test_score_rows_in_any_order_are_the_same_to_the_last_bit(grid: Grid, shuffler: random.Random) -> None:
    rollouts = slots(len(grid["clarity"]))
    verdicts = heard(rollouts, grid)
    cards = score_prompt("p", rollouts, verdicts, JURY, UNIT)
    shuffler.shuffle(rollouts)
    shuffler.shuffle(verdicts)
    assert score_prompt("p", rollouts, verdicts, JURY, UNIT) == cards


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
    expected = score_prompt("p", rollouts, without, JURY, UNIT)
    assert score_prompt("p", rollouts, left, JURY, UNIT) == expected
    assert score_prompt("p", rollouts, unscored, JURY, UNIT) == expected
    assert {card.judges for card in expected} == {2}


def test_score_judge_without_a_sigma_is_left_out_and_noted() -> None:
    rollouts = slots(2)
    verdicts = heard(rollouts, {"helpfulness": [4, 8], "correctness": [5, 5], "clarity": [1, 2]})
    cards = score_prompt("p", rollouts, verdicts, JURY, {"helpfulness": 2.0, "clarity": 1.0})
    assert [card.judges for card in cards] == [2, 2]
    assert cards[0].score == (-1 - 0.5) / 2
    assert cards[0].note == "correctness tells no two answers apart"


def test_score_no_judge_counts_is_null_and_not_zero() -> None:
    cards = score_prompt("p", slots(2), [], JURY, UNIT)
    assert [(card.score, card.spread, card.judges) for card in cards] == [(None, None, 0)] * 2


def test_score_single_candidate_beside_a_loop_counts_its_judges_without_any_sigma() -> None:
    rollouts = [looped("greedy"), answered("t0")]
    verdicts = heard(rollouts[1:], {judge: [6.0] for judge in JUDGES})
    loop, other = score_prompt("p", rollouts, verdicts, JURY, {})
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


# --- tiers and bars ---


@pytest.mark.parametrize(
    ("math_answer", "language", "expected"),
    [
        (None, None, 0),
        (None, 1.0, 0),  # a pass of a check that only vetoes lifts nobody
        (1.0, None, 1),
        (1.0, 1.0, 1),
        (1.0, 0.0, -1),  # failing one outweighs passing the other
        (0.0, 1.0, -1),
        (0.0, None, -1),
    ],
)
def test_tier_comes_from_checks_alone(math_answer: float | None, language: float | None, expected: int) -> None:
    rollout = answered()
    verdicts = [checked(rollout, "math_answer", math_answer), checked(rollout, "language", language)]
    assert tier(rollout.rollout_id, verdicts, CHECKED) == expected
    assert tier(rollout.rollout_id, [*verdicts, checked(answered("t1"), "math_answer", 0.0)], CHECKED) == expected


def test_bars_each_reason_is_told() -> None:
    texts = {"t5": "", "t6": "<|im_end|> Grade 9", "t8": "fine"}
    rollouts = [answered(f"t{n}", texts.get(f"t{n}")) for n in range(9)]
    rollouts[4] = replace(rollouts[4], loop=Loop.SOFT)
    rollouts[7] = replace(rollouts[7], finish_reason="length")
    rollouts += [failed("t9"), looped("t10"), answered("t11", "fine")]
    score = {"t0": 0.0, "t3": None}
    verdicts = [checked(rollout, "math_answer", score.get(rollout.slot, 1.0)) for rollout in rollouts[:9]]
    verdicts += [checked(rollout, "language", None) for rollout in rollouts[:9] if rollout.slot != "t1"]
    verdicts.append(Verdict("p", "p:t1", "language", VerdictStatus.FAILED))
    assert {key.removeprefix("p:"): bar for key, bar in bars(rollouts, verdicts, CHECKED, Pairing()).items()} == {
        "t0": Bar.FAILED_CHECK,
        "t1": Bar.UNCHECKED,
        "t2": None,
        "t3": Bar.NOT_PROVEN,
        "t4": Bar.SOFT_LOOP,
        "t5": Bar.BLANK,
        "t6": Bar.INJECTION,
        "t7": Bar.UNFINISHED,
        "t8": None,
        "t9": Bar.NO_ANSWER,
        "t10": Bar.LOOPED,
        "t11": Bar.DUPLICATE,
    }


def test_bars_unfinished_answer_is_eligible_where_the_recipe_allows_it() -> None:
    rollouts = [replace(answered(), finish_reason="length")]
    (strict,) = score_prompt("p", rollouts, [], JURY, UNIT)
    (lax,) = score_prompt("p", rollouts, [], JURY, UNIT, Pairing(allow_unfinished=True))
    assert (strict.eligible, lax.eligible) == (False, True)
