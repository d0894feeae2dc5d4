"""Defects that public preference pipelines trained on, one section each: what they did, and that it does not happen here.

A failure of -1 that became 2 when the pair was swapped          A reply "Based on..." read as grade B
"N/A" as -1 inside a mean                                         A tie exported as chosen = rejected
No score token found read as 0.0                                  After one failed row, every later one got its neighbour's
"1" read as 10                                                    A swap condition that could never be true
The first [[A]] anywhere in the text taken as the verdict         The hot sample shown always as A
                                                                  Finish reason `length` retried ten times
"""

import asyncio
import itertools
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.client.asking import Desk
from factory.client.protocol import Ability, Wire
from factory.client.transport import http_client
from factory.engine import Engine
from factory.judging.calibration import read_gold
from factory.judging.confirming import confirmed
from factory.judging.hearing import Case, Court, Seat, all_verdicts, hear, hear_again
from factory.jury import blocks
from factory.ledger.journal import Journal
from factory.rollouts import Policy, plan, roll_out
from judges import clarity, correctness, helpfulness
from judges.base import Judge, Question, no_score, request_id
from judges.grades import digit_distribution
from judges.listwise import ListwiseJudge
from judges.pairwise import PairwiseJudge, first_letter, winner
from judges.pointwise import PointwiseJudge
from schemas.chat import Completion, TokenAlternative
from schemas.recipe import JudgeRef, Jury, Pairing, Rollouts
from schemas.rows import Confirmation, Dropped, DropReason, Pair, Prompt, Rollout, Verdict, VerdictStatus
from tests.factory.test_pairing import heard as scored
from tests.factory.test_pairing import paired, three
from tests.fake_engine import FakeEngine, error, instead, whenever
from tests.samples import a_prompt, a_rollout

JUDGE = PointwiseJudge("taste", "You grade taste. 1: none. 9: all of it.")
PAIRWISE = PairwiseJudge("taste", JUDGE.rubric)
LISTWISE = ListwiseJudge("taste", JUDGE.rubric)
THINKING = replace(JUDGE, thinking_tokens=64)
PROMPT = a_prompt()
SLOTS = ("greedy", "t0", "t1", "t2", "t3", "t4")
OK, UNREADABLE, TRUNCATED = VerdictStatus.OK, VerdictStatus.UNREADABLE, VerdictStatus.TRUNCATED
CHOSEN, REJECTED = a_rollout(slot="t0", text="Paris."), a_rollout(slot="t1", text="Lyon.")


def a_reply(text: str, finish_reason: str = "stop", first: Mapping[str, float] | None = None) -> Completion:
    """`first`: token -> probability at the first position; none: a server without log-probabilities."""
    alternatives = tuple(TokenAlternative(token, math.log(p)) for token, p in (first or {}).items())
    return Completion("r", text, finish_reason, first_token=alternatives)


def graded(reply: Completion, judge: PointwiseJudge = JUDGE) -> Verdict:
    (question,) = judge.ask(PROMPT, [CHOSEN])
    (verdict,) = judge.read(PROMPT, [CHOSEN], {question.request.request_id: reply})
    return verdict


def compared(first: Completion | None, second: Completion | None) -> tuple[Confirmation, Confirmation]:
    """Replies to the chosen answer shown first, and second."""
    asked = [one.request.request_id for one in PAIRWISE.ask(PROMPT, CHOSEN, REJECTED)]
    given = dict(zip(asked, (first, second), strict=True))
    return PAIRWISE.read(CHOSEN, REJECTED, {name: reply for name, reply in given.items() if reply is not None})


def listed(text: str) -> tuple[Verdict, ...]:
    (question,) = LISTWISE.ask(PROMPT, [CHOSEN, REJECTED])
    return LISTWISE.read(PROMPT, [CHOSEN, REJECTED], {question.request.request_id: a_reply(text)})


def in_a_line(question: Question, texts: Sequence[str]) -> list[str]:
    """The texts in the order in which the question shows them."""
    shown = question.request.messages[-1].content
    return sorted(texts, key=shown.index)


# --- a failure of -1 that became 2 when the pair was swapped ---


@pytest.mark.parametrize(
    "bad", [None, a_reply("-1"), a_reply("N/A"), a_reply("", "content_filter"), a_reply("A", "error", {"A": 0.9})]
)
def test_defect_failure_of_minus_one_does_not_become_two_in_a_swapped_pair(bad: Completion | None) -> None:
    good = a_reply("A", first={"A": 0.9, "B": 0.1})
    for first, second in ((bad, good), (good, bad), (bad, bad)):
        rows = compared(first, second)
        assert [row.preference for row, one in zip(rows, (first, second), strict=True) if one is bad] in (
            [None],
            [None] * 2,
        )
        assert winner(rows) is None


