"""What a loop looks like, what only resembles one, and how a looped answer is cut."""

import base64
import json
import os
import random
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.loops import asked_for, detect, masked, onset_token, trim
from schemas.rows import Loop, LoopEvidence, LoopRule

SENTENCE = "I will check the value again. "
LETTERS = "".join(random.Random(7).choices(string.ascii_lowercase, k=3000))
PROSE = " ".join(LETTERS[at : at + 5] for at in range(0, len(LETTERS), 5))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
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


@pytest.mark.parametrize(("odd", "kind"), [(64, Loop.HARD), (65, Loop.CLEAN)])
def test_exact_slack_is_64_bytes(odd: int, kind: Loop) -> None:
    assert detect(SENTENCE * 20 + "0" * odd, "length").kind is kind


@pytest.mark.parametrize(("lead", "kind"), [(9_000, Loop.HARD), (10_000, Loop.CLEAN)])
def test_exact_unit_without_letters_needs_a_tenth_of_the_text(lead: int, kind: Loop) -> None:
    assert detect((PROSE * 3)[:lead] + "3" * 1050, "length").kind is kind


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


def numbered(first: int, last: int, item: str) -> str:
    return "".join(f"{number}. {item}\n" for number in range(first, last + 1))


FACT = "The octopus has three hearts, blue blood and a mind in each of its arms."
CLOSING = "\nThese facts show how wonderful the ocean is. Let me know if you would like to hear more!"


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
    assert detect(SENTENCE * 60 + "-" * 512, "stop").kind is Loop.SOFT
    assert detect(SENTENCE * 60 + "-" * 513, "stop").kind is Loop.CLEAN


# --- what only resembles one ---


def verses() -> str:
    lines = PROSE.split(" ")
    refrain = "\nOh the river runs home, oh the river runs.\n"
    return refrain.join(" ".join(lines[at : at + 8]) for at in range(0, 160, 8))


def code() -> str:
    return "".join(f"    if name == {word!r}:\n        return {word.upper()}\n" for word in PROSE.split(" ")[:80])


RESEMBLING = {
    "nothing": "",
    "a word": "No.",
    "prose": PROSE,
    "multiplication table": "".join(f"{a} x {b} = {a * b}\n" for a in range(1, 13) for b in range(1, 13)),
    "markdown table": "| name | size |\n|---|---|\n" + "".join(f"| {w} | 5 |\n" for w in PROSE.split(" ")[:90]),
    "refrain": verses(),
    "code": code(),
    "base64": base64.b64encode(random.Random(1).randbytes(3000)).decode(),
    "list": "".join(f"{n}. {w} {w[::-1]}\n" for n, w in enumerate(PROSE.split(" ")[:150])),
    "identity matrix": "\n".join(" ".join("01"[a == b] for b in range(20)) for a in range(20)),
    "separator": PROSE[:800] + "-" * 80,
    "laughter": PROSE[:800] + " ha" * 12 + PROSE[800:1600],
    "bottles": "".join(f"{n} bottles on the wall. Take one down, {n - 1} bottles.\n" for n in range(99, 0, -1)),
    "chinese": "".join(random.Random(5).choices([chr(c) for c in range(0x4E00, 0x5000)], k=1500)),
    "arabic": "".join(random.Random(6).choices("ابتثجحخدذرزسش ", k=2500)),
    "mixed line ends": "".join(w + ("\n", "\r\n", "\r")[n % 3] for n, w in enumerate(PROSE.split(" "))),
}


@pytest.mark.parametrize("name", RESEMBLING)
@pytest.mark.parametrize("finish_reason", ["stop", "length"])
def test_detect_honest_text_is_clean(name: str, finish_reason: str) -> None:
    assert detect(RESEMBLING[name], finish_reason) == LoopEvidence()


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


def shared_cases() -> list[dict[str, str]]:
    shared = Path(os.environ.get("PREFACTORY_SHARED") or Path(__file__).parents[3] / "shared")
    path = shared / "loops" / "cases.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


WAITING = {"P10": "template", "P14": "near-duplicate"}  # cases of rules that are not built


def test_detect_shared_cases_are_as_expected() -> None:
    cases = shared_cases()
    if not cases:
        pytest.skip("the shared cases are not here: set PREFACTORY_SHARED to the folder that holds loops/cases.jsonl")
    for case in cases:
        kind = detect(case["text"], case["finish_reason"], prompt=case.get("prompt", "")).kind
        if case["id"] in WAITING:
            assert kind is Loop.CLEAN, f"{case['id']} no longer waits for {WAITING[case['id']]}"
        else:
            assert kind in case["expected"], case["id"]


# --- what the prompt asked for ---

