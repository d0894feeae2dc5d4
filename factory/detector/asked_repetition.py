"""Whether a prompt asks for the repetition that an answer shows.

The rule that must not break: only what the prompt says counts, so that a loop is never excused by its own text.
"""

import re
from math import inf
from typing import Final

from factory.detector.periods import stretches

_SPACE: Final = re.compile(r"\s+")
_SPACE_AND_NUMBERS: Final = re.compile(r"[\s\d]+")
_NO_WORD: Final = re.compile(r"[\W_]+")

_VERB: Final = re.compile(
    r"\b(?:write|repeat|say|print|type|copy|output|recite|sing"  # English
    r"|écri\w+|répét\w+|répèt\w+|dis|dites|recopi\w+|schreib\w*|wiederhol\w*|sag\w*|kopier\w*"  # French, German
    r"|escrib\w+|escrev\w+|repit\w+|repet\w+|ripet\w+|diga|copi\w+|scriv\w+)\b"  # Spanish, Portuguese, Italian
    r"|\bdi(?=[' ]*[\"«“'])"  # "di" is also Italian for "of"
    r"|اكتب|كرر|قل|انسخ|[写寫抄说說念]|重[复複]|输出|書|繰り返|くり返|言|써|쓰|적어|반복|말해"
)
_WORDS: Final = {
    **{
        word: 10 * (tens + 1)
        for tens, word in enumerate(
            ["ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
        )
    },
    **dict.fromkeys(("hundred", "cent", "hundert", "cien", "cem", "cento", "百", "백", "مئة", "مائة"), 100),
    **dict.fromkeys(("thousand", "mille", "tausend", "mil", "千", "천", "ألف"), 1000),
    **dict.fromkeys(("million", "milione"), 1_000_000),
}
_COUNT: Final = re.compile(
    rf"(?<![\d.,])(\d{{1,3}}(?:[.,' \u00a0\u202f]\d{{3}})+|\d+|{'|'.join(_WORDS)})"
    r"[ \u00a0-]?(?:times\b|fois\b|mal\b|veces\b|vezes\b|volte\b|مرة|مرات|[遍次回번회])"
)
_WITHOUT_END: Final = re.compile(
    r"\b(?:forever|endless\w*|infinite\w*|indefinitely|non-?stop|over and over|without (?:stopping|end)"  # English
    r"|sans (?:fin|arrêt)|à l['’]infini|pour toujours|endlos|unendlich|immer wieder|für immer"  # French, German
    r"|sin (?:parar|fin)|para siempre|sem (?:parar|fim)|para sempre|senza (?:fine|sosta)|all['’]infinito|per sempre)\b"
    r"|إلى الأبد|بلا توقف|بلا نهاية|不停|不断|永远|无限|無限|ずっと|永遠|계속|영원히|무한"
)


def asked_for(prompt: str, unit: str, repeats: float) -> bool:
    """Whether the prompt holds the unit twice itself, or asks to say it at least that often.

    White space, case and, for a unit with letters, numbers do not count. Twice: two copies, wherever they begin in the
    unit; of a unit under 16 characters as many in a row as make 16, because every prompt holds "the" twice. Asks: it has
    a verb of saying ("write", "répète", "写"), a count ("100 times", "cent fois", "100回") that the answer has not
    passed or a word for no end ("forever"), and the unit, punctuation apart.
    """
    prompt, unit = prompt.lower(), unit.lower()
    apart = _SPACE_AND_NUMBERS if any(map(str.isalpha, unit)) else _SPACE
    plain, short = apart.sub("", unit), apart.sub("", prompt)
    if plain and sum(length // len(plain) for length in stretches(short, plain) if length >= 16) >= 2:
        return True
    asked = bool(_VERB.search(prompt)) and repeats <= _count(prompt) + 1
    return asked and bool(stretches(_NO_WORD.sub("", short), _NO_WORD.sub("", plain)))


def _count(prompt: str) -> float:
    """How often it asks to say something: the most of its counts, 0 without any."""
    if _WITHOUT_END.search(prompt):
        return inf
    return max((_number(match[1]) for match in _COUNT.finditer(prompt)), default=0)


def _number(count: str) -> int:
    return _WORDS.get(count) or int("".join(filter(str.isdecimal, count))[:9])
