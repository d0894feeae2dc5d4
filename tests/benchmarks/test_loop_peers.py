"""Each peer against a clear loop and clear prose, and each of our implementations against its rule read word by word."""

import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.loop_peers import (
    PEERS,
    Answer,
    Rule,
    Score,
    best_threshold,
    caught_by_antidoom,
    compression_ratio,
    one_ngram_often,
    peers,
    repeated_ngrams,
)

PROSE = """A bridge carries a road over something that would stop it. The oldest were trees that fell across streams;
somebody noticed, and felled the next one on purpose. Romans built arches, because stone bears weight pressed together
and fails when it is pulled apart. Iron changed what was possible: in 1779 the first arch of cast iron stood over the
Severn, and within a century cables held up spans that no mason could have dreamed of. Today engineers choose between
beams, trusses, arches, cables and mixtures of these, according to soil, traffic, wind, money and taste. Every choice
trades one kind of trouble against another, which may be why old bridges look so different from each other."""
UNIT = "I will now check the result once more to be sure. "


def answer(text: str, finish_reason: str = "length") -> Answer:
    """With one token a word, which keeps its space: what is repeated as text is repeated as tokens."""
    ids = tuple(zlib.crc32(word.encode()) for word in text.split(" "))
    return Answer(text, ids, finish_reason)


LOOP, CLEAN = answer(PROSE + UNIT * 60), answer(PROSE, "stop")
KNOWN = {peer.name: peer for peer in PEERS}
RULES = [peer for peer in PEERS if isinstance(peer, Rule) and peer.packages != ("vllm",)]
SCORES = [peer for peer in PEERS if isinstance(peer, Score)]


def name_of(peer: Rule | Score) -> str:
    return peer.name


def installed(peer: Rule | Score) -> None:
    if reason := dict(peers()[1]).get(peer.name):
        pytest.skip(f"{peer.name}: {reason}")


@pytest.mark.filterwarnings("ignore")  # what spaCy and datatrove warn of is theirs
@pytest.mark.parametrize("peer", RULES, ids=name_of)
def test_rule_flags_the_loop_and_not_the_prose(peer: Rule) -> None:
    installed(peer)
    assert (peer.flags(LOOP), peer.flags(CLEAN)) == (True, False)


@pytest.mark.parametrize("peer", SCORES, ids=name_of)
def test_score_is_higher_for_the_loop_and_a_threshold_between_them_tells_them_apart(peer: Score) -> None:
    high, low = peer.score(LOOP), peer.score(CLEAN)
    calibrated = replace(peer, threshold=best_threshold([high, low], [True, False]))
    assert high > low
    assert (calibrated.flags(LOOP), calibrated.flags(CLEAN)) == (True, False)


@pytest.mark.parametrize("peer", SCORES, ids=name_of)
def test_score_without_a_threshold_flags_nothing_but_says_so(peer: Score) -> None:
    with pytest.raises(ValueError, match="calibrate"):
        peer.flags(LOOP)


def test_peer_that_reads_tokens_refuses_an_answer_without_them() -> None:
    with pytest.raises(ValueError, match="token ids"):
        KNOWN["30-gram 20 times"].flags(Answer(PROSE, (), "stop"))


@pytest.mark.parametrize("peer", [peer for peer in PEERS if not peer.packages], ids=name_of)
def test_empty_text_is_no_loop_to_a_peer_of_ours(peer: Rule | Score) -> None:
    empty = Answer("", (), "stop")
    assert not (peer.score(empty) if isinstance(peer, Score) else peer.flags(empty))


def test_peers_are_told_apart_by_name_and_split_by_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.loop_peers.find_spec", lambda _: None)
    present, missing = peers()
    assert len(KNOWN) == len(PEERS) == len(present) + len(missing)
    assert {name for name, _ in missing} == {peer.name for peer in PEERS if peer.packages}
    assert dict(missing)["Gopher"] == "not installed: datatrove, regex, spacy"
    assert not any(peer.packages for peer in present)


small_token_ids = st.integers(1, 3).flatmap(
    lambda size: st.lists(st.integers(0, 2), min_size=size, max_size=size).flatmap(
        lambda unit: st.tuples(
            st.lists(st.integers(0, 2), max_size=4), st.integers(0, 30), st.lists(st.integers(0, 2), max_size=4)
        ).map(lambda parts: (*parts[0], *unit * parts[1], *parts[2]))
    )
)


@given(small_token_ids, st.integers(1, 40), st.integers(1, 25))
def test_one_ngram_often_counts_every_place_where_it_begins(ids: tuple[int, ...], size: int, times: int) -> None:
    def places(start: int) -> int:
        gram = ids[start : start + size]
        return sum(ids[other : other + size] == gram for other in range(len(ids) - size + 1))

    expected = any(places(start) >= times for start in range(len(ids) - size + 1))
    assert one_ngram_often(Answer("", ids, "length"), size=size, times=times) == expected