LINES = {
    "en": ('Write "I will be good." 100 times.', "I will be good.\n"),
    "en in words": ("Please repeat the word banana a thousand times, with commas", "banana, "),
    "ar": ("اكتب «لن أتأخر عن الدرس» \u0661\u0660\u0660 مرة", "لن أتأخر عن الدرس\n"),
    "zh": ("请把“我会好好学习”写一百遍。", "我会好好学习。\n"),
    "fr": ("Écris « je serai sage » cent fois.", "Je serai sage.\n"),
    "de": ("Schreibe „Ich werde brav sein“ 100-mal.", "Ich werde brav sein\n"),
    "ja": ("「遅刻しません」と100回書いてください。", "遅刻しません\n"),
    "ko": ("'지각하지 않겠습니다'를 100번 써 주세요.", "지각하지 않겠습니다\n"),
    "es": ("Escribe «no hablaré en clase» 1.000 veces.", "No hablaré en clase.\n"),
    "pt": ('Escreva "vou estudar mais" cem vezes.', "Vou estudar mais.\n"),
    "it": ("Scrivi «non parlerò in classe» 100 volte.", "Non parlerò in classe.\n"),
}


@pytest.mark.parametrize("language", LINES)
def test_exact_repetition_that_the_prompt_asks_for_is_soft(language: str) -> None:
    prompt, line = LINES[language]
    assert detect("…\n" + line * 80, "length", prompt=prompt).kind is Loop.SOFT
    assert detect("…\n" + line * 80, "length", prompt="Tell me a story.").kind is Loop.HARD


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "Write a poem. The poem should praise the sun.",
        "Repeat 'I will check the value again' 3 times.",  # asked for 3, said 80
        "Write a program that prints hello 1000 times.",  # not this sentence
        "You told me 100 times: I will check the value again.",  # no request
    ],
)
def test_exact_repetition_that_the_prompt_does_not_ask_for_stays_hard(prompt: str) -> None:
    assert detect(SENTENCE * 80, "length", prompt=prompt).kind is Loop.HARD


def test_exact_prompt_that_holds_the_unit_twice_makes_it_soft() -> None:
    once = "Continue: I will check the value again. "
    assert detect(SENTENCE * 80, "length", prompt=once).kind is Loop.HARD
    assert detect(SENTENCE * 80, "length", prompt=once + "So?\nI will check the value again.").kind is Loop.SOFT
    assert detect(SENTENCE[7:] + SENTENCE * 80, "length", prompt=once + SENTENCE).kind is Loop.SOFT


def test_asked_for_short_unit_needs_a_row_of_sixteen() -> None:
    assert not asked_for("the cat and the dog and the the bird", "the ", 500)
    assert asked_for("go on: the the the the the the", "the ", 500)


# --- the masked text ---


@given(st.text(st.characters() | st.sampled_from("0123 \n\tİß"), max_size=60))
def test_masked_text_is_a_fixed_point_and_never_longer(text: str) -> None:
    assert len(masked(text)) <= len(text)
    assert masked(masked(text)) == masked(text)


def test_masked_digits_case_and_white_space_are_folded() -> None:
    assert masked("12. The  Sea\r\n\n٣ İst 4.50") == "0. the sea 0 İst 0.0"


# --- token ids and the cut ---

PIECES = ["a", "b", "c", "ab", "bc", "abc", "ca", "é", "让我", "让", "我", " a", " ", "\n", "aa"]
BYTES = [bytes([byte]) for byte in range(256)]
VOCABULARY = BYTES + [piece.encode() for piece in PIECES]


def tokenised(raw: bytes, pieces: int = len(VOCABULARY)) -> list[int]:
    """Greedy, longest first; `pieces` bounds the vocabulary, 256 being byte fallback alone."""
    ids: list[int] = []
    while raw:
        token = max((t for t in range(pieces) if raw.startswith(VOCABULARY[t])), key=lambda t: len(VOCABULARY[t]))
        ids.append(token)
        raw = raw[len(VOCABULARY[token]) :]
    return ids


def spelled(ids: tuple[int, ...] | list[int]) -> bytes:
    return b"".join(VOCABULARY[token] for token in ids)


UNITS = st.lists(st.sampled_from(PIECES), min_size=8, max_size=14).map("".join)


@st.composite
def looped(draw: st.DrawFn) -> tuple[str, list[int]]:
    """A text that loops to its end, with ids whose first copy may be tokenised otherwise."""
    unit = draw(UNITS).encode()
    lead = "".join(draw(st.lists(st.sampled_from(["d", "让", "é", "!", " ", "x"]), max_size=12))).encode()
    ids = tokenised(lead + unit, draw(st.sampled_from((256, len(VOCABULARY)))))
    ids += tokenised(unit) * draw(st.integers(40, 60))
    while True:  # the cap may fall on any token, the text is whole
        ids = ids[: len(ids) - draw(st.integers(0, 12))]
        try:
            return spelled(ids).decode(), ids
        except UnicodeDecodeError:  # pragma: no cover
            continue


