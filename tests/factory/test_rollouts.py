"""The plan of a prompt's answers, and the rows that come of them."""

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from factory.client.asking import Desk
from factory.client.protocol import Wire
from factory.client.transport import http_client
from factory.engine import Engine
from factory.ledger.journal import Journal
from factory.rollouts import Policy, plan, roll_out, seed_of, slots, split_reasoning
from schemas.chat import Completion, Message, RepetitionDetection, Role, Sampling
from schemas.recipe import Decoding, Rollouts
from schemas.rows import Loop, LoopRule, Prompt, Rollout
from tests.fake_engine import UNITS, FakeEngine, Seen, error, no_faults, whenever

SIX = ("greedy", "t0", "t1", "t2", "t3", "t4")
PROMPT = Prompt("p1", "file", (Message(Role.USER, "Hi"),), tools='[{"type": "function"}]')


def a_prompt(asked: str) -> Prompt:
    return Prompt(f"id of {asked}", "file", (Message(Role.USER, asked),))


# The plan


def test_plan_is_six_slots_greedy_first_with_seeds_of_their_own() -> None:
    planned = plan(PROMPT, Rollouts(), run_seed=7, round_=0)

    assert tuple(one.slot for one in planned) == SIX
    assert [one.rollout_id for one in planned] == [f"p1:0:{slot}" for slot in SIX]
    assert len({one.request.sampling.seed for one in planned}) == 6
    assert [one.request.sampling.temperature for one in planned] == [0.0] + [0.7] * 5
    assert all(one.request.messages == PROMPT.messages for one in planned)
    assert all(one.request.tools == PROMPT.tools for one in planned)
    assert all(one.request.want_token_ids for one in planned)
    assert all(one.request.repetition_detection == RepetitionDetection(64, 1, 6) for one in planned)


def test_plan_slot_overrides_what_it_names_and_takes_the_rest_from_sampling() -> None:
    rollouts = Rollouts(
        max_tokens=9,
        sampling=Decoding(temperature=0.5, top_p=0.9, min_p=0.1, top_k=40, repetition_penalty=1.1),
        slots=[Decoding(temperature=1.1), Decoding(top_p=0.2, top_k=0)],
        greedy=Decoding(repetition_penalty=1.0),
        stop=["\n\n"],
    )

    greedy, first, second = (one.request.sampling for one in plan(PROMPT, rollouts, 7, 0))

    base = Sampling(9, 0, 0.5, 0.9, 40, 0.1, 1.1, ("\n\n",))
    assert replace(first, seed=0) == replace(base, temperature=1.1)
    assert replace(second, seed=0) == replace(base, top_p=0.2, top_k=0)
    assert replace(greedy, seed=0) == replace(base, temperature=0.0, repetition_penalty=1.0)


def test_plan_without_greedy_has_sampled_slots_alone() -> None:
    assert [name for name, _ in slots(Rollouts(greedy=None, slots=[Decoding()] * 2))] == ["t0", "t1"]


def test_plan_without_detection_asks_for_none() -> None:
    planned = plan(PROMPT, Rollouts(repetition_detection=None), 7, 0)

    assert {one.request.repetition_detection for one in planned} == {None}


seeds = st.integers(0, 2**32 - 1)


@given(
    run_seed=seeds,
    round_=st.integers(0, 9),
    prompt_id=st.text("0123456789abcdef", min_size=1),
    slot=st.sampled_from(SIX),
)
def test_seed_of_fits_into_what_every_json_reader_keeps(run_seed: int, round_: int, prompt_id: str, slot: str) -> None:
    seed = seed_of(run_seed, round_, prompt_id, slot)

    assert 0 <= seed < 2**53
    assert int(float(seed)) == seed == seed_of(run_seed, round_, prompt_id, slot)


def test_seed_of_is_another_one_for_each_of_its_parts() -> None:
    found = [
        seed_of(run_seed, round_, prompt_id, slot)
        for run_seed in (0, 1, 11)
        for round_ in (0, 1, 11)
        for prompt_id in ("1", "11", "a")
        for slot in SIX
    ]

    assert Counter(found).most_common(1)[0][1] == 1


# Reasoning


@given(st.text(st.characters(codec="utf-8")))
@example("<think>")
@example("<think></think>")
@example("no tag opened</think>\n\nanswer")
@example(" \n<think>a<think>b</think>c</think>d")
@example("answer <think>later</think>")
@example("<think>cut off")
def test_split_reasoning_parts_put_together_are_the_text(text: str) -> None:
    reasoning, rest = split_reasoning(text)

    assert (reasoning or "") + rest == text
    assert reasoning is None or "think>" in reasoning


pieces = st.lists(st.sampled_from(["<think>", "</think>", "a", " ", "\n", "🏔️"]), max_size=8).map("".join)


@given(pieces)
def test_split_reasoning_of_any_tags_is_lawful_too(text: str) -> None:
    reasoning, rest = split_reasoning(text)

    assert (reasoning or "") + rest == text
    if text.lstrip().startswith("<think>"):
        assert reasoning is not None
        assert reasoning.rstrip().endswith("</think>") or rest == ""


