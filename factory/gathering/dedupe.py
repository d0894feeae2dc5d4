"""Finds texts that are nearly the same, and texts that overlap with an evaluation set.

The rule that must not break: the outcome depends on the texts and their order alone, never on the process that looks.

Texts are compared as sequences of words: casefolded, with compatibility forms and punctuation folded. Scripts that
write no spaces (Han, Kana, Thai, Lao, Khmer, Burmese) have a word for each character. Signs that carry a meaning stay
words of their own: `3 + 4` is not `3 * 4`.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from schemas.recipe import NearDuplicates

if TYPE_CHECKING:
    from datasketch import MinHash, MinHashLSH  # a second to import, with scipy, and not every recipe needs it

# Between numbers, brackets and single letters, or as the sign of a number, these are arithmetic and no punctuation.
_ARITHMETIC = re.compile(r"(?:(?<=[\d)])|(?<=\b[a-z]))\s*([-*/%])\s*(?=[\d(]|[a-z]\b)|(?<!\w)(-)(?=\d)")
_AS_SYMBOL = str.maketrans("-*/%", "\u2212\u00d7\u00f7\u2052")  # of Unicode's symbol category, which is not folded
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x323AF),
)


class _Folding(dict[int, str]):
    """What `str.translate` puts in place of a character, worked out when it is first met."""

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        kind = unicodedata.category(letter)[0]
        if kind == "S" or any(first <= code <= last for first, last in _UNSPACED):
            folded = f" {letter} "
        else:
            folded = letter if kind in "LMN" else " "
        self[code] = folded
        return folded


_FOLDING = _Folding()


def words(text: str) -> list[str]:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    marked = _ARITHMETIC.sub(lambda match: f" {match[0].strip().translate(_AS_SYMBOL)} ", folded)
    return marked.translate(_FOLDING).split()


def ngrams(text: str, size: int) -> set[bytes]:
    """Each run of `size` words; a shorter text is one run as a whole, and one without words stands for itself."""
    found = words(text) or [text.strip()]
    last = max(0, len(found) - size)
    return {" ".join(found[start : start + size]).encode() for start in range(last + 1)}


def near_duplicates(texts: Sequence[str], settings: NearDuplicates) -> frozenset[int]:
    """Indices of the texts whose estimated Jaccard similarity with an earlier, kept text is at or above the threshold.

    MinHash after Broder (1997). The index has one band more than two similar sketches can have differences, so that
    one band at least is equal and no pair is missed; only for low thresholds, where such an index would compare all
    with all, it may miss a few pairs close to the threshold.
    """
    index = _index(settings)
    kept: dict[int, MinHash] = {}
    dropped = set()
    for number, sketch in enumerate(_sketches(texts, settings)):
        if any(sketch.jaccard(kept[other]) >= settings.threshold for other in index.query(sketch)):
            dropped.add(number)
        else:
            kept[number] = sketch
            index.insert(number, sketch)
    return frozenset(dropped)


def near_any(texts: Sequence[str], references: Sequence[str], settings: NearDuplicates) -> frozenset[int]:
    """Indices of the texts whose estimated similarity with any reference is at or above the threshold."""
    index = _index(settings)
    known = dict(enumerate(_sketches(references, settings)))
    for number, sketch in known.items():
        index.insert(number, sketch)
    return frozenset(
        number
        for number, sketch in enumerate(_sketches(texts, settings))
        if any(sketch.jaccard(known[other]) >= settings.threshold for other in index.query(sketch))
    )


def _sketches(texts: Sequence[str], settings: NearDuplicates) -> Iterator["MinHash"]:
    from datasketch import MinHash

    grams = (sorted(ngrams(text, settings.ngram)) for text in texts)
    yield from MinHash.generator(grams, num_perm=settings.permutations, seed=1)


def _index(settings: NearDuplicates) -> "MinHashLSH":
    from datasketch import MinHashLSH

    differences = int(settings.permutations * (1 - settings.threshold) + 1e-9)
    bands = max(2, differences + 1)
    rows = max(settings.permutations // bands, min(3, settings.permutations // 32), 1)
    bands = max(2, min(bands, settings.permutations // rows))
    return MinHashLSH(num_perm=settings.permutations, params=(bands, rows))


def overlapping(texts: Sequence[str], references: Iterable[str], ngram: int) -> frozenset[int]:
    """Indices of the texts that share a run of `ngram` words with a reference; shorter ones match as a whole only."""
    known = {_short(gram) for reference in references for gram in ngrams(reference, ngram)}
    return frozenset(
        number for number, text in enumerate(texts) if any(_short(gram) in known for gram in ngrams(text, ngram))
    )


def _short(gram: bytes) -> bytes:
    """Millions of runs are held at once: eight bytes each, and the same in every process."""
    return hashlib.blake2b(gram, digest_size=8).digest()