def test_defect_failure_of_minus_one_is_the_same_failure_in_either_order_of_answers() -> None:
    replies = {request_id(CHOSEN.rollout_id, "taste"): a_reply("4")}
    forward = JUDGE.read(PROMPT, [CHOSEN, REJECTED], replies)
    assert forward == JUDGE.read(PROMPT, [REJECTED, CHOSEN], replies)[::-1]
    assert (forward[1].status, forward[1].score) == (VerdictStatus.FAILED, None)


def test_defect_failure_of_minus_one_beside_a_status_is_no_score_of_the_jury() -> None:
    verdicts = [replace(no_score(one, "taste", UNREADABLE), score=-1.0) for one in (CHOSEN, REJECTED)]
    assert blocks([CHOSEN, REJECTED], verdicts, ["taste"]) == {}


# --- "N/A" as -1 inside a mean ---


@pytest.mark.parametrize("text", ["N/A", "-1", "n/a", "None"])
def test_defect_not_available_as_minus_one_is_not_in_the_mean_of_samples(text: str) -> None:
    judge = replace(JUDGE, samples=3)
    asked = [one.request.request_id for one in judge.ask(PROMPT, [CHOSEN])]
    replies = dict(zip(asked, [a_reply("8"), a_reply(text), a_reply("6")], strict=True))
    (verdict,) = judge.read(PROMPT, [CHOSEN], replies)
    assert (verdict.score, verdict.mass) == pytest.approx((7.0, 2 / 3))


@pytest.mark.parametrize("grade", ['"N/A"', "-1", "null", "0"])
def test_defect_not_available_as_minus_one_makes_a_list_unreadable_and_no_mean(grade: str) -> None:
    assert {(one.status, one.score) for one in listed(f'{{"A": 9, "B": {grade}}}')} == {(UNREADABLE, None)}


def test_defect_not_available_as_minus_one_takes_the_judge_out_of_the_mean_of_the_jury() -> None:
    """Three judges of which one has no grade for the best answer: the other two decide, at their own figures."""
    verdicts = list(scored({"greedy": (5, 5, 5), "t0": (8, 8, 8), "t1": (2, 2, 2)}))
    lost = [
        replace(one, status=UNREADABLE, score=None) if (one.judge, one.rollout_id) == ("clarity", "p:t0") else one
        for one in verdicts
    ]
    pair = paired(three(), lost)
    assert isinstance(pair, Pair)
    assert (pair.chosen_id, pair.margin) == ("p:t0", 6.0)


# --- no score token found read as 0.0 ---


@pytest.mark.parametrize("first", [{"The": 0.7, "Grade": 0.3}, {"0": 1.0}, {"10": 0.5, "\n": 0.5}])
def test_defect_no_score_token_is_a_status_and_not_zero(first: dict[str, float]) -> None:
    alternatives = [TokenAlternative(token, math.log(p)) for token, p in first.items()]
    assert digit_distribution(alternatives) is None
    verdict = graded(a_reply("7", first=first))
    assert (verdict.status, verdict.score) == (UNREADABLE, None)


def test_defect_no_score_token_of_a_pair_is_a_status_and_not_zero() -> None:
    rows = compared(*[a_reply("A", first={"The": 0.6, "Answer": 0.4})] * 2)
    assert {(row.status, row.preference) for row in rows} == {(UNREADABLE, None)}


def test_defect_no_score_token_but_a_trace_is_low_mass_and_not_its_little_number() -> None:
    assert (graded(a_reply("1", first={"The": 0.98, "1": 0.02})).status) is VerdictStatus.LOW_MASS


# --- "1" read as 10 ---


def test_defect_one_is_not_read_as_ten() -> None:
    for reply in (a_reply("1"), a_reply("1", "length", {"1": 1.0}), a_reply(" 1", first={" 1": 1.0})):
        assert graded(reply).score == 1.0


@pytest.mark.parametrize("text", ["10", "10/10", "1 0", "1.0", "1/10", "Score: 10"])
def test_defect_ten_is_not_read_as_one_and_no_other_digit(text: str) -> None:
    for judge in (JUDGE, THINKING):
        verdict = graded(a_reply(text, first={"1": 0.9, "9": 0.1}), judge)
        assert (verdict.status, verdict.score) == (UNREADABLE, None)
    assert {one.score for one in listed('{"A": 10, "B": 1}')} == {None}


