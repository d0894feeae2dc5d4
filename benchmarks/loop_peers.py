"""The loop detectors of others that prefactory's is compared with, each as one frozen object.

The rule that its reader must not break: a peer decides as its original does, blind spots and quirks included, and runs
the original's own code wherever that can be installed (`original`). Nothing here is tuned in prefactory's favour: the
two peers that are scores get the threshold that serves them best.

vLLM and datatrove are in few environments and slow to load, so a peer imports its package when it is first asked.
`peers()` tells which can run here, and what is wanting for the others.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from itertools import accumulate
from typing import TYPE_CHECKING

from factory.detector.published_rules import repeats_ngram
from schemas.recipe import Repetition

if TYPE_CHECKING:
    from datatrove.pipeline.filters import GopherRepetitionFilter


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A peer that decides by itself."""

    name: str
    source: str
    original: bool  # the original's own code, not our implementation of its rule
    flags: Callable[[Answer], bool]
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Score:
    """A peer that only measures: the higher, the more repeated. `flags` needs a threshold (`best_threshold`)."""

    name: str
    source: str
    original: bool
    score: Callable[[Answer], float]
    threshold: float | None = None
    packages: tuple[str, ...] = ()

    def flags(self, answer: Answer) -> bool:
        if self.threshold is None:
            raise ValueError(f"{self.name} has no threshold yet: calibrate it with best_threshold")
        return self.score(answer) >= self.threshold


def _tokens(answer: Answer) -> tuple[int, ...]:
    if answer.text and not answer.token_ids:
        raise ValueError("this peer reads token ids, and the answer has none: tokenize the text first")
    return answer.token_ids


def stopped_by_vllm(settings: Repetition, answer: Answer) -> bool:
    """Whether the engine would have stopped this answer at any of its tokens.

    The engine asks after every token, and asks for the length limit first: what begins to repeat at the very last token
    that fits is `length` to it.
    """
    from vllm.sampling_params import RepetitionDetectionParams
    from vllm.v1.core.sched.utils import check_sequence_repetition

    params = RepetitionDetectionParams(**settings.model_dump())
    asked = _tokens(answer)[:-1] if answer.finish_reason == "length" else _tokens(answer)
    written: list[int] = []
    for token in asked:
        written.append(token)
        if check_sequence_repetition(written, params):
            return True
    return False


def one_ngram_often(answer: Answer, *, size: int = 30, times: int = 20) -> bool:
    """Occurrences may overlap, as in every reproduction of the paper that we found."""
    return repeats_ngram(_tokens(answer), size, times)


@cache
def _gopher() -> "GopherRepetitionFilter":
    from datatrove.pipeline.filters import GopherRepetitionFilter

    return GopherRepetitionFilter()


def dropped_by_gopher(answer: Answer) -> bool:
    """With datatrove's own defaults, which split words as English; the empty text is dropped too."""
    from datatrove.data import Document

    return _gopher().filter(Document(text=answer.text, id="")) is not True


SAMPLE, INTERVAL = 16, 128  # characters: one sample of the text is looked up again at every interval
LONGEST_PERIOD, COPIES, SPAN = 1024, 4, 60


def caught_by_antidoom(answer: Answer) -> bool:
    """A unit of up to 1,024 characters, at least 4 times in a row and at least 60 characters long in all.

    Periods are guessed, not searched: the distance from a sample to its next and to its last copy, neither overlapping
    it. So the unit of a short period is a multiple of it, and a loop between two samples is not seen. The copies are
    looked for in the whole text, as the original does, though only the near ones count: its speed is compared as well.
    """
    text = answer.text
    for at in range(0, len(text) - SAMPLE, INTERVAL):
        sample = text[at : at + SAMPLE]
        for other in (text.find(sample, at + SAMPLE), text.rfind(sample, 0, at)):
            period = abs(other - at)
            if other >= 0 and period <= LONGEST_PERIOD:
                copies = _copies(text, min(at, other), period)
                if copies >= COPIES and copies * period >= SPAN:
                    return True
    return False


def _copies(text: str, start: int, period: int) -> int:
    """How many whole copies of text[start : start + period] stand in one row with it, itself included."""
    unit = text[start : start + period]
    first, end = start, start + period
    while first >= period and text.startswith(unit, first - period):
        first -= period
    while text.startswith(unit, end):
        end += period
    return (end - first) // period


