"""Texts that loop tests are made of."""

import random
import string

SENTENCE = "I will check the value again. "
LETTERS = "".join(random.Random(7).choices(string.ascii_lowercase, k=3000))
PROSE = " ".join(LETTERS[at : at + 5] for at in range(0, len(LETTERS), 5))
FACT = "The octopus has three hearts, blue blood and a mind in each of its arms."
CLOSING = "\nThese facts show how wonderful the ocean is. Let me know if you would like to hear more!"


def numbered(first: int, last: int, item: str) -> str:
    return "".join(f"{number}. {item}\n" for number in range(first, last + 1))
