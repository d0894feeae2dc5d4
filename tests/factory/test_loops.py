"""What a loop looks like, what only resembles one, and how a looped answer is cut."""

import random
import string

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.loops import detect, detect_batch
from schemas.rows import Loop, LoopRule
from schemas.tables import LOOPS
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


# --- the rules at their bounds ---


@pytest.mark.parametrize(("share", "kind"), [(0.56, Loop.HARD), (0.45, Loop.SOFT), (0.15, Loop.CLEAN)])
def test_template_share_decides(share: float, kind: Loop) -> None:
    loop = numbered(10, 25, FACT)
    text = (DIGITS + LETTERS)[: round(len(loop) * (1 - share) / share)] + loop
    assert len(text) >= len(loop)
    evidence = detect("".join(random.Random(8).choices(string.ascii_letters, k=len(text) - len(loop))) + loop, "length")
    assert evidence.kind is kind


def test_template_evidence_points_at_the_second_item_as_it_stands() -> None:
    lead, loop = "Here they are, in order: ", "".join(f"{FACT} That was number {n}.\n" for n in range(95, 130))
    evidence = detect(lead + loop, "length", token_ids=range(40))
    assert (evidence.kind, evidence.rule) == (Loop.HARD, LoopRule.TEMPLATE)
    assert evidence.repeats == pytest.approx(35, abs=0.1)
    assert evidence.onset is not None
    assert (evidence.period, evidence.onset_token) == (len(FACT) + 21, None)
    assert (
        lead + loop == (lead + loop)[: evidence.onset] + (evidence.unit or "!") + (lead + loop)[evidence.onset + 93 :]
    )


def test_near_duplicate_evidence_counts_what_was_said_before() -> None:
    blocks = [LETTERS[at : at + 400] for at in (0, 400, 800)]
    text = "".join(blocks[n] for n in (0, 1, 2, 1, 0, 2, 2, 0, 1, 2, 0, 1))
    evidence = detect(text, "length")
    assert (evidence.kind, evidence.rule, evidence.onset) == (Loop.HARD, LoopRule.NEAR_DUPLICATE, 1200)
    assert evidence.period in (400, 800, 1200, 1600)
    assert evidence.share is not None
    assert 0.6 < evidence.share < 0.75


def drifting(unit: str) -> str:
    return "".join(unit + PROSE[6 * copy : 6 * copy + 6] for copy in range(8))


def test_near_duplicate_needs_a_quarter_of_the_text_in_letters() -> None:
    assert detect(DIGITS[:4500] + drifting(LETTERS[:400]), "length").rule is LoopRule.NEAR_DUPLICATE
    assert detect(DIGITS[:5300] + drifting(LETTERS[:400]), "length").kind is Loop.CLEAN
    assert detect(drifting(DIGITS[:400]), "length").kind is Loop.CLEAN


@pytest.mark.parametrize("finish_reason", ["stop", "length"])
@pytest.mark.parametrize(("copies", "kind"), [(17, Loop.CLEAN), (19, Loop.SOFT)])
def test_interior_redundancy_decides(copies: int, kind: Loop, finish_reason: str) -> None:
    evidence = detect(LETTERS[:300] + SENTENCE * copies + LETTERS[300:1300], finish_reason, token_ids=range(9))
    assert (evidence.kind, evidence.rule) == (kind, LoopRule.INTERIOR if kind is Loop.SOFT else None)


def test_interior_evidence_has_its_onset_in_text_and_ids() -> None:
    ids = [*range(100, 130), *([1, 2, 3, 4, 5, 6] * 40), *range(200, 260)]
    evidence = detect(LETTERS[:300] + SENTENCE * 40 + LETTERS[300:1300], "length", token_ids=ids)
    assert (evidence.onset, evidence.onset_token, evidence.period, evidence.repeats) == (330, 36, 30, 40)
    assert evidence.unit == SENTENCE


# --- a batch ---


@given(
    st.lists(
        st.tuples(
            st.none() | st.text(max_size=40).map(lambda unit: unit * 60) | st.just(numbered(1, 30, FACT)),
            st.sampled_from(ENDS),
            st.none() | st.just("Say the word over and over."),
            st.none() | st.lists(st.integers(0, 5), max_size=4).map(lambda ids: ids * 20),
        ),
        max_size=6,
    ),
    st.sampled_from(
        (pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.dictionary(pa.int32(), pa.string()))
    ),
)
def test_detect_batch_every_row_has_the_evidence_of_its_answer(
    rows: list[tuple[str | None, str, str | None, list[int] | None]], kind: pa.DataType
) -> None:
    texts, finishes, prompts, ids = map(list, zip(*rows, strict=True)) if rows else ([], [], [], [])
    batch = pa.RecordBatch.from_arrays(
        [
            pa.array(texts, pa.string()).cast(kind),
            pa.array(finishes, pa.string()),
            pa.array(prompts, pa.string()),
            pa.array(ids, pa.list_(pa.int32())),
        ],
        ["text", "finish_reason", "prompt", "token_ids"],
    )
    found = detect_batch(batch)
    assert found.schema.equals(LOOPS, check_metadata=True)
    for (text, finish, prompt, own), columns in zip(rows, found.to_pylist(), strict=True):
        if text is None:
            assert set(columns.values()) == {None}
            continue
        evidence = detect(text, finish, prompt=prompt or "", token_ids=own)
        assert list(columns.values()) == [
            evidence.kind,
            evidence.rule,
            evidence.onset,
            evidence.onset_token,
            evidence.period,
            evidence.repeats,
            evidence.share,
        ]


def test_detect_batch_slice_is_read_from_its_own_place() -> None:
    batch = pa.RecordBatch.from_pydict(
        {"text": ["no", SENTENCE * 40, "no"], "finish_reason": ["stop", "length", "stop"]}
    )
    assert detect_batch(batch.slice(1, 2)).column("loop").to_pylist() == ["hard", "clean"]


def test_detect_batch_unknown_end_is_read_as_the_cap() -> None:
    batch = pa.RecordBatch.from_pydict({"text": [SENTENCE * 40], "finish_reason": pa.nulls(1, pa.string())})
    assert detect_batch(batch).column("loop").to_pylist() == ["hard"]


def test_detect_batch_bytes_cut_inside_a_character_count_as_one() -> None:
    raw = "好".encode() + "再来一次，".encode() * 60 + "再".encode()[:2]
    batch = pa.RecordBatch.from_pydict({"text": pa.array([raw], pa.binary()), "finish_reason": ["length"]})
    assert (
        detect_batch(batch).to_pylist()[0]
        == detect_batch(
            pa.RecordBatch.from_pydict({"text": [raw.decode(errors="replace")], "finish_reason": ["length"]})
        ).to_pylist()[0]
    )


def test_detect_batch_without_a_text_column_says_so() -> None:
    with pytest.raises(KeyError, match="text"):
        detect_batch(pa.RecordBatch.from_pydict({"finish_reason": ["stop"]}))
