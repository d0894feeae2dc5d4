"""How sentences follow each other."""

import pytest

from judges.instructions.sentence_games import KINDS


@pytest.mark.parametrize(
    ("kind", "arguments", "text"),
    [
        pytest.param("alliteration_increment", {}, "We go. Big bears eat. Six slow snails sleep.", id="alliteration"),
        pytest.param("alliteration_increment", {}, "Bold birds fly. Tall trees turn to ash.", id="alliteration-two"),
        pytest.param("keyword", {"word": "cat", "N": 2}, "It ran. The Cat ran.", id="keyword"),
        pytest.param("keyword", {"word": "cat", "N": 2}, "**It ran.**\n\nThe cat ran.", id="keyword-after-bold"),
        pytest.param("keyword", {"word": "hot dog", "N": 1}, "A hot dog! Yes.", id="keyword-two-words"),
        pytest.param("increment", {"small_n": 1}, "We go. We go on. We go on, today.", id="increment-one"),
        pytest.param("increment", {"small_n": 3}, "Go! Go there - and look.", id="increment-three"),
    ],
)
def test_sentences_as_asked_pass(kind: str, arguments: dict[str, object], text: str) -> None:
    assert KINDS[f"sentence:{kind}"](text, **arguments) is True


@pytest.mark.parametrize(
    ("kind", "arguments", "text"),
    [
        pytest.param("alliteration_increment", {}, "Big bears eat. Six slugs go.", id="alliteration-equal"),
        pytest.param(
            "alliteration_increment", {}, "Big bears eat. Two toads and six slugs.", id="alliteration-in-two-runs"
        ),
        pytest.param("alliteration_increment", {}, "Big bears bite.", id="alliteration-one-sentence"),
        pytest.param("keyword", {"word": "cat", "N": 2}, "The cat ran. It ran.", id="keyword-other-sentence"),
        pytest.param("keyword", {"word": "cat", "N": 1}, "The catalogue.", id="keyword-part"),
        pytest.param("keyword", {"word": "cat", "N": 3}, "A cat. A cat.", id="keyword-too-few"),
        pytest.param("increment", {"small_n": 1}, "We go. We go on. We go on again today.", id="increment-two"),
        pytest.param("increment", {"small_n": 1}, "We go on. We go.", id="increment-down"),
        pytest.param("increment", {"small_n": 1}, "We go.", id="increment-one-sentence"),
    ],
)
def test_sentences_near_miss_fails(kind: str, arguments: dict[str, object], text: str) -> None:
    assert KINDS[f"sentence:{kind}"](text, **arguments) is False
