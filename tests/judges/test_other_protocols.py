"""Judges that grade a list, think first, are sampled, or are reward models."""

import json
from dataclasses import replace

import pytest

from judges.listwise import ListwiseJudge
from judges.pointwise import PointwiseJudge
from judges.reward_model import JUDGE as REWARD
from schemas.chat import Completion
from schemas.rows import VerdictStatus
from tests.samples import a_prompt, a_rollout

PROMPT = a_prompt()
ROLLOUTS = [a_rollout(slot=f"t{n}", text=f"answer number {n}") for n in range(4)]
LIST = ListwiseJudge("list", "1: bad. 9: good.")


def reply(text: str, finish_reason: str = "stop") -> Completion:
    return Completion("r", text, finish_reason, prompt_tokens=100, completion_tokens=9)


def test_listwise_reads_by_label_whatever_the_order_shown() -> None:
    (question,) = LIST.ask(PROMPT, ROLLOUTS)
    shown = question.request.messages[-1].content
    labels = {n: next(line[7] for line in shown.splitlines() if f"answer number {n}" in line) for n in range(4)}
    grades = {labels[n]: 2 * n + 1 for n in range(4)}
    verdicts = LIST.read(PROMPT, ROLLOUTS, {question.request.request_id: reply(json.dumps(grades))})
    assert [verdict.score for verdict in verdicts] == [1.0, 3.0, 5.0, 7.0]
    assert [verdict.calls for verdict in verdicts] == [1, 0, 0, 0]
    assert question.about == tuple(rollout.rollout_id for rollout in ROLLOUTS)


def test_listwise_shuffles_are_a_judges_own() -> None:
    orders = {ListwiseJudge(f"j{n}", "r").ask(PROMPT, ROLLOUTS)[0].request.messages[-1].content for n in range(12)}
    assert len(orders) > 6
    assert LIST.ask(PROMPT, ROLLOUTS) == LIST.ask(PROMPT, ROLLOUTS)
    assert LIST.again().ask(PROMPT, ROLLOUTS)[0].request.request_id != LIST.ask(PROMPT, ROLLOUTS)[0].request.request_id


@pytest.mark.parametrize(
    "text",
    [
        '{"A": 5, "B": 5, "C": 5}',
        '{"A": 5, "B": 5, "C": 5, "D": 10}',
        '{"A": 5, "B": 5, "C": 5, "D": true}',
        '{"A": 5, "A": 9, "B": 5, "C": 5, "D": 5}',
        "[5, 5, 5, 5]",
        "A: 5, B: 5, C: 5, D: 5",
        "",
    ],
)
def test_listwise_reply_counts_whole_or_not_at_all(text: str) -> None:
    (question,) = LIST.ask(PROMPT, ROLLOUTS)
    verdicts = LIST.read(PROMPT, ROLLOUTS, {question.request.request_id: reply(text)})
    assert {(verdict.status, verdict.score) for verdict in verdicts} == {(VerdictStatus.UNREADABLE, None)}


@pytest.mark.parametrize(
    ("text", "finish_reason", "score"),
    [
        ("<think>Is it a 3? No.</think>\n8", "stop", 8.0),
        ("It is right.\nGrade: **7**", "stop", 7.0),
        ("It is right.\n7/10", "stop", None),
        ("10", "stop", None),
        ("Is it a\n3", "length", None),
        ("<think>so 9\n9", "stop", None),
    ],
)
def test_thinking_judge_is_read_by_its_last_line(text: str, finish_reason: str, score: float | None) -> None:
    judge = PointwiseJudge("j", "r", thinking_tokens=64)
    (question,) = judge.ask(PROMPT, ROLLOUTS[:1])
    assert question.request.choices == ()
    (verdict,) = judge.read(PROMPT, ROLLOUTS[:1], {question.request.request_id: reply(text, finish_reason)})
    assert verdict.score == score


def test_samples_are_averaged_and_must_be_readable_by_more_than_half() -> None:
    judge = PointwiseJudge("j", "r", samples=4)
    asked = [one.request for one in judge.ask(PROMPT, ROLLOUTS[:1])]
    assert len({request.request_id for request in asked}) == len({request.sampling.seed for request in asked}) == 4
    replies = {request.request_id: reply(text) for request, text in zip(asked, ("7", "8", "9", "hm"), strict=True)}
    (verdict,) = judge.read(PROMPT, ROLLOUTS[:1], replies)
    assert (verdict.score, verdict.mass, verdict.calls) == (8.0, 0.75, 4)
    replies[asked[0].request_id] = reply("hm")
    (verdict,) = judge.read(PROMPT, ROLLOUTS[:1], replies)
    assert (verdict.status, verdict.score) == (VerdictStatus.UNREADABLE, None)


@pytest.mark.parametrize(("reward", "status"), [(-3.5, "ok"), (float("nan"), "unreadable"), (None, "unreadable")])
def test_reward_model_that_gives_no_finite_number_has_no_score(reward: float | None, status: str) -> None:
    (question,) = REWARD.ask(PROMPT, ROLLOUTS[:1])
    (verdict,) = REWARD.read(PROMPT, ROLLOUTS[:1], {question.request.request_id: replace(reply(""), reward=reward)})
    assert (verdict.status, verdict.score) == (status, reward if status == "ok" else None)