def test_defect_token_ten_adds_nothing_to_one() -> None:
    verdict = graded(a_reply("5", first={"5": 0.5, "10": 0.3, "1.": 0.1, "0": 0.1}))
    assert (verdict.score, verdict.mass) == pytest.approx((5.0, 0.5))


# --- the first [[A]] anywhere in the text taken as the verdict ---


@pytest.mark.parametrize(
    "text", ["[[A]]", "Not [[A]], but [[B]]", "If it were [[A]] I would say so.\n[[B]]", "A or B?"]
)
def test_defect_first_brackets_anywhere_are_no_verdict_on_a_pair(text: str) -> None:
    assert first_letter(a_reply(text)) is UNREADABLE


def test_defect_first_brackets_anywhere_in_a_thought_are_not_its_grade() -> None:
    assert graded(a_reply("[[9]] would be for a proof; this has none.\n3"), THINKING).score == 3.0
    assert graded(a_reply("<think>Is it [[9]]?\n9\n</think>\n2"), THINKING).score == 2.0
    assert graded(a_reply("The grade is [[9]], I would say"), THINKING).score is None


def test_defect_first_brackets_anywhere_in_the_answer_are_material() -> None:
    """The text that is judged is not looked at for a verdict."""
    answer = replace(CHOSEN, text="[[9]] Grade: 9 [[A]]")
    (verdict,) = JUDGE.read(PROMPT, [answer], {request_id(answer.rollout_id, "taste"): a_reply("2")})
    assert verdict.score == 2.0


# --- a reply "Based on..." read as grade B ---


@pytest.mark.parametrize("text", ["Based on", "Based", "Both", "Better: A", "An", "Answer A", "b", "BA"])
def test_defect_based_on_is_not_read_as_letter_b(text: str) -> None:
    assert first_letter(a_reply(text, first={text: 0.9, "B": 0.1})) is UNREADABLE


def test_defect_based_on_as_a_token_adds_nothing_to_letter_b() -> None:
    read = first_letter(a_reply("A", first={"A": 0.3, "Based": 0.5, "B": 0.1, "Answer": 0.1}))
    assert read == pytest.approx((0.75, 0.4))


@pytest.mark.parametrize("text", ["Based on the rubric, 7", "B", "Eight"])
def test_defect_based_on_is_no_grade_either(text: str) -> None:
    assert graded(a_reply(text)).score is None


# --- a tie exported as chosen = rejected ---


@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_defect_tie_is_dropped_and_never_a_pair(margin: float) -> None:
    tie = scored({"greedy": (5, 6, 7), "t0": (6, 7, 5), "t1": (7, 5, 6)})
    outcome = paired(three(), tie, pairing=Pairing(margin=margin, agreement=0.0))
    assert isinstance(outcome, Dropped)
    assert outcome.reason is DropReason.BELOW_MARGIN


@given(st.lists(st.tuples(*[st.integers(1, 3)] * 3), min_size=3, max_size=3), st.sampled_from([0.0, 0.5]))
def test_defect_tie_or_not_chosen_is_never_rejected_and_scores_more(
    scores: list[tuple[int, ...]], margin: float
) -> None:
    """One text stands there twice."""
    same = [three()[0], three()[1], replace(three()[2], text="answer t0\n")]
    verdicts = scored(dict(zip(("greedy", "t0", "t1"), scores, strict=True)))
    outcome = paired(same, verdicts, pairing=Pairing(margin=margin, agreement=0.0))
    if isinstance(outcome, Pair):
        assert outcome.chosen.strip() != outcome.rejected.strip()
        assert outcome.chosen_id != outcome.rejected_id
        assert (outcome.chosen_score or 0) > (outcome.rejected_score or 0)


def test_defect_tie_of_the_confirming_judges_confirms_nothing() -> None:
    pair = paired(three(), scored({"greedy": (5, 5, 5), "t0": (8, 8, 8), "t1": (2, 2, 2)}))
    assert isinstance(pair, Pair)
    flips = [
        Confirmation("p", pair.chosen_id, pair.rejected_id, "taste", first, OK, 0.9 if first else 0.1)
        for first in (True, False)
    ]
    outcome = confirmed(pair, flips, {})
    assert isinstance(outcome, Dropped)
    assert outcome.reason is DropReason.NOT_CONFIRMED


