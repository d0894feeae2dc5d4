"""What a loop looks like, what only resembles one, and how a looped answer is cut."""

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.loops import detect
from schemas.rows import Loop, LoopRule
from tests.loop_texts import CLOSING, FACT, LETTERS, PROSE, SENTENCE, numbered

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
DIGITS = "".join(random.Random(4).choices(string.digits, k=10_000))
ENDS = ("stop", "length", "repetition")

# --- what a loop looks like ---


def test_exact_sentence_until_the_cap_is_hard_with_its_evidence() -> None:
    lead = "The value is 7, so we are done.\n"
    evidence = detect(lead + SENTENCE * 20, "length")
    assert (evidence.kind, evidence.rule) == (Loop.HARD, LoopRule.EXACT)
    assert (evidence.onset, evidence.period, evidence.repeats) == (len(lead) + 30, 30, 20)
    assert evidence.share == pytest.approx(570 / 632)


def test_exact_copy_cut_anywhere_is_hard() -> None:
    for cut in range(30):
        evidence = detect("Well. " + SENTENCE * 9 + SENTENCE[:cut], "length")
        assert (evidence.kind, evidence.onset, evidence.repeats) == (Loop.HARD, 36 - 2, 9 + (cut + 2) / 30)


@pytest.mark.parametrize(("copies", "kind"), [(7, Loop.CLEAN), (8, Loop.HARD)], ids=["w under 192", "w from 192"])
def test_exact_redundancy_decides(copies: int, kind: Loop) -> None:
    assert detect(("x" * 27 + "\n") * copies, "length").kind is kind


@pytest.mark.parametrize(("odd", "kind"), [(64, Loop.HARD), (65, Loop.SOFT)])
def test_exact_slack_is_64_bytes(odd: int, kind: Loop) -> None:
    assert detect(SENTENCE * 20 + LETTERS[:odd], "length").kind is kind


@pytest.mark.parametrize(("lead", "kind"), [(9_000, Loop.HARD), (10_000, Loop.CLEAN)])
def test_exact_unit_without_letters_needs_a_tenth_of_the_text(lead: int, kind: Loop) -> None:
    assert detect(DIGITS[:lead] + "3" * 1050, "length").kind is kind


def test_exact_engine_stop_needs_three_copies_and_no_slack() -> None:
    assert detect(PROSE + " over and over" * 3, "repetition").kind is Loop.HARD
    assert detect(PROSE + " over and over" * 3 + "!", "repetition").kind is Loop.CLEAN
    assert detect(PROSE + " over and over" * 3 + "\ufffd", "repetition").kind is Loop.HARD
    assert detect(PROSE + " no" * 6, "repetition").kind is Loop.CLEAN


def test_exact_two_loops_in_a_row_is_the_last() -> None:
    evidence = detect("Once more! " * 40 + SENTENCE * 30, "length")
    assert (evidence.period, evidence.onset) == (30, 440 + 30 - 1)  # the blank before it belongs to it


def test_exact_late_onset_is_found_to_the_character() -> None:
    lead = "".join(f"{word}; \n" for word in random.Random(3).sample(range(10**6), 20_000))
    evidence = detect(lead + SENTENCE * 10, "length")
    assert (evidence.kind, evidence.onset) == (Loop.HARD, len(lead) + 30)


def test_exact_onset_at_31900_of_32000_tokens_is_found_to_the_token() -> None:
    lead = "".join(f"{word}; \n" for word in random.Random(3).sample(range(10**6), 31_880))
    evidence = detect(lead + PROSE[:60] * 6, "length", token_ids=[*range(31_880), *list(range(40_000, 40_020)) * 6])
    assert evidence.onset == len(lead) + 60
    assert evidence.onset_token == 31_900


@pytest.mark.parametrize(
    "unit",
    [
        "让我再检查一遍这个问题的条件。",
        "دعني أتحقق من القيمة مرة أخرى. ",
        "もう一度確認します。",
        "다시 확인하겠습니다. ",
        "é\r\nà\n ",
        "😀👩‍👩‍👧 ha ",
    ],
)
def test_exact_any_script_has_its_onset_at_a_character(unit: str) -> None:
    lead = "1) ✓\r\n"
    evidence = detect(lead + unit * 60, "length")
    assert (evidence.kind, evidence.period) == (Loop.HARD, len(unit.encode()))
    assert evidence.onset == len(lead + unit)


