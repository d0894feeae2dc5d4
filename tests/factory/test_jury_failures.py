"""What happens where a judge cannot be had: a status and no number, a judge that is left out or stopped, a second try at most.

Quorum and blocks are in test_jury, the second try in test_hearing, the window of the breaker in test_jury_guards.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.client.asking import Desk
from factory.client.breaker import BAD
from factory.client.transport import http_client
from factory.engine import Engine
from factory.judging.hearing import AGAIN, Court, Seat, all_verdicts, hear, hear_again
from factory.jury import needs_requeue
from factory.ledger.journal import Journal
from judges.base import Judge
from judges.listwise import ListwiseJudge
from judges.pointwise import PointwiseJudge
from judges.reward_model import RewardModel
from schemas.chat import Completion, TokenAlternative
from schemas.recipe import JudgeRef, Jury
from schemas.rows import Verdict, VerdictStatus
from tests.factory.judging.test_hearing import JUDGES, JURY, WIRE, a_case, answered, asking, by, chatty
from tests.fake_engine import FakeEngine, error, instead, whenever
from tests.verdicts import heard as scored
from tests.verdicts import slots

OK, FAILED, UNREADABLE, STOPPED = (
    VerdictStatus.OK,
    VerdictStatus.FAILED,
    VerdictStatus.UNREADABLE,
    VerdictStatus.STOPPED,
)
KINDS: tuple[Judge, ...] = (
    PointwiseJudge("j", "r"),
    PointwiseJudge("j", "r", samples=3),
    PointwiseJudge("j", "r", thinking_tokens=64),
    ListwiseJudge("j", "r"),
    ListwiseJudge("j", "r", samples=2, thinking_tokens=64),
    RewardModel("j"),
)
PROMPT = asking("p")
ROLLOUTS = [answered(PROMPT, slot) for slot in ("t0", "t1")]

alternatives = st.lists(
    st.builds(TokenAlternative, st.sampled_from(["1", " 9", "10", "The", "A"]), st.floats(max_value=0.5)), max_size=4
)
texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["7", "10", "-1", "N/A", "", '{"A": 5, "B": 9}', '{"A": 5}', "<think>so 3", "well\n4", "[[5]]"]),
)
reasons = st.sampled_from(["stop", "length", "repetition", "content_filter", "refusal", "error", "abort", ""])
rewards = st.sampled_from([None, math.nan, math.inf, -1.37])


@given(st.sampled_from(KINDS), st.data())
def test_law_score_is_there_exactly_where_the_status_is_ok(judge: Judge, data: st.DataObject) -> None:
    """Whatever a server says, and whatever of it does not come."""
    replies = {
        question.request.request_id: Completion(
            "r",
            data.draw(texts),
            data.draw(reasons),
            first_token=tuple(data.draw(alternatives)),
            reward=data.draw(rewards),
        )
        for question in judge.ask(PROMPT, ROLLOUTS)
        if data.draw(st.booleans())
    }
    verdicts = judge.read(PROMPT, ROLLOUTS, replies)
    assert [verdict.rollout_id for verdict in verdicts] == [rollout.rollout_id for rollout in ROLLOUTS]
    for verdict in verdicts:
        assert (verdict.status is OK) == (verdict.score is not None)
        assert verdict.score is None or math.isfinite(verdict.score)
        if not isinstance(judge, RewardModel):
            assert verdict.score is None or 1.0 <= verdict.score <= 9.0
        if not replies:
            assert verdict.status is FAILED


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("content_filter", VerdictStatus.FILTERED),
        ("refusal", VerdictStatus.REFUSED),
        ("error", FAILED),
        ("abort", FAILED),
    ],
)
@pytest.mark.parametrize("judge", KINDS[:5])
def test_finish_reason_is_looked_at_before_the_reply(judge: Judge, reason: str, status: VerdictStatus) -> None:
    """The text would be a perfect grade."""
    text = '{"A": 5, "B": 5}' if isinstance(judge, ListwiseJudge) else "7"
    asked = judge.ask(PROMPT, ROLLOUTS)
    replies = {one.request.request_id: Completion("r", text, reason) for one in asked}
    assert {(one.status, one.score) for one in judge.read(PROMPT, ROLLOUTS, replies)} == {(status, None)}
    sound = {name: replace(reply, finish_reason="stop") for name, reply in replies.items()}
    assert {one.status for one in judge.read(PROMPT, ROLLOUTS, sound)} == {OK}


@pytest.mark.parametrize("reason", ["length", "repetition"])
def test_thought_that_the_engine_ended_has_no_last_line(reason: str) -> None:
    judge = KINDS[2]
    (question,) = judge.ask(PROMPT, ROLLOUTS[:1])
    reply = Completion("r", "Is it a\n3", reason)
    (verdict,) = judge.read(PROMPT, ROLLOUTS[:1], {question.request.request_id: reply})
    assert (verdict.status, verdict.score) == (VerdictStatus.TRUNCATED, None)


# --- asked again ---


def test_requeue_judge_that_gold_has_silenced_does_not_fill_the_quorum() -> None:
    """Of the two that are heard one is unreadable: with the silenced one there would seem to be two."""
    rollouts = slots(2)
    verdicts = scored(rollouts, {"helpfulness": [1, 2], "correctness": [1, 2], "clarity": [1, None]})
    assert not needs_requeue(rollouts, verdicts, JURY)
    assert needs_requeue(rollouts, verdicts, JURY, {"helpfulness": 0.0, "correctness": 1.0, "clarity": 1.0})
    assert not needs_requeue(rollouts, verdicts, JURY, {"helpfulness": 1.0, "correctness": 1.0, "clarity": 0.0})


def test_requeue_quorum_is_that_of_the_judges_that_are_heard() -> None:
    """Of a jury of three one alone is heard, and one is enough then."""
    rollouts = slots(2)
    verdicts = scored(rollouts, {"helpfulness": [1, 2], "correctness": [1, 2], "clarity": [1, None]})
    assert needs_requeue(rollouts, verdicts, JURY, {"helpfulness": 0.0, "correctness": 0.0, "clarity": 1.0})


def hear_all(
    engine: FakeEngine, journal: Path, court: Court, count: int = 1, at_once: int = 8
) -> tuple[list[Verdict], list[str]]:
    """All that a run does to hear a jury about `count` prompts; the verdicts, and what was said."""
    said: list[str] = []
    desk = Desk(Journal(journal), lambda: None, said.append)
    cases = [a_case(f"q{number}") for number in range(count)]

    async def no_wait(_: float) -> None:
        return None

    async def main() -> dict[str, set[str]]:
        async with http_client(at_once, 10.0) as client:
            engine_ = Engine(client, (engine.url,), WIRE, at_once, sleep=no_wait)
            seats = [Seat(judge, engine_) for judge in JUDGES]
            await hear(cases, seats, court, desk)
            stopped = {seat.judge.name: seat.breaker.failed for seat in seats if seat.breaker.tripped}
            await hear_again(cases, seats, replace(court, stopped=stopped), desk)
            return {seat.judge.name: seat.breaker.failed for seat in seats if seat.breaker.tripped}

    stopped = asyncio.run(main())
    closed = replace(court, stopped=stopped)
    return [one for case in cases for one in all_verdicts(case, closed, desk.journal.kept)], said


def a_court(judges: Sequence[Judge] = JUDGES) -> Court:
    return Court({judge.name: judge for judge in judges}, Jury(judges=[JudgeRef(judge=judge.name) for judge in judges]))


def test_hear_again_never_asks_a_judge_that_gold_has_silenced(fake_engine: FakeEngine, tmp_path: Path) -> None:
    fake_engine.faults = whenever(lambda seen: by(seen) != "correctness", instead(chatty("hm")))
    court = replace(a_court(), weights={"helpfulness": 0.0})
    hear_all(fake_engine, tmp_path / "j", court)
    again = {name.split(":")[3] for name in Journal(tmp_path / "j").kept if name.endswith(AGAIN)}
    assert again == {"clarity"}


@pytest.mark.parametrize("reason", ["refusal", "content_filter", "length"])
def test_hear_again_never_where_asking_would_end_alike(fake_engine: FakeEngine, tmp_path: Path, reason: str) -> None:
    fake_engine.faults = whenever(lambda seen: by(seen) != "correctness", instead(chatty("I may", reason)))
    verdicts, _ = hear_all(fake_engine, tmp_path / "j", a_court())
    assert len(fake_engine.seen) == 18
    assert Counter(verdict.status for verdict in verdicts)[OK] == 6


# --- the circuit breaker ---


def test_breaker_stops_asking_a_broken_judge_says_so_and_goes_on_with_the_others(
    fake_engine: FakeEngine, tmp_path: Path
) -> None:
    """40 prompts would be 240 calls of it."""
    fake_engine.faults = whenever(lambda seen: by(seen) == "clarity", instead(chatty("hm")))
    verdicts, said = hear_all(fake_engine, tmp_path / "j", a_court(), count=40, at_once=2)

    asked = Counter(by(seen) for seen in fake_engine.seen)
    assert BAD <= asked["clarity"] <= BAD + 4  # what was under way
    assert asked["helpfulness"] == asked["correctness"] == 240
    status = Counter(verdict.status for verdict in verdicts if verdict.judge == "clarity")
    assert status == {UNREADABLE: asked["clarity"], STOPPED: 240 - asked["clarity"]}
    assert {verdict.status for verdict in verdicts if verdict.judge != "clarity"} == {OK}
    assert said == [
        f"warning: clarity is stopped: {BAD} of its last {BAD} replies were bad ({BAD} unreadable); the run goes on without it"
    ]


def test_breaker_tells_requests_that_failed_from_those_that_were_not_sent(
    fake_engine: FakeEngine, tmp_path: Path
) -> None:
    fake_engine.faults = whenever(lambda seen: by(seen) == "clarity", error(400, "no"))
    verdicts, said = hear_all(fake_engine, tmp_path / "j", a_court(), count=20, at_once=2)
    asked = Counter(by(seen) for seen in fake_engine.seen)["clarity"]
    status = Counter(verdict.status for verdict in verdicts if verdict.judge == "clarity")
    assert BAD <= asked < 120
    assert status == {FAILED: asked, STOPPED: 120 - asked}
    assert len(said) == 1
