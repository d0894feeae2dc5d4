"""How the jury is heard: who is asked about what, what is asked twice, and that no reply is lost."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from factory.client.asking import Desk
from factory.client.protocol import Ability, Wire
from factory.client.transport import http_client
from factory.engine import Engine
from factory.judging.hearing import AGAIN, Case, Court, Seat, all_verdicts, cases, hear, hear_again, questions
from factory.ledger.journal import Journal
from judges import clarity, correctness, helpfulness
from judges.base import Judge
from schemas.recipe import JudgeRef, Jury
from schemas.rows import Loop, Prompt, Rollout, Verdict, VerdictStatus
from tests.fake_engine import FakeEngine, Seen, error, instead, whenever
from tests.samples import a_prompt, a_rollout

JUDGES: tuple[Judge, ...] = (helpfulness.JUDGE, correctness.JUDGE, clarity.JUDGE)
JURY = Jury(judges=[JudgeRef(judge=judge.name) for judge in JUDGES])
WIRE = Wire("fake-model", frozenset(Ability))
SLOTS = ("greedy", "t0", "t1", "t2", "t3", "t4")


def asking(name: str) -> Prompt:
    return a_prompt(name, f"What is {name}?")


def answered(prompt: Prompt, slot: str, text: str | None = None) -> Rollout:
    """An answer of round 0. Without a text, one that no other slot has."""
    rollout = a_rollout(prompt.prompt_id, slot, f"{prompt.prompt_id} answered by {slot}" if text is None else text)
    return replace(rollout, rollout_id=f"{prompt.prompt_id}:0:{slot}")


def a_case(name: str = "p") -> Case:
    prompt = asking(name)
    return Case(prompt, tuple(answered(prompt, slot) for slot in SLOTS))


def heard(
    engine: FakeEngine, journal: Path, on: Sequence[Case], judges: Sequence[Judge] = JUDGES, jury: Jury = JURY
) -> list[Verdict]:
    """Everything that the stage does with a shard, and its verdicts."""
    desk = Desk(Journal(journal), lambda: None)

    async def sleep(_: float) -> None:
        return None

    async def main() -> None:
        async with http_client(8, 10.0) as client:
            seats = [Seat(judge, Engine(client, (engine.url,), WIRE, 8, sleep=sleep)) for judge in judges]
            await hear(on, seats, court_of(jury), desk)
            await hear_again(on, seats, court_of(jury), desk)

    asyncio.run(main())
    court = court_of(jury, judges)
    return [verdict for case in on for verdict in all_verdicts(case, court, desk.journal.kept)]


def court_of(jury: Jury = JURY, judges: Sequence[Judge] = JUDGES) -> Court:
    return Court({judge.name: judge for judge in judges}, jury)


def of(name: str) -> str:
    """How a judge's questions begin."""
    return {judge.name: judge.rubric for judge in (helpfulness.JUDGE, correctness.JUDGE, clarity.JUDGE)}[name]


def by(seen: Seen) -> str:
    """Which judge asks; "" for a canary."""
    said = seen.body["messages"][0]["content"]
    return next((judge.name for judge in JUDGES if said.startswith(of(judge.name))), "")


def test_cases_are_joined_by_id_and_never_by_position() -> None:
    one, other = a_case("one"), a_case("other")
    mixed = [rollout for pair in zip(other.rollouts, one.rollouts, strict=True) for rollout in pair]

    assert cases([one.prompt, other.prompt], mixed) == (one, other)


def test_cases_prompt_without_rollouts_is_a_case_too() -> None:
    assert cases([asking("p")], []) == (Case(asking("p"), ()),)


def test_cases_rollout_of_no_prompt_is_an_error() -> None:
    with pytest.raises(KeyError):
        cases([asking("p")], [answered(asking("q"), "t0")])


def test_hear_every_answer_has_a_verdict_of_each_judge(fake_engine: FakeEngine, tmp_path: Path) -> None:
    case = a_case()

    verdicts = heard(fake_engine, tmp_path / "j", [case])

    wanted = Counter((rollout.rollout_id, judge.name) for rollout in case.rollouts for judge in JUDGES)
    assert Counter((verdict.rollout_id, verdict.judge) for verdict in verdicts) == wanted
    assert {verdict.status for verdict in verdicts} == {VerdictStatus.OK}
    assert all(1 <= (verdict.score or 0) <= 9 and verdict.variance is not None for verdict in verdicts)
    assert len(fake_engine.seen) == 18
    assert all(seen.body["structured_outputs"] == {"choice": list("123456789")} for seen in fake_engine.seen)


def test_hear_judges_differ(fake_engine: FakeEngine, tmp_path: Path) -> None:
    verdicts = heard(fake_engine, tmp_path / "j", [a_case()])

    scores = {judge.name: [v.score for v in verdicts if v.judge == judge.name] for judge in JUDGES}
    assert len({tuple(found) for found in scores.values()}) == 3


def test_hear_loops_and_duplicates_are_not_asked_about(fake_engine: FakeEngine, tmp_path: Path) -> None:
    prompt = asking("p")
    rollouts = (
        answered(prompt, "greedy", "same"),
        answered(prompt, "t0", " same\n"),
        replace(answered(prompt, "t1"), loop=Loop.HARD),
        replace(answered(prompt, "t2"), text=None, error="gone"),
        replace(answered(prompt, "t3"), loop=Loop.SOFT),
    )

    verdicts = heard(fake_engine, tmp_path / "j", [Case(prompt, rollouts)])

    found = {(verdict.rollout_id, verdict.judge): verdict.status for verdict in verdicts}
    assert found == {
        (f"p:0:{slot}", judge.name): status
        for judge in JUDGES
        for slot, status in (
            ("greedy", VerdictStatus.OK),
            ("t0", VerdictStatus.SKIPPED_DUPLICATE),
            ("t1", VerdictStatus.SKIPPED_LOOP),
            ("t3", VerdictStatus.OK),
        )
    }
    assert len(fake_engine.seen) == 6