def test_exact_run_that_begins_inside_a_character_has_its_onset_after_it() -> None:
    text = "ā" + "Łā" * 200  # both end in the same byte
    evidence = detect("ɁŁ"[:1] + text, "length")
    assert evidence.onset is not None
    assert (evidence.kind, evidence.period) == (Loop.HARD, 4)
    assert (text * 2)[evidence.onset - 1] in "Łā"


@pytest.mark.parametrize("unit", [" ", "\n", "\t\r\n", "😀", "0", "\ufffd"])
def test_exact_flood_without_letters_is_hard(unit: str) -> None:
    assert detect(unit * 4000, "length").kind is Loop.HARD


def test_exact_lone_surrogates_are_read_as_they_are() -> None:
    evidence = detect("\ud800 again " * 50, "length")
    assert (evidence.kind, evidence.onset) == (Loop.HARD, 8)


def test_finished_copies_to_the_end_are_soft() -> None:
    evidence = detect("Well. " + SENTENCE * 40, "stop")
    assert (evidence.kind, evidence.rule, evidence.period) == (Loop.SOFT, LoopRule.FINISHED, 30)


def test_finished_loop_while_thinking_that_ends_is_soft() -> None:
    assert detect("<think>" + SENTENCE * 100 + "</think>The value is 7.", "stop").kind is Loop.SOFT


def test_finished_list_that_differs_by_its_number_is_soft() -> None:
    lead = "Here are **facts**:\n1. Sharks are old.\n2. Whales sing.\n"
    text = lead + numbered(3, 20, FACT) + CLOSING
    evidence = detect(text, "stop")
    assert (evidence.kind, evidence.rule) == (Loop.SOFT, LoopRule.FINISHED)
    assert evidence.onset is not None
    assert evidence.period is not None
    assert text[evidence.onset :].startswith(".\n4. The octopus")  # the stop before "3." belongs to the run
    assert evidence.period == len(f"4. {FACT}\n")


def test_finished_number_said_twice_in_an_item_counts_once() -> None:
    items = "".join(f"{number}. Fact {number}: {FACT}\n" for number in range(1, 19))
    assert detect(items + CLOSING, "stop").kind is Loop.SOFT


def test_finished_white_space_and_case_may_differ() -> None:
    items = "".join((FACT.upper() if number % 2 else FACT) + "\n" * (1 + number % 3) for number in range(20))
    assert detect(items, "stop").kind is Loop.SOFT


def test_finished_closing_paragraph_may_take_512_bytes() -> None:
    assert detect(SENTENCE * 60 + "-" * 512, "stop").rule is LoopRule.FINISHED
    assert detect(SENTENCE * 60 + "-" * 513, "stop").rule is LoopRule.INTERIOR


@given(st.text(max_size=400), st.sampled_from(ENDS), st.text(max_size=40))
def test_detect_any_short_text_never_fails_and_points_into_it(text: str, finish_reason: str, prompt: str) -> None:
    evidence = detect(text, finish_reason, prompt=prompt)
    assert evidence.onset is None or 0 < evidence.onset < len(text)


@given(TEXT.filter(lambda unit: len(unit) > 3), st.integers(110, 140), TEXT)
def test_exact_any_unit_until_the_cap_points_at_a_second_copy(unit: str, copies: int, lead: str) -> None:
    text = lead + unit * copies
    evidence = detect(text, "length")
    if any(map(str.isalpha, unit)):
        assert evidence.kind is Loop.HARD
    if evidence.onset is not None:
        assert evidence.period is not None
        raw, onset = text.encode(), len(text[: evidence.onset].encode())
        assert raw[onset:] == raw[onset - evidence.period : -evidence.period]
        assert len(unit.encode()) % evidence.period == 0
        assert onset - evidence.period <= len(lead.encode()) + 3
