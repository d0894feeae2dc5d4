"""What the benchmark of faults takes for wrong, for missing, and for accounted for."""

from dataclasses import replace

import pytest

from benchmarks.faults import Ended, Rows, wrong_rollouts
from schemas.rows import Rollout
from tests.fake_engine import CHAT, FAULTS, Dice, Seen
from tests.samples import a_rollout

RIGHT = {slot: a_rollout("p0", slot, f"answer {slot}") for slot in ("greedy", "t0", "t1")}


def rows(*rollouts: Rollout) -> Rows:
    return Rows(frozenset({"p0"}), {row.rollout_id: row for row in rollouts}, {}, {}, {}, 0, {})


FINE = Ended("500", 0, 1.0, 2, 1, 1, 12, 0, 0, 0, 0, 0, 0, attempts=9, attempts_recorded=9, dealt=3, retries={})


def test_wrong_rollouts_counts_another_text_and_neither_an_error_nor_a_finish_reason_as_it_came() -> None:
    greedy, t0, t1 = RIGHT.values()
    found = rows(
        replace(greedy, text="something else"),
        replace(t0, text=None, error="gone"),
        replace(t1, finish_reason="banana"),
    )

    assert wrong_rollouts(found, rows(*RIGHT.values())) == (1, 1)


def test_wrong_rollouts_another_text_with_a_finish_reason_of_nobodys_is_wrong() -> None:
    greedy, *_ = RIGHT.values()
    found = rows(replace(greedy, text="something else", finish_reason="banana"))

    assert wrong_rollouts(found, rows(*RIGHT.values())) == (1, 0)


@pytest.mark.parametrize(
    "ended",
    [
        replace(FINE, code=1),
        replace(FINE, pairs=0),
        replace(FINE, rollouts=11),
        replace(FINE, wrong_rollouts=1),
        replace(FINE, wrong_verdicts=1),
        replace(FINE, wrong_pairs=1),
        replace(FINE, attempts_recorded=8),
        replace(FINE, attempts_recorded=10),
    ],
)
def test_ended_is_fine_only_where_nothing_is_missing_or_wrong(ended: Ended) -> None:
    assert FINE.fine
    assert not ended.fine


def test_ended_attempt_that_the_server_did_not_see_must_be_one_that_can_be_lost() -> None:
    assert replace(FINE, attempts_recorded=10, retries={"timeout": 1}).counted
    assert not replace(FINE, attempts_recorded=10, retries={"server": 1}).counted


def test_dice_deal_by_question_and_try_and_never_by_the_order() -> None:
    asked = [Seen(CHAT, {}, {"messages": [{"role": "user", "content": f"number {each}"}]}) for each in range(200)]
    one, other = Dice(tuple(FAULTS), 0.2), Dice(tuple(FAULTS), 0.2)

    first = {seen.asked: one(seen) for seen in asked}
    second = {seen.asked: other(seen) for seen in reversed(asked)}

    assert first == second
    assert 20 < sum(fault is not None for fault in first.values()) < 60
    assert one.dealt == other.dealt
    assert {seen.asked: one(seen) for seen in asked} != first
