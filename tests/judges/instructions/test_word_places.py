"""Which word stands where, and how often."""

import pytest

from judges.instructions.word_places import KINDS

PLACE = {"keyword": "cat", "n": 2, "m": 3}


@pytest.mark.parametrize(
    ("kind", "arguments", "text"),
    [
        pytest.param("start_verb", {}, "Write the letter today.", id="verb"),
        pytest.param("start_verb", {}, "**Consider** this plan.", id="verb-markup"),
        pytest.param("repeats", {"small_n": 2}, "The cat saw the dog.", id="repeats-two"),
        pytest.param("repeats", {"small_n": 1}, "Each word once.", id="repeats-none"),
        pytest.param("last_first", {}, "I like cats. Cats like milk! Milk is white.", id="chain"),
        pytest.param("last_first", {}, "See the **sea**. Sea air heals.", id="chain-markup"),
        pytest.param("paragraph_last_first", {}, "Rain follows rain.\n\nSun, then sun!", id="ring"),
        pytest.param("paragraph_last_first", {}, "Love begets *love*.\n---\nStop!", id="ring-single"),
        pytest.param("keywords_specific_position", PLACE, "It ran. I saw CAT two.", id="place"),
        pytest.param("keywords_specific_position", PLACE, "It ran. Look, a cat!", id="place-punctuation"),
        pytest.param("words_position", {"keyword": "cat"}, "My cat saw another cat, surely.", id="second"),
        pytest.param("words_position", {"keyword": "cat"}, 'The "Cat" slept.', id="second-of-three"),
    ],
)
def test_places_as_asked_pass(kind: str, arguments: dict[str, object], text: str) -> None:
    assert KINDS[f"words:{kind}"](text, **arguments) is True


@pytest.mark.parametrize(
    ("kind", "arguments", "text"),
    [
        pytest.param("start_verb", {}, "The letter is written.", id="article"),
        pytest.param("start_verb", {}, "Happiness grows.", id="noun"),
        pytest.param("start_verb", {}, "3 writes.", id="digit"),
        pytest.param("repeats", {"small_n": 1}, "The cat saw the dog.", id="repeats-two"),
        pytest.param("repeats", {"small_n": 2}, "No, no; NO!", id="repeats-any-case"),
        pytest.param("last_first", {}, "I like cats. Dogs like milk.", id="chain-broken"),
        pytest.param("last_first", {}, "I like cats.", id="chain-of-one"),
        pytest.param("paragraph_last_first", {}, "Rain follows rain.\nSun, then moon!", id="ring-second-open"),
        pytest.param("paragraph_last_first", {}, "Stop!", id="ring-of-one-word"),
        pytest.param("keywords_specific_position", PLACE, "It ran. I saw the cat.", id="place-one-later"),
        pytest.param("keywords_specific_position", PLACE, "I saw cat.", id="place-one-sentence"),
        pytest.param("keywords_specific_position", PLACE, "It ran. I saw cats.", id="place-plural"),
        pytest.param("words_position", {"keyword": "cat"}, "My cat saw another dog, surely.", id="second-only"),
        pytest.param("words_position", {"keyword": "cat"}, "My cat saw another cat.", id="last-instead"),
    ],
)
def test_places_near_miss_fails(kind: str, arguments: dict[str, object], text: str) -> None:
    assert KINDS[f"words:{kind}"](text, **arguments) is False


def test_start_verb_in_another_script_is_left_open() -> None:
    assert KINDS["words:start_verb"]("Напиши письмо.") is None
