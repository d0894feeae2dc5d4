"""Shares of words, kinds of sentences, trigrams."""

import pytest

from judges.instructions.ratios import KINDS

REFERENCE = {"reference_text": "abcdef", "percentage": 50}


@pytest.mark.parametrize(
    ("kind", "arguments", "text"),
    [
        pytest.param("stop_words", {"percentage": 25}, "The storm broke windows.", id="stop-words-just"),
        pytest.param("stop_words", {"percentage": 0.5}, "Storms break windows.", id="stop-words-none"),
        pytest.param("sentence_type", {}, "Dogs bark. Do cats purr? They do.", id="two-to-one"),
        pytest.param(
            "sentence_type",
            {},
            'He left. **She stayed.** "Did he?" Wow! It rained. It shone. Why? 🙂',
            id="four-to-two",
        ),
        pytest.param("sentence_balance", {}, "Dogs bark. Do cats purr? They do!", id="balance-one"),
        pytest.param("sentence_balance", {}, "So. It is. Is it? Where? Here! There!", id="balance-two"),
        pytest.param("overlap", REFERENCE, "abcdxy", id="overlap-half"),
        pytest.param("overlap", {"reference_text": "a green tree", "percentage": 98}, "green tree", id="overlap-edge"),
        pytest.param("sentence_words", {}, "Big dogs bark. Old cats purr. New cars honk.", id="three-alike"),
        pytest.param("sentence_words", {}, "Who ran? She did! We know.", id="three-alike-other-marks"),
    ],
)
def test_ratio_as_asked_passes(kind: str, arguments: dict[str, object], text: str) -> None:
    assert KINDS[f"ratio:{kind}"](text, **arguments) is True


@pytest.mark.parametrize(
    ("kind", "arguments", "text"),
    [
        pytest.param("stop_words", {"percentage": 24}, "The storm broke windows.", id="stop-words-one-percent"),
        pytest.param("stop_words", {"percentage": 30}, "It's windy.", id="stop-words-contraction"),
        pytest.param("sentence_type", {}, "Dogs bark. Do cats purr?", id="one-to-one"),
        pytest.param("sentence_type", {}, "Dogs bark! Cats purr! No question.", id="no-question"),
        pytest.param("sentence_balance", {}, "Dogs bark. Do cats purr?", id="balance-no-exclamation"),
        pytest.param("sentence_balance", {}, "Dogs bark. They do. Do cats purr? Yes!", id="balance-one-more"),
        pytest.param("overlap", REFERENCE, "abcxyz", id="overlap-quarter"),
        pytest.param("overlap", REFERENCE, "abcdef", id="overlap-whole"),
        pytest.param("overlap", REFERENCE, "ab", id="overlap-too-short"),
        pytest.param("sentence_words", {}, "Big dogs bark. Old cats purr. New trains honk.", id="three-longer"),
        pytest.param("sentence_words", {}, "Big dogs bark. Old dogs purr. New cars honk.", id="three-same-word"),
        pytest.param("sentence_words", {}, "Big dogs bark. Old cats purr.", id="two"),
    ],
)
def test_ratio_near_miss_fails(kind: str, arguments: dict[str, object], text: str) -> None:
    assert KINDS[f"ratio:{kind}"](text, **arguments) is False