@given(looped())
def test_onset_token_never_lies_before_the_onset_nor_three_copies_after(case: tuple[str, list[int]]) -> None:
    text, ids = case
    evidence = detect(text, "length", token_ids=ids)
    if evidence.kind is Loop.CLEAN or (evidence.period or 0) < 8:
        return  # where one token spells many copies, its first copies may be too many to be sure
    assert evidence.onset is not None
    assert evidence.period is not None
    assert evidence.onset_token is not None
    assert evidence.onset_token == onset_token(ids, evidence)
    onset, place = len(text[: evidence.onset].encode()), len(spelled(ids[: evidence.onset_token]))
    assert onset - 3 <= place <= onset + 3 * evidence.period


@given(looped(), st.integers(1, 50))
def test_trim_ids_spell_the_trimmed_text(case: tuple[str, list[int]], keep: int) -> None:
    text, ids = case
    evidence = detect(text, "length", token_ids=ids)
    kept, kept_ids = trim(text, ids, evidence, keep)
    assert text.startswith(kept)
    if kept_ids is not None:
        assert tuple(ids[: len(kept_ids)]) == kept_ids
        assert spelled(kept_ids).decode() == kept


@given(looped(), st.integers(1, 50))
def test_trim_without_ids_keeps_exactly_the_copies(case: tuple[str, list[int]], keep: int) -> None:
    text, _ = case
    evidence = detect(text, "length")
    kept, none = trim(text, None, evidence, keep)
    assert none is None
    if evidence.onset is not None and evidence.period is not None:
        onset = len(text[: evidence.onset].encode())
        assert len(kept.encode()) == min(onset + keep * evidence.period, len(text.encode()))


def test_trim_equal_tokenisation_keeps_the_copies_and_less_than_one_more() -> None:
    unit = "abc让我 bca é\n"
    text = "x! " + unit * 40 + unit[:5]
    ids = tokenised(text.encode())
    evidence = detect(text, "length", token_ids=ids)
    kept, kept_ids = trim(text, ids, evidence, 2)
    assert kept_ids is not None
    assert evidence.onset_token is not None
    assert text.startswith(kept)
    assert "x! " + unit * 4 > kept >= "x! " + unit * 3
    assert 0 <= len(kept_ids) - evidence.onset_token - 2 * len(tokenised(unit.encode())) < len(tokenised(unit.encode()))


def test_trim_copy_of_ids_that_holds_several_of_the_text_is_cut_alike() -> None:
    ids = tokenised(b"b" + b"aa" * 300)
    text = spelled(ids).decode()
    kept, kept_ids = trim(text, ids, detect(text, "length", token_ids=ids), 3)
    assert kept_ids is not None
    assert spelled(kept_ids).decode() == kept
    assert 1 + 1 + 3 <= len(kept) <= 1 + 1 + 3 + 2


def test_trim_ids_without_a_clean_end_are_none() -> None:
    text = "x" + "abc让我 bca\n" * 40
    ids = tokenised(text.encode())
    evidence = detect(text + "x!", "length", token_ids=[*ids, 120, 33])
    assert evidence.onset_token is not None
    assert trim(text + "x!", [*ids, 120, 33], evidence, 2) == ("x" + "abc让我 bca\n" * 3, None)


def test_trim_ids_that_begin_with_reasoning_still_spell_the_trimmed_text() -> None:
    answer, thought = "x" + "abc让我 bca\n" * 40, "<think>ab</think>"
    ids = tokenised((thought + answer).encode())
    kept, kept_ids = trim(answer, ids, detect(answer, "length", token_ids=ids), 2)
    assert kept_ids is not None
    assert spelled(kept_ids).decode() == thought + kept


def test_trim_unrelated_ids_are_none() -> None:
    text = SENTENCE * 40
    ids = list(range(300))
    evidence = detect(text, "length", token_ids=ids)
    assert evidence.onset_token is None
    assert trim(text, ids, evidence, 2) == (SENTENCE * 3, None)


def test_trim_fewer_copies_than_kept_or_no_loop_changes_nothing() -> None:
    text = SENTENCE * 10
    assert trim(text, [1, 2], detect(text, "length"), 9) == (text, (1, 2))
    assert trim(text, [1, 2], LoopEvidence(), 1) == (text, (1, 2))
    assert trim(text, None, LoopEvidence(), 1) == (text, None)


def test_trim_cut_past_the_run_falls_on_a_character() -> None:
    text = SENTENCE * 10 + "让我再检查一遍"
    for keep in range(8, 11):
        kept, _ = trim(text, None, detect(text, "length"), keep)
        assert text.startswith(kept)
        assert len(kept) >= 270


def test_trim_list_that_differs_by_its_number_is_cut_in_the_text_alone() -> None:
    text = numbered(9, 30, FACT) + CLOSING
    kept, ids = trim(text, [7] * 400, detect(text, "stop", token_ids=[7] * 400), 2)
    assert ids is None
    assert text.startswith(kept)
    assert kept.count(FACT) == 3
