"""What the model behind the fake engine says: a function of (messages, seed, temperature) alone.

A token is a character and its id the character's code; END stands behind an answer that ended by itself. A word in square
brackets in the last message says how the model answers (see `Manner`); without one the draw decides.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any

Body = dict[str, Any]
END = 0  # the id of the end token
VOCABULARY = (
    "rain falls on old roofs while some quiet people walk home under grey clouds and others wait near a small red door "
    "until morning light shows every stone river bridge tree field hill road lamp window garden wall boat bird cat"
)
WORDS = tuple(VOCABULARY.split())
UNITS = ("and then it rains again, ", "over and over the hill ", "one more time, ")


class Manner(StrEnum):
    """How the model answers a prompt that has this word in square brackets."""

    ENDS = "ends"
    LOOPS = "loops"
    CAPPED = "capped"  # goes on until max_tokens
    SAME = "same"  # whatever the seed
    BLANK = "blank"
    THINKS = "thinks"  # <think>…</think> before the answer


@dataclass(frozen=True, slots=True)
class Said:
    """What the model would say: `start`, and then `unit` for ever where there is one."""

    start: str
    unit: str = ""

    def written(self, max_tokens: int, detection: Mapping[str, int] | None) -> tuple[str, str]:
        """The text as far as the engine lets it come, and the finish reason."""
        if not self.unit:
            return self.start[:max_tokens], "stop" if len(self.start) < max_tokens else "length"
        if detection and detection["min_pattern_size"] <= len(self.unit) <= detection["max_pattern_size"]:
            caught = self.start + self.unit * detection["min_count"]
            if len(caught) <= max_tokens:
                return caught, "repetition"
        return (self.start + self.unit * max_tokens)[:max_tokens], "length"


def draw(below: int, *key: object) -> int:
    """A number from 0 to below - 1 that is a function of the key."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).digest()
    return int.from_bytes(digest[:8]) % below


def speak(messages: Sequence[Mapping[str, str]], seed: int, temperature: float, longest: int) -> Said:
    """The model itself, for as many tokens as are wanted at most. Greedy answers know no seed."""
    asked = messages[-1]["content"]
    marked = _MANNER.search(asked)
    manner = Manner(marked[1]) if marked else None
    key = json.dumps([list(messages), temperature, *([seed] if temperature else [])])
    if manner is Manner.SAME:
        key = json.dumps(list(messages))
    dice = Random(int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]))
    if manner is None:
        manner = {0: Manner.LOOPS, 1: Manner.CAPPED}.get(dice.randrange(8), Manner.ENDS)
    match manner:
        case Manner.BLANK:
            return Said("")
        case Manner.LOOPS:
            return Said(_sentence(4, dice), unit=dice.choice(UNITS))
        case Manner.CAPPED:
            return Said(_sentence(longest // 2, dice))
        case Manner.THINKS:
            return Said(f"<think>{_sentence(6, dice)}</think>\n\n{_sentence(8, dice)}")
    return Said(_sentence(6 + dice.randrange(12), dice))


def _sentence(words: int, dice: Random) -> str:
    return " ".join(dice.choices(WORDS, k=words)) + ". "


_MANNER = re.compile(rf"\[({'|'.join(Manner)})\]")
SHOWN = re.compile(r"^Answer (?:to grade|[A-Z]+): (.*)", re.MULTILINE)


def merit(answer: str) -> float:
    """What an answer is worth to every judge, from 0 to 1."""
    return draw(1000, "merit", answer) / 1000


def is_pair(body: Body) -> bool:
    return bool(body.get("structured_outputs", {}).get("choice") == ["A", "B"])


def better(messages: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """Of two answers side by side, the one with more merit, wherever it stands."""
    first, second = map(merit, SHOWN.findall(messages[-1]["content"]))
    return {"A": 0.5 + (first - second) / 2, "B": 0.5 + (second - first) / 2}


def held(schema: Mapping[str, Any], messages: Sequence[Mapping[str, str]]) -> str:
    """An object of that schema: a grade for each label that is shown, else the first value that is allowed."""
    shown = dict(re.findall(r"^Answer ([A-Z]+): (.*)", messages[-1]["content"], re.MULTILINE))
    fields = schema["properties"]
    grades = {name: round(1 + 8 * merit(shown[name])) if name in shown else fields[name]["enum"][0] for name in fields}
    return json.dumps(grades)


def classified(model: str, messages: Sequence[Mapping[str, str]], tokens: int) -> Body:
    """As vLLM's classification endpoint answers with a head of one label."""
    reward = 10 * merit(messages[-1]["content"]) - 5
    data = [{"index": 0, "label": "LABEL_0", "probs": [reward], "num_classes": 1}]
    return {"object": "list", "model": model, "data": data, "usage": {"prompt_tokens": tokens, "completion_tokens": 0}}


def read(model: str, text: str) -> Body:
    """As vLLM says how probable each token of a text was: here 1 in 2, or 1 in 4 for a blank."""
    likely = [{str(ord(letter)): {"logprob": -math.log(4 if letter == " " else 2), "rank": 1}} for letter in text[1:]]
    choice = {"index": 0, "text": "r", "prompt_logprobs": [None, *likely], "prompt_token_ids": [*map(ord, text)]}
    usage = {"prompt_tokens": len(text), "completion_tokens": 1}
    return {"object": "text_completion", "model": model, "choices": [choice], "usage": usage}


def digits(messages: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """How likely each digit is: a bell around a mark that lies mostly in the answer, and a little in the judge's taste."""
    graded = re.search(r"Answer to grade: (.*)", messages[-1]["content"])
    answer = graded[1] if graded else messages[-1]["content"]
    taste = draw(1000, "taste", list(messages)) / 1000
    mark = 1 + 8 * (0.8 * merit(answer) + 0.2 * taste)
    bell = {str(digit): math.exp(-((digit - mark) ** 2) / 1.5) for digit in range(1, 10)}
    return {digit: height / math.fsum(bell.values()) for digit, height in bell.items()}


def logprobs(token: str, likely: Mapping[str, float], mass: float, top: int) -> Body:
    listed = [{"token": digit, "logprob": math.log(max(p * mass, 1e-30))} for digit, p in likely.items()]
    listed.append({"token": "The", "logprob": math.log(max(1 - mass, 1e-30))})
    listed.sort(key=lambda entry: -float(entry["logprob"]))  # type: ignore[arg-type]  # a number, whatever mypy joins
    own = math.log(max(likely.get(token, 0.0) * mass, 1e-30))
    return {"content": [{"token": token, "logprob": own, "top_logprobs": listed[:top]}]}


def template(messages: Sequence[Mapping[str, str]]) -> str:
    return "".join(f"<{message['role']}>{message['content']}" for message in messages) + "<assistant>"