def test_hear_calls_of_one_prompt_are_adjacent_for_the_prefix_cache(fake_engine: FakeEngine, tmp_path: Path) -> None:
    asked = [one.request for case in (a_case("a"), a_case("b")) for _, one in questions(case, JUDGES, court_of(), {})]

    keys = [(request.request_id.split(":")[0], request.messages[0].content) for request in asked]
    assert len(keys) == 36
    runs = [key for number, key in enumerate(keys) if number == 0 or keys[number - 1] != key]
    assert len(runs) == len(set(runs)) == 6


def test_hear_replayed_journal_asks_nothing(fake_engine: FakeEngine, tmp_path: Path) -> None:
    first = heard(fake_engine, tmp_path / "j", [a_case()])
    fake_engine.seen.clear()

    assert heard(fake_engine, tmp_path / "j", [a_case()]) == first
    assert fake_engine.seen == []


def test_hear_judges_one_after_the_other_give_the_same_verdicts(fake_engine: FakeEngine, tmp_path: Path) -> None:
    together = heard(fake_engine, tmp_path / "together", [a_case()])
    for judge in JUDGES:
        heard(fake_engine, tmp_path / "apart", [a_case()], [judge])
    asked = len(fake_engine.seen)

    assert heard(fake_engine, tmp_path / "apart", [a_case()]) == together
    assert len(fake_engine.seen) == asked == 36


def chatty(text: str, reason: str = "stop") -> dict[str, object]:
    return {"choices": [{"message": {"content": text}, "finish_reason": reason}]}


def test_hear_unreadable_reply_is_a_status_and_no_number(fake_engine: FakeEngine, tmp_path: Path) -> None:
    fake_engine.faults = whenever(lambda seen: by(seen) == "clarity", instead(chatty("I think 7")))

    verdicts = heard(fake_engine, tmp_path / "j", [a_case()])

    assert {(v.status, v.score, v.reply) for v in verdicts if v.judge == "clarity"} == {
        (VerdictStatus.UNREADABLE, None, "I think 7")
    }
    assert {v.status for v in verdicts if v.judge != "clarity"} == {VerdictStatus.OK}


def test_hear_again_not_where_the_quorum_is_met_without(fake_engine: FakeEngine, tmp_path: Path) -> None:
    """Two of three judges are whole: the third one's replies are not worth more requests."""
    fake_engine.faults = whenever(lambda seen: by(seen) == "clarity", instead(chatty("hm")))

    heard(fake_engine, tmp_path / "j", [a_case()])

    assert len(fake_engine.seen) == 18


def test_hear_again_once_where_the_prompt_is_short_of_its_quorum(fake_engine: FakeEngine, tmp_path: Path) -> None:
    asked: Counter[str] = Counter()

    def first_time(seen: Seen) -> bool:
        asked[str(seen.body)] += 1
        return "answered by t1" in seen.asked and by(seen) != "helpfulness" and asked[str(seen.body)] == 1

    fake_engine.faults = whenever(first_time, instead(chatty("hm")))

    verdicts = heard(fake_engine, tmp_path / "j", [a_case("a"), a_case("b")])

    assert {verdict.status for verdict in verdicts} == {VerdictStatus.OK}
    assert sorted(asked.values()) == [1] * 32 + [2] * 4
    again = {name for name in Journal(tmp_path / "j").kept if name.endswith(AGAIN)}
    assert again == {f"{p}:0:t1:{judge}{AGAIN}" for p in "ab" for judge in ("correctness", "clarity")}


def test_hear_again_reply_that_is_unreadable_twice_is_not_asked_a_third_time(
    fake_engine: FakeEngine, tmp_path: Path
) -> None:
    fake_engine.faults = whenever(lambda seen: by(seen) != "helpfulness", instead(chatty("hm")))
    heard(fake_engine, tmp_path / "j", [a_case()])
    asked = len(fake_engine.seen)

    verdicts = heard(fake_engine, tmp_path / "j", [a_case()])

    assert asked == 18 + 12 == len(fake_engine.seen)
    assert Counter(verdict.status for verdict in verdicts) == {VerdictStatus.OK: 6, VerdictStatus.UNREADABLE: 12}


def test_hear_request_that_fails_for_good_is_a_failed_verdict(fake_engine: FakeEngine, tmp_path: Path) -> None:
    fake_engine.faults = whenever(lambda seen: by(seen) == "clarity", error(400, "no"))

    verdicts = heard(fake_engine, tmp_path / "j", [a_case()])

    assert {(v.status, v.score, v.reply) for v in verdicts if v.judge == "clarity"} == {
        (VerdictStatus.FAILED, None, None)
    }


def test_hear_again_not_where_judges_that_were_heard_before_make_the_quorum(
    fake_engine: FakeEngine, tmp_path: Path
) -> None:
    """Judges behind local models are heard one model after the other; it must not matter who is heard with whom."""
    heard(fake_engine, tmp_path / "j", [a_case()], JUDGES[1:])
    fake_engine.faults = whenever(lambda seen: by(seen) == "helpfulness", instead(chatty("hm")))
    fake_engine.seen.clear()

    heard(fake_engine, tmp_path / "j", [a_case()], JUDGES[:1])

    assert len(fake_engine.seen) == 6