# --- after one failed row, every later prompt got its neighbour's answers ---

JUDGES: tuple[Judge, ...] = (helpfulness.JUDGE, correctness.JUDGE, clarity.JUDGE)
WIRE = Wire("fake-model", frozenset(Ability))


def asking(number: int) -> Prompt:
    return a_prompt(f"p{number}", f"What is number {number}? [ends]")


def a_case(number: int) -> Case:
    prompt = asking(number)
    return Case(prompt, tuple(a_rollout(prompt.prompt_id, slot, f"{number} by {slot}") for slot in SLOTS))


async def no_wait(_: float) -> None:
    return None


async def at_a_desk(
    engine: FakeEngine, journal: Path, cases: Sequence[Case], jury: Mapping[str, Judge]
) -> list[Verdict]:
    """All that a run does to hear a jury."""
    court = Court(jury, Jury(judges=[JudgeRef(judge=name) for name in jury]))
    desk = Desk(Journal(journal), lambda: None)
    async with http_client(4, 10.0) as client:
        seats = [Seat(judge, Engine(client, (engine.url,), WIRE, 4, sleep=no_wait)) for judge in jury.values()]
        await hear(cases, seats, court, desk)
        await hear_again(cases, seats, court, desk)
    return [one for case in cases for one in all_verdicts(case, court, desk.journal.kept)]


def test_defect_neighbours_answer_failed_rollout_leaves_every_other_its_own(
    fake_engine: FakeEngine, tmp_path: Path
) -> None:
    async def answers(journal: Path) -> dict[str, str | None]:
        planned = [one for number in range(6) for one in plan(asking(number), Rollouts(), 1, 0)]
        async with http_client(4, 10.0) as client:
            policy = Policy(Engine(client, (fake_engine.url,), WIRE, 4), "fake-model", "d")
            rows = await roll_out(planned, policy, Desk(Journal(journal), lambda: None))
        return {row.rollout_id: row.text for row in rows}

    whole = asyncio.run(answers(tmp_path / "whole"))
    fake_engine.faults = whenever(lambda seen: "number 2?" in seen.asked, error(400, "no"))
    torn = asyncio.run(answers(tmp_path / "torn"))

    failed = {name for name in whole if name.startswith("p2:")}
    assert len(set(whole.values())) > 30
    assert {name for name, text in torn.items() if text is None} == failed
    assert {name: text for name, text in torn.items() if name not in failed} == {
        name: text for name, text in whole.items() if name not in failed
    }


def test_defect_neighbours_answer_failed_judgement_leaves_every_other_its_own(
    fake_engine: FakeEngine, tmp_path: Path
) -> None:
    cases, jury = [a_case(number) for number in range(4)], {judge.name: judge for judge in JUDGES}

    def scores(journal: Path) -> dict[tuple[str, str], float | None]:
        rows = asyncio.run(at_a_desk(fake_engine, journal, cases, jury))
        return {(row.rollout_id, row.judge): row.score for row in rows}

    whole = scores(tmp_path / "whole")
    fake_engine.faults = whenever(lambda seen: "1 by t2" in seen.asked, error(400, "no"))
    torn = scores(tmp_path / "torn")

    failed = {key for key in whole if key[0] == "p1:t2"}
    assert len(failed) == 3
    assert None not in whole.values()
    assert torn == {key: None if key in failed else score for key, score in whole.items()}


def test_defect_neighbours_answer_missing_reply_is_not_filled_from_the_next() -> None:
    rollouts = [a_rollout(text=f"text {n}", slot=f"t{n}") for n in range(4)]
    replies = {request_id(one.rollout_id, "taste"): a_reply(str(n + 1)) for n, one in enumerate(rollouts)}
    del replies["p:t1:taste"]
    replies["p:t9:taste"] = a_reply("9")
    verdicts = JUDGE.read(PROMPT, rollouts, replies)
    assert [(one.rollout_id, one.score) for one in verdicts] == [("p:t0", 1), ("p:t1", None), ("p:t2", 3), ("p:t3", 4)]


# --- a swap condition that could never be true ---


def test_defect_swap_that_never_happens_every_pair_is_shown_in_both_orders() -> None:
    straight, swapped = PAIRWISE.ask(PROMPT, CHOSEN, REJECTED)
    assert in_a_line(straight, ["Paris.", "Lyon."]) == ["Paris.", "Lyon."]
    assert in_a_line(swapped, ["Paris.", "Lyon."]) == ["Lyon.", "Paris."]
    assert straight.request.request_id != swapped.request.request_id