@pytest.mark.parametrize(
    ("text", "reasoning", "rest"),
    [
        ("<think>why</think>\n\nbecause", "<think>why</think>\n\n", "because"),
        ("why</think>because", "why</think>", "because"),
        ("<think>cut", "<think>cut", ""),
        ("plain", None, "plain"),
        ("", None, ""),
        ("see <think>x</think> y", None, "see <think>x</think> y"),
    ],
)
def test_split_reasoning_a_leading_block_only(text: str, reasoning: str | None, rest: str) -> None:
    assert split_reasoning(text) == (reasoning, rest)


# The stage


def rows_of(
    engine: FakeEngine, prompts: list[Prompt], journal: Path, rollouts: Rollouts | None = None
) -> list[Rollout]:
    async def sleep(_: float) -> None:
        return None

    async def main() -> list[Rollout]:
        async with http_client(8, 10.0) as client:
            client_ = Engine(client, (engine.url,), Wire("fake-model"), 8, sleep=sleep)
            settings = rollouts or Rollouts(max_tokens=400)
            planned = [one for prompt in prompts for one in plan(prompt, settings, 7, 0)]
            desk = Desk(Journal(journal), lambda: None)
            return await roll_out(planned, Policy(client_, "fake-model", "digest"), desk)

    return asyncio.run(main())


def test_roll_out_every_planned_answer_is_a_row_in_the_order_of_the_plan(
    fake_engine: FakeEngine, tmp_path: Path
) -> None:
    prompts = [a_prompt("one [ends]"), a_prompt("two [ends]")]

    rows = rows_of(fake_engine, prompts, tmp_path / "j")

    assert [(row.prompt_id, row.slot) for row in rows] == [(p.prompt_id, slot) for p in prompts for slot in SIX]
    assert {(row.model, row.model_digest, row.error, row.loop) for row in rows} == {
        ("fake-model", "digest", None, Loop.CLEAN)
    }
    assert all("".join(map(chr, (row.token_ids or ())[:-1])) == row.text for row in rows)
    assert all("".join(map(chr, row.prompt_token_ids or ())).startswith("<user>") for row in rows)


def test_roll_out_loop_is_stopped_by_the_engine_and_seen(fake_engine: FakeEngine, tmp_path: Path) -> None:
    for row in rows_of(fake_engine, [a_prompt("Tell me [loops]")], tmp_path / "j"):
        assert (row.finish_reason, row.loop, row.loop_rule) == ("repetition", Loop.HARD, LoopRule.EXACT)
        assert row.loop_onset is not None
        assert row.loop_onset == row.loop_onset_token  # the fake's tokens are characters
        assert row.loop_period in [len(unit) for unit in UNITS]


def test_roll_out_loop_that_nobody_stops_is_seen_all_the_same(fake_engine: FakeEngine, tmp_path: Path) -> None:
    settings = Rollouts(max_tokens=400, repetition_detection=None)

    rows = rows_of(fake_engine, [a_prompt("Tell me [loops]")], tmp_path / "j", settings)

    assert {(row.finish_reason, row.loop) for row in rows} == {("length", Loop.HARD)}


def test_roll_out_thoughts_are_split_from_the_answer(fake_engine: FakeEngine, tmp_path: Path) -> None:
    for row in rows_of(fake_engine, [a_prompt("Why? [thinks]")], tmp_path / "j"):
        assert row.reasoning is not None
        assert row.reasoning.startswith("<think>")
        assert row.reasoning.endswith("</think>\n\n")
        assert row.answer == "".join(map(chr, (row.token_ids or ())[:-1]))


def test_roll_out_thoughts_that_the_server_split_off_get_their_tags_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    (one, *_) = plan(PROMPT, Rollouts(), 7, 0)
    journal.append(Completion(one.rollout_id, "because", "stop", reasoning="why"))
    with FakeEngine() as engine:
        (row,) = [row for row in rows_of(engine, [PROMPT], tmp_path / "j") if row.slot == "greedy"]

    assert (row.reasoning, row.text) == ("<think>why</think>", "because")


def greedy(seen: Seen) -> bool:
    return seen.is_question and seen.body["temperature"] == 0


def test_roll_out_answer_that_failed_is_a_row_with_a_reason_and_nothing_else(
    fake_engine: FakeEngine, tmp_path: Path
) -> None:
    fake_engine.faults = whenever(greedy, error(400, "no greed"))

    failed, *others = rows_of(fake_engine, [a_prompt("Hi [ends]")], tmp_path / "j")

    assert failed.slot == "greedy"
    assert "no greed" in (failed.error or "")
    nothing = (
        failed.text,
        failed.reasoning,
        failed.finish_reason,
        failed.token_ids,
        failed.prompt_token_ids,
        failed.loop,
    )
    assert set(nothing) == {None}
    assert all(row.text and row.error is None for row in others)


def test_roll_out_failed_answer_is_asked_for_again_the_next_time(fake_engine: FakeEngine, tmp_path: Path) -> None:
    """A failure is no answer: until the shard is closed it can still come."""
    fake_engine.faults = whenever(greedy, error(400, "no greed"))
    rows_of(fake_engine, [a_prompt("Hi [ends]")], tmp_path / "j")
    fake_engine.faults = no_faults
    fake_engine.seen.clear()

    rows = rows_of(fake_engine, [a_prompt("Hi [ends]")], tmp_path / "j")

    assert [seen.body["temperature"] for seen in fake_engine.seen] == [0.0]
    assert [row.error for row in rows] == [None] * 6