def compression_ratio(answer: Answer) -> float:
    """Bytes over compressed bytes at level 1, the cheapest: Whisper, at level 6, repeats a decoding above 2.4."""
    data = answer.text.encode()
    return len(data) / len(zlib.compress(data, 1))


LONGEST_MEAN_WORD = 16  # characters with the space; more than any language's with spaces, less than a line without


def repeated_ngrams(answer: Answer, *, size: int = 4) -> float:
    """The share of the n-grams that are there already: 1 - unique / all. Over words; over characters without spaces."""
    words = answer.text.split()
    units: Sequence[str] = words if len(answer.text) <= LONGEST_MEAN_WORD * len(words) else answer.text
    grams = [tuple(units[at : at + size]) for at in range(len(units) - size + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _vllm(name: str, settings: Repetition) -> Rule:
    bounds = f"{settings.min_pattern_size} to {settings.max_pattern_size} tokens, {settings.min_count} times"
    source = f"vLLM's repetition_detection, patterns of {bounds} (vllm.v1.core.sched.utils)"
    return Rule(f"vLLM, {name}", source, True, partial(stopped_by_vllm, settings), ("vllm",))


PEERS: tuple[Rule | Score, ...] = (
    # Values over vLLM's bounds switch its check off without a word (a smallest pattern over the largest, fewer than two
    # times), so each setting here has to catch a plain loop in the tests.
    # The default: what prefactory's recipes ask of the engine.
    _vllm("default", Repetition()),
    # Short: words and phrases, the cheapest to check at every token; values that public serving code ships with.
    _vllm("short", Repetition(max_pattern_size=20, min_pattern_size=3, min_count=4)),
    # Long: sentences and paragraphs, and as few copies as our own exact rule asks for; the example in the documentation that
    # vLLM's pull request 52677 adds for loops in reasoning. A unit of 500 bytes is about 128 tokens of English.
    _vllm("long", Repetition(max_pattern_size=128, min_pattern_size=4, min_count=4)),
    Rule(
        "30-gram 20 times",
        "Pipis et al. 2025, arXiv 2512.12895: any n-gram of 30 tokens at least 20 times (our implementation)",
        False,
        one_ngram_often,
    ),
    Rule(
        "Gopher",
        "Rae et al. 2021, arXiv 2112.11446, table A1: datatrove's GopherRepetitionFilter with its defaults",
        True,
        dropped_by_gopher,
        ("datatrove", "regex", "spacy"),
    ),
    Rule(
        "antidoom",
        "Liquid AI 2026, liquid.ai/blog/antidoom, github.com/Liquid4All/antidoom (our reading of its published rule)",
        False,
        caught_by_antidoom,
    ),
    Score(
        "zlib",
        "the compression ratio of Radford et al. 2022 (Whisper), arXiv 2212.04356; zlib level 1, threshold calibrated",
        False,
        compression_ratio,
    ),
    Score(
        "4-gram uniqueness",
        "seq-rep-4 of Welleck et al. 2020, arXiv 1908.04319; threshold calibrated (our implementation)",
        False,
        repeated_ngrams,
    ),
)


def peers() -> tuple[tuple[Rule | Score, ...], list[tuple[str, str]]]:
    """The peers that can run in this environment; and the name of each other one, with the reason."""
    absent = {peer.name: [package for package in peer.packages if find_spec(package) is None] for peer in PEERS}
    missing = [(name, f"not installed: {', '.join(packages)}") for name, packages in absent.items() if packages]
    return tuple(peer for peer in PEERS if not absent[peer.name]), missing


def best_threshold(scores: Sequence[float], labels: Sequence[bool]) -> float:
    """The threshold t with the best F1 of "score >= t" against the labels; of equally good ones the highest.

    It lies half-way to the next lower score, so that an unseen answer that scores a little less is still caught.
    """
    if not any(labels):
        raise ValueError("no loop among the labels: there is nothing to calibrate on")
    pairs = sorted(zip(scores, labels, strict=True), reverse=True)
    found = list(accumulate(label for _, label in pairs))
    cuts = [n for n in range(1, len(pairs) + 1) if n == len(pairs) or pairs[n][0] < pairs[n - 1][0]]
    flagged = max(cuts, key=lambda n: found[n - 1] / (n + found[-1]))  # half of F1
    lowest = pairs[flagged - 1][0]
    if flagged == len(pairs):
        return lowest
    below = pairs[flagged][0]
    middle = (lowest + below) / 2
    return middle if middle > below else lowest  # between neighbouring floats there is no middle