def test_defect_swap_that_never_happens_each_order_is_read_as_the_order_that_was_shown() -> None:
    """A judge that always names the first place prefers each answer once, and that is a tie."""
    always_a = a_reply("A", first={"A": 0.8, "B": 0.2})
    rows = compared(always_a, always_a)
    assert [(row.chosen_first, row.preference) for row in rows] == [(True, 0.8), (False, pytest.approx(0.2))]
    assert winner(rows) == 0.5
    first_then_second = compared(always_a, a_reply("B", first={"A": 0.2, "B": 0.8}))
    assert winner(first_then_second) == 1.0


def test_defect_swap_that_never_happens_gold_of_chosen_and_rejected_stands_on_both_sides(tmp_path: Path) -> None:
    path = tmp_path / "gold.jsonl"
    rows = [{"prompt": f"Question {n}?", "chosen": "good", "rejected": "bad"} for n in range(40)]
    path.write_text("\n".join(map(json.dumps, rows)))
    pairs = read_gold(path)
    assert {pair.better for pair in pairs} == {0, 1}
    assert {pair.answers[pair.better].text for pair in pairs} == {"good"}


# --- the hot sample shown always as A ---


def test_defect_hot_sample_is_not_always_shown_first_in_a_list() -> None:
    """Each slot stands at each of the six places for about a sixth of the prompts."""
    places: Counter[tuple[str, int]] = Counter()
    for number in range(600):
        case = a_case(number)
        (question,) = LISTWISE.ask(case.prompt, case.rollouts)
        texts = {one.text or "": one.slot for one in case.rollouts}
        places.update((texts[text], place) for place, text in enumerate(in_a_line(question, list(texts))))
    assert set(places) == set(itertools.product(SLOTS, range(6)))
    assert all(60 <= count <= 140 for count in places.values())


def test_defect_hot_sample_says_nothing_to_a_judge_of_single_answers() -> None:
    """The question is made of the text alone: not of the slot, its temperature, or who stands beside it."""
    hot, cold = (replace(a_rollout("p", slot, "Paris."), temperature=t) for slot, t in (("t4", 1.5), ("greedy", 0.0)))
    (one,), (other,) = JUDGE.ask(PROMPT, [hot]), JUDGE.ask(PROMPT, [cold])
    assert one.request.messages == other.request.messages
    assert JUDGE.ask(PROMPT, [hot, REJECTED])[0] == JUDGE.ask(PROMPT, [REJECTED, hot])[1] == one


# --- finish reason `length` retried ten times ---


def chat(text: str, finish_reason: str) -> dict[str, object]:
    return {"choices": [{"message": {"content": text}, "finish_reason": finish_reason}]}


def test_defect_length_answer_at_the_cap_is_asked_for_once(fake_engine: FakeEngine, tmp_path: Path) -> None:
    fake_engine.faults = whenever(lambda _: True, instead(chat("and so on and", "length")))

    async def rows() -> list[Rollout]:
        async with http_client(4, 10.0) as client:
            engine = Engine(client, (fake_engine.url,), WIRE, 4, sleep=no_wait)
            policy = Policy(engine, "fake-model", "d")
            return await roll_out(
                plan(asking(1), Rollouts(), 1, 0), policy, Desk(Journal(tmp_path / "j"), lambda: None)
            )

    found = asyncio.run(rows())
    assert len(fake_engine.seen) == len(found) == 6
    assert {(row.finish_reason, row.finished, row.error) for row in found} == {("length", False, None)}


def test_defect_length_thought_without_an_end_is_truncated_and_not_asked_again(
    fake_engine: FakeEngine, tmp_path: Path
) -> None:
    """The prompt is short of its quorum, and the same budget would end in the same place."""
    fake_engine.faults = whenever(lambda _: True, instead(chat("Let me think about it:\n7", "length")))
    jury = {name: replace(THINKING, name=name) for name in ("helpfulness", "correctness", "clarity")}
    verdicts = asyncio.run(at_a_desk(fake_engine, tmp_path / "j", [a_case(0)], jury))
    assert len(fake_engine.seen) == 18
    assert {(one.status, one.score) for one in verdicts} == {(TRUNCATED, None)}


def test_defect_length_of_a_judge_that_may_write_one_digit_is_its_whole_answer() -> None:
    verdict = graded(a_reply("7", "length", {"7": 1.0}))
    assert (verdict.status, verdict.score) == (OK, 7.0)
