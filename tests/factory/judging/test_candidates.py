"""Who is judged."""

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from factory.judging.candidates import candidates, skipped_verdicts
from schemas.rows import Loop, VerdictStatus
from tests.verdicts import JUDGES, SLOTS, answered, failed, ids, looped


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
