"""What each word begins with, holds and measures."""

import pytest

from judges.instructions.word_games import KINDS

PALINDROMES = "Level, radar, civic, kayak, refer, rotor, madam, tenet, stats, racecar"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        pytest.param("alphabet", "Young zebras (always) bite.", id="alphabet-around"),
        pytest.param("alphabet", "Did Émile find - good - hats?", id="alphabet-accent"),
        pytest.param("vowel", "Anna sent ten bills.", id="vowel-three"),
        pytest.param("vowel", "Black cats nap.\n", id="vowel-one"),
        pytest.param("consonants", "Strong winds **blow** north - fast.", id="consonants"),
        pytest.param("consonants", "Thick well-known myths", id="consonants-y"),
        pytest.param("palindrome", PALINDROMES, id="palindromes"),
        pytest.param("palindrome", PALINDROMES.replace(",", "! And then a"), id="palindromes-among-words"),
        pytest.param("prime_lengths", "We saw seven, not three.", id="prime"),
        pytest.param("prime_lengths", "It's an extraordinary", id="prime-thirteen"),
        pytest.param("odd_even_syllables", "The water flows under bridge", id="syllables-odd-first"),
        pytest.param("odd_even_syllables", "Open doors invite guests.", id="syllables-even-first"),
        pytest.param("no_consecutive", "Big cats bite dogs.", id="letters"),
        pytest.param("no_consecutive", "Ash, oak - elm.", id="letters-dash"),
    ],
)
def test_letters_as_asked_pass(kind: str, text: str) -> None:
    assert KINDS[f"words:{kind}"](text) is True


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        pytest.param("alphabet", "Ants bite dogs.", id="alphabet-skips"),
        pytest.param("alphabet", "Young zebras bite.", id="alphabet-not-around"),
        pytest.param("alphabet", "Ants", id="alphabet-one-word"),
        pytest.param("vowel", "Anna sent ten bills to us.", id="vowel-five"),
        pytest.param("vowel", "Black cats nap.\n\nDogs nap.", id="vowel-two-paragraphs"),
        pytest.param("consonants", "Strong winds are north.", id="consonants-are"),
        pytest.param("consonants", "Strong 42", id="consonants-number"),
        pytest.param("palindrome", PALINDROMES.removeprefix("Level, "), id="palindromes-nine"),
        pytest.param("palindrome", PALINDROMES.replace("radar", "level"), id="palindromes-twice"),
        pytest.param("palindrome", PALINDROMES.replace("radar", "noon"), id="palindromes-short"),
        pytest.param("prime_lengths", "We saw nine.", id="prime-four"),
        pytest.param("prime_lengths", "I saw it.", id="prime-one"),
        pytest.param("odd_even_syllables", "The old water", id="syllables-odd-odd"),
        pytest.param("odd_even_syllables", "Water", id="syllables-one-word"),
        pytest.param("odd_even_syllables", "The old 42", id="syllables-wrong-before-numeral"),
        pytest.param("no_consecutive", "Big brown dogs.", id="letters-same"),
        pytest.param("no_consecutive", "Ants École elm.", id="letters-same-accent"),
    ],
)
def test_letters_near_miss_fails(kind: str, text: str) -> None:
    assert KINDS[f"words:{kind}"](text) is False


@pytest.mark.parametrize("text", ["The 42 flows", "The вода flows"])
def test_syllables_that_cannot_be_counted_are_left_open(text: str) -> None:
    assert KINDS["words:odd_even_syllables"](text) is None
