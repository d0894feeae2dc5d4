"""What counts as nearly the same text, and as text out of an evaluation set."""

import random

import pytest
from datasketch import MinHash
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.gathering.dedupe import near_duplicates, ngrams, overlapping, words
from schemas.recipe import NearDuplicates

LONG = "the quick brown fox jumps over the lazy dog while nobody in the village looks on at all today"
CHINESE = "请用三句话概括这篇关于气候变化对沿海城市影响的文章并给出你的看法"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Hello, *world*!", ["hello", "world"]),
        ("well-known STRASSE Straße", ["well", "known", "strasse", "strasse"]),
        ("\ufb01ne \uff12", ["fine", "2"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("我爱AI。", ["我", "爱", "ai"]),
        ("ひらカナ", ["ひ", "ら", "カ", "ナ"]),
        ("สวัสดี", list("สวัสดี")),
        ("안녕 세상", ["안녕", "세상"]),
        ("— … !", []),
    ],
)
def test_words_fold_case_and_punctuation_and_split_unspaced_scripts(text: str, found: list[str]) -> None:
    assert words(text) == found


@pytest.mark.parametrize(
    ("one", "other"), [("3 + 4", "3 * 4"), ("3-4", "3/4"), ("x*y", "x-y"), ("x = -3", "x = 3"), ("5 %2", "5 2")]
)
def test_words_arithmetic_keeps_its_signs(one: str, other: str) -> None:
    assert words(one) != words(other)


def test_ngrams_short_text_is_one_run_and_symbols_alone_are_themselves() -> None:
    assert ngrams("a b", 3) == {b"a b"}
    assert ngrams("a b c d", 3) == {b"a b c", b"b c d"}
    assert ngrams("!!", 3) == {b"!!"} != ngrams("??", 3)


@pytest.mark.parametrize(
    ("texts", "dropped"),
    [
        ([LONG, LONG.upper() + "!", "something else entirely, about ships"], {1}),
        ([LONG + " extra", LONG], {1}),
        ([CHINESE, CHINESE.replace("三", "四") + "。", CHINESE[::-1]], {1}),
        (["What is 3 + 4?", "What is 3 * 4?", "what is 3+4"], {2}),
        (["!!", "??", "!!"], {2}),
        (["", ""], {1}),
        ([], set()),
    ],
)
def test_near_duplicates_first_is_kept(texts: list[str], dropped: set[int]) -> None:
    assert near_duplicates(texts, NearDuplicates(threshold=0.7)) == dropped


def test_near_duplicates_later_texts_are_compared_with_kept_ones_only() -> None:
    base = [f"w{number}" for number in range(100)]
    drift = [" ".join(base[start:] + [f"v{number}" for number in range(start)]) for start in (0, 8, 16)]

    assert near_duplicates(drift, NearDuplicates(threshold=0.8)) == {1}


@pytest.mark.parametrize("permutations", [16, 64, 128, 1024])
@pytest.mark.parametrize("threshold", [0.01, 0.3, 0.8, 0.95, 1.0])
def test_near_duplicates_any_setting_finds_equal_texts(permutations: int, threshold: float) -> None:
    texts = [LONG, CHINESE, LONG, CHINESE]

    dropped = near_duplicates(texts, NearDuplicates(threshold=threshold, permutations=permutations))

    assert dropped >= {2, 3}
    assert 0 not in dropped


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.sampled_from([0.7, 0.8, 0.9]))
def test_near_duplicates_what_is_kept_agrees_with_comparing_all(seed: int, threshold: float) -> None:
    draw = random.Random(seed)
    base = [f"w{number}" for number in range(60)]
    texts = [" ".join(f"x{draw.random()}" if draw.random() < 0.04 else word for word in base) for _ in range(12)]
    sketches = list(MinHash.generator((sorted(ngrams(text, 3)) for text in texts), num_perm=128, seed=1))
    kept: list[int] = []
    for number, sketch in enumerate(sketches):
        if not any(sketch.jaccard(sketches[other]) >= threshold for other in kept):
            kept.append(number)

    assert near_duplicates(texts, NearDuplicates(threshold=threshold)) == set(range(12)) - set(kept)


@pytest.mark.parametrize(
    ("text", "reference", "found"),
    [
        ("Please: " + LONG.upper(), LONG + "?", True),
        ("THE quick, brown fox -- jumps over", "xx the quick brown fox jumps yy", True),
        ("the quick brown fox sleeps", "the quick brown fox jumps", False),
        ("quick brown", "Quick, brown!", True),
        ("quick brown", "the quick brown fox jumps", False),
        ("the quick brown fox jumps", "quick brown", False),
        ("前言" + CHINESE[5:12], CHINESE, True),
        (CHINESE[::-1], CHINESE, False),
    ],
)
def test_overlapping_shared_run_is_found_and_short_texts_match_as_a_whole(
    text: str, reference: str, found: bool
) -> None:
    assert (0 in overlapping([text], [reference], 5)) is found


def test_overlapping_names_the_texts_by_their_place() -> None:
    assert overlapping(["a b c", "x", "c a b c"], ["z a b c z"], 3) == {0, 2}
    assert overlapping(["a b c"], [], 3) == set()
