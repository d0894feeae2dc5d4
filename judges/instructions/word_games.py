"""IFBench, `words:*`, the games with letters: what each word must begin with, hold or measure."""

import math
import re
from collections.abc import Mapping
from itertools import pairwise
from string import ascii_lowercase

import syllapy

from judges.instructions.english import chunks, folded, initials, spelled
from judges.instructions.reading import Check, lines

PALINDROMES = 10
PALINDROME_LETTERS = 5
VOWELS = 3

_CLUSTER = re.compile(r"[b-df-hj-np-tv-z]{2}")


def alphabet(text: str) -> bool:
    """Each word starts with the letter after the previous word's; Z is followed by A."""
    letters = initials(text)
    following = dict(zip(ascii_lowercase, ascii_lowercase[1:] + "a", strict=True))
    return len(letters) > 1 and all(following.get(one) == other for one, other in pairwise(letters))


def vowel(text: str) -> bool:
    """One paragraph, without a line break, with at most three different vowels."""
    return len(lines(text)) == 1 and 0 < len(set(folded(text)) & set("aeiou")) <= VOWELS


def consonants(text: str) -> bool:
    """Each word has two consonants side by side."""
    found = chunks(folded(text))
    return bool(found) and all(_CLUSTER.search(word) for word in found)


def palindrome(text: str) -> bool:
    """At least ten different words of five letters or more that read the same backwards."""
    candidates = {word.casefold() for word in spelled(text) if len(word) >= PALINDROME_LETTERS and word.isalpha()}
    return sum(word == word[::-1] and len(set(word)) > 1 for word in candidates) >= PALINDROMES


def prime_lengths(text: str) -> bool:
    """Each word has a prime number of letters."""
    lengths = set(map(len, spelled(text)))
    return bool(lengths) and all(map(_is_prime, lengths))


def odd_even_syllables(text: str) -> bool | None:
    """Odd and even numbers of syllables take turns; None where that hangs on a word that cannot be counted."""
    parities = [_parity(word) for word in spelled(text)]
    if len(parities) < 2 or any(one == other is not None for one, other in pairwise(parities)):
        return False
    return None if None in parities else True


def no_consecutive(text: str) -> bool:
    """No two neighbouring words start with the same letter."""
    letters = initials(text)
    return len(letters) > 1 and all(one != other for one, other in pairwise(letters))


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, math.isqrt(number) + 1))


def _parity(word: str) -> int | None:
    """Of the number of syllables; None for numerals and for what is not written in Latin letters."""
    plain = folded(word)
    return syllapy.count(plain) % 2 if plain.isascii() and plain.isalpha() else None


KINDS: Mapping[str, Check] = {
    "words:alphabet": alphabet,
    "words:vowel": vowel,
    "words:consonants": consonants,
    "words:palindrome": palindrome,
    "words:prime_lengths": prime_lengths,
    "words:odd_even_syllables": odd_even_syllables,
    "words:no_consecutive": no_consecutive,
}
