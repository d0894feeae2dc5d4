"""How many words, numbers, names and marks."""

import pytest

from judges.instructions.counts import KINDS, PERSON_NAMES

WORDS = {"keyword1": "oak", "keyword2": "elm", "keyword3": "ash", "keyword4": "fir", "keyword5": "yew"}


@pytest.mark.parametrize(
    ("kind", "arguments", "text"),
    [
        pytest.param("word_count_range", {"min_words": 3, "max_words": 5}, "Cats sleep well.", id="range-lower-end"),
        pytest.param("word_count_range", {"min_words": 3, "max_words": 5}, "Cats - and dogs - sleep well.", id="upper"),
        pytest.param("unique_word_count", {"N": 4}, "The cat saw the other cat.", id="unique-of-six"),
        pytest.param("unique_word_count", {"N": 3}, "well-known, «well» known", id="unique-hyphen"),
        pytest.param("conjunctions", {"small_n": 2}, "Slow, BUT sure. And steady.", id="conjunctions-any-case"),
        pytest.param("conjunctions", {"small_n": 3}, "He ran, for it rained, yet he was dry, so what?", id="three"),
        pytest.param("person_names", {"N": 2}, "Emma's dog bit Noah.", id="names-possessive"),
        pytest.param("person_names", {"N": 50}, ", ".join(sorted(PERSON_NAMES)), id="names-all"),
        pytest.param("numbers", {"N": 3}, "In 1999 it cost 1,000.50 dollars, up 3.5%.", id="numbers-grouped"),
        pytest.param("numbers", {"N": 2}, "From 1914-1918.", id="numbers-range"),
        pytest.param("numbers", {"N": 4}, "1,2,3, and 1/2.", id="numbers-listed"),
        pytest.param("punctuation", {}, "Really?! Yes, no; this: stop! Why? So.", id="marks"),
        pytest.param("punctuation", {}, "What!? One, two; three: four! Five? Six.", id="marks-other-way"),
        pytest.param("punctuation", {}, "What‽ One, two; three: four! Five? Six.", id="marks-one-sign"),
        pytest.param("words_japanese", {"N": 2}, "I 猫 like あなた", id="japanese"),
        pytest.param("words_japanese", {"N": 3}, "I - love 「寿司」 and hot ラーメン", id="japanese-dash-is-no-word"),
        pytest.param("pronouns", {"N": 4}, "It's mine/yours, said she.", id="pronouns-joined"),
        pytest.param("pronouns", {"N": 3}, "I think I know whom.", id="pronouns-repeated"),
        pytest.param(
            "keywords_multiple", WORDS, f"Oak {'elm ' * 2}{'ash. ' * 3}{'fir ' * 5}{'YEW ' * 7}", id="keywords"
        ),
        pytest.param(
            "keywords_multiple",
            WORDS | {"keyword1": "big oak"},
            f"A big oak, {'elm ' * 2}{'ash ' * 3}{'fir ' * 5}{'yew ' * 7}yews",
            id="keywords-of-two-words",
        ),
    ],
)
def test_count_as_asked_passes(kind: str, arguments: dict[str, object], text: str) -> None:
    assert KINDS[f"count:{kind}"](text, **arguments) is True


@pytest.mark.parametrize(
    ("kind", "arguments", "text"),
    [
        pytest.param("word_count_range", {"min_words": 3, "max_words": 5}, "Cats sleep.", id="range-one-less"),
        pytest.param("word_count_range", {"min_words": 3, "max_words": 5}, "Cats and dogs sleep very well.", id="more"),
        pytest.param("unique_word_count", {"N": 5}, "The cat saw the other cat.", id="unique-one-less"),
        pytest.param("unique_word_count", {"N": 3}, "Echo echo, ECHO! Yes.", id="unique-same-word"),
        pytest.param("conjunctions", {"small_n": 2}, "This and that And those AND these.", id="conjunctions-one"),
        pytest.param("conjunctions", {"small_n": 2}, "Orbits forward, and because.", id="conjunctions-parts"),
        pytest.param("person_names", {"N": 2}, "Emma and Emma and emma and Peter.", id="names-once"),
        pytest.param("person_names", {"N": 2}, "Emma was graceful, said Masons.", id="names-parts"),
        pytest.param("numbers", {"N": 2}, "Two of 1,000.", id="numbers-in-words"),
        pytest.param("numbers", {"N": 1}, "From 1914-1918.", id="numbers-range-is-two"),
        pytest.param("punctuation", {}, "Yes, no; this: stop! Why? Well.", id="marks-no-interrobang"),
        pytest.param("punctuation", {}, "Really?! Yes, no; this: stop! So.", id="marks-no-other-question"),
        pytest.param("punctuation", {}, "Really?! Yes, no. This: stop! Why?", id="marks-no-semicolon"),
        pytest.param("words_japanese", {"N": 2}, "猫 I あなた like", id="japanese-wrong-places"),
        pytest.param("words_japanese", {"N": 5}, "Too few 猫 words", id="japanese-too-short"),
        pytest.param("words_japanese", {"N": 2}, "I 猫 have 2 cats 寿司", id="japanese-digit"),
        pytest.param("pronouns", {"N": 3}, "I think I know.", id="pronouns-one-less"),
        pytest.param("pronouns", {"N": 1}, "Item, thesis, museum.", id="pronouns-parts"),
        pytest.param(
            "keywords_multiple", WORDS, f"oak {'elm ' * 2}{'ash ' * 3}{'fir ' * 5}{'yew ' * 8}", id="keywords-more"
        ),
        pytest.param(
            "keywords_multiple", WORDS, f"oak elm elms {'ash ' * 3}{'fir ' * 5}{'yew ' * 7}", id="keywords-part"
        ),
    ],
)
def test_count_near_miss_fails(kind: str, arguments: dict[str, object], text: str) -> None:
    assert KINDS[f"count:{kind}"](text, **arguments) is False
