"""Where a loop begins in the ids, and how a looped answer is cut."""

from hypothesis import given
from hypothesis import strategies as st

from factory.detector.trimming import onset_token, trim
from factory.loops import detect
from schemas.rows import Loop, LoopEvidence
from tests.loop_texts import CLOSING, FACT, SENTENCE, numbered

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