@pytest.mark.parametrize(("copies", "expected"), [(19, False), (20, True)])
def test_one_ngram_often_begins_at_thirty_tokens_twenty_times(copies: int, expected: bool) -> None:
    assert one_ngram_often(Answer("", tuple(range(30)) * copies, "length")) == expected


def rows_of_copies(text: str, start: int, period: int) -> int:
    """The most copies in a row that include text[start : start + period], by looking at each of them alone."""
    unit = text[start : start + period]
    places = [at for at in range(start % period, len(text) - period + 1, period) if text[at : at + period] == unit]
    row = {start}
    while grown := {at for at in places if at not in row and (at - period in row or at + period in row)}:
        row |= grown
    return len(row)


def antidoom_by_the_letter(text: str) -> bool:
    for at in range(0, len(text) - 16, 128):
        same = [other for other in range(len(text) - 15) if text[other : other + 16] == text[at : at + 16]]
        after = min((other for other in same if other >= at + 16), default=None)
        before = max((other for other in same if other + 16 <= at), default=None)
        for other in (after, before):
            if other is None or abs(other - at) > 1024:
                continue
            start, period = min(at, other), abs(other - at)
            copies = rows_of_copies(text, start, period)
            if copies >= 4 and copies * period >= 60:
                return True
    return False


letters = st.text("ab", max_size=40)
looped_text = st.tuples(letters, st.text("abc", min_size=1, max_size=90), st.integers(1, 9), letters).map(
    lambda parts: parts[0] + parts[1] * parts[2] + parts[3]
)


@given(looped_text)
def test_antidoom_decides_as_its_rule_read_by_the_letter(text: str) -> None:
    assert caught_by_antidoom(answer(text)) == antidoom_by_the_letter(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("".join(map(chr, range(200, 220))) * 4, True),
        ("".join(map(chr, range(200, 220))) * 3, False),
        ("".join(map(chr, range(200, 1224))) * 4, True),
        ("".join(map(chr, range(200, 1225))) * 4, False),
        ("ab" * 40, True),
        ("".join(map(chr, range(200, 318))) + "ab" * 45 + "".join(map(chr, range(400, 500))), True),
        ("".join(map(chr, range(200, 217))) + "ab" * 50 + "".join(map(chr, range(400, 500))), False),
    ],
    ids=[
        "four copies",
        "three copies",
        "a period of 1,024",
        "a period of 1,025",
        "a short period, found as a multiple of it",
        "a run under a sample",
        "a run between two samples",
    ],
)
def test_antidoom_at_the_edges_of_its_rule(text: str, expected: bool) -> None:
    assert caught_by_antidoom(answer(text)) == expected


@given(st.lists(st.sampled_from(["a", "b", "long"]), max_size=30))
def test_repeated_ngrams_is_the_share_of_fours_that_stand_earlier_too(words: list[str]) -> None:
    fours = [words[at : at + 4] for at in range(len(words) - 3)]
    again = [four for at, four in enumerate(fours) if four in fours[:at]]
    expected = len(again) / len(fours) if fours else 0.0
    assert repeated_ngrams(answer(" ".join(words))) == pytest.approx(expected)


def test_repeated_ngrams_of_text_without_spaces_go_over_characters() -> None:
    looped, plain = (
        "我再检查一遍结果。" * 40,
        "桥把路带过会挡住它的东西。最早的是倒在溪流上的树；后来有人注意到了这一点。",
    )
    assert repeated_ngrams(answer(looped)) > 0.9
    assert repeated_ngrams(answer(plain)) < 0.1


@given(st.text("ab ", min_size=1, max_size=20), st.integers(1, 50))
def test_compression_ratio_is_that_of_the_bytes_at_level_one(unit: str, copies: int) -> None:
    compressor = zlib.compressobj(level=1)
    data = (unit * copies).encode()
    compressed = compressor.compress(data) + compressor.flush()
    assert compression_ratio(answer(unit * copies)) == len(data) / len(compressed)


def f1(scores: list[float], labels: list[bool], threshold: float) -> float:
    flagged = [score >= threshold for score in scores]
    hits = sum(flag and label for flag, label in zip(flagged, labels, strict=True))
    return 2 * hits / (sum(flagged) + sum(labels))


labelled = st.lists(st.tuples(st.integers(0, 6).map(float) | st.floats(0, 1), st.booleans()), min_size=1, max_size=25)


@given(labelled.filter(lambda pairs: any(label for _, label in pairs)))
def test_no_threshold_is_better_than_the_best_one(pairs: list[tuple[float, bool]]) -> None:
    scores, labels = [score for score, _ in pairs], [label for _, label in pairs]
    chosen = f1(scores, labels, best_threshold(scores, labels))
    assert chosen == pytest.approx(max(f1(scores, labels, threshold) for threshold in scores))


def test_best_threshold_lies_half_way_between_the_kinds() -> None:
    assert best_threshold([1.0, 2.0, 8.0, 9.0], [False, False, True, True]) == 5.0


def test_best_threshold_without_any_loop_is_refused() -> None:
    with pytest.raises(ValueError, match="no loop"):
        best_threshold([1.0, 2.0], [False, False])
