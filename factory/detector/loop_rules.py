"""The rules of the doom-loop detector: what makes an answer a loop, hard or soft.

The rule that must not break: everything here is a pure function of the text and the reason it ended, and linear in the
text. A change that can alter any finding changes `factory.loops.DETECTOR_VERSION`, which is part of a run's identity.

A run repeats with period p over l bytes of UTF-8: repeats e = l/p, redundancy w = l - p, share f = w/n of the n bytes.
It is worded where the repeated unit has a letter. An answer is unfinished where it ran into the cap or the engine ended
it. Rules are tried in the order of the table; the first that holds gives the finding, and of several runs that meet it
the one of the greatest redundancy does.

| rule           | kind | the answer        | the run ends within | and                                               |
|----------------|------|-------------------|---------------------|---------------------------------------------------|
| exact          | hard | ran into the cap  | the last 64 bytes   | e >= 4, w >= 192, worded or (w >= 512, f >= 0.1)  |
| exact          | hard | the engine ended  | 0 bytes             | e >= 3, w >= 24                                   |
| template       | hard | unfinished        | as for exact        | masked: e >= 6, w >= 1024, f >= 0.5               |
| near-duplicate | hard | unfinished        | 0 bytes             | 768 bytes, 0.25 n, said three times before        |
| near-duplicate | hard | unfinished        | 0 bytes             | 2048 bytes, 0.5 n, said twice before              |
| near-duplicate | hard | unfinished        | 0 bytes             | 512 bytes, 0.25 n, by short grams said 16 times   |
| template       | soft | unfinished        | as for exact        | masked: e >= 6, w >= 1024, f >= 0.2               |
| finished       | soft | ended by itself   | the last 512 bytes  | raw or masked: e >= 8, w >= 1024, f >= 0.5, worded |
| interior       | soft | any               | anywhere            | raw or masked: e >= 8, w >= 512, f >= 0.2, worded |

Masked: tested on the masked text (`factory.detector.masked`), where a list whose items differ by their number is a run.
There the unit needs 8 letters, which tables lack, and at most one number may change from copy to copy: "99 bottles … take one
down … 98 bottles" counts, it does not repeat. A near-duplicate end says nearly nothing new, in whatever order
(`factory.detector.near_duplicates`); letters are at least a quarter of it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from factory.detector.masked import masked_bytes, unmasked
from factory.detector.near_duplicates import echo
from factory.detector.periods import Run, inner_runs, largest, tail_runs
from factory.detector.utf8 import character_at, decoded, next_character, utf8
from schemas.rows import Loop, LoopEvidence, LoopRule

_CAP: Final = "length"
_ENGINE: Final = "repetition"  # vLLM's `repetition_detection` ended it
_MASKED_LETTERS: Final = 8


@dataclass(frozen=True)
class Answer:
    """What the rules look at: an answer as UTF-8, why it ended, and its masked text, made when first wanted."""

    raw: bytes
    finish_reason: str

    @property
    def unfinished(self) -> bool:
        return self.finish_reason in (_CAP, _ENGINE)

    @property
    def slack(self) -> int:
        """How far from the end a run may end. Where the engine ended it, only a character that was cut is forgiven."""
        if self.finish_reason == _CAP:
            return 64
        return 3 if self.raw.endswith("\ufffd".encode()) else 0

    @cached_property
    def mask(self) -> bytes:
        return masked_bytes(self.raw)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule saw. `verbatim`: the copies are equal as they stand, not only in the masked text."""

    evidence: LoopEvidence
    verbatim: bool


def find_loop(answer: Answer) -> Finding | None:
    """The finding of the first rule that holds."""
    return next((found for rule in _RULES if (found := rule(answer)) is not None), None)


def _exact(answer: Answer) -> Finding | None:
    raw = answer.raw
    if answer.finish_reason == _ENGINE:
        runs = tail_runs(raw, slack=answer.slack, repeats=3, redundancy=24)
    elif answer.finish_reason == _CAP:
        runs = [
            run
            for run in tail_runs(raw, slack=answer.slack, repeats=4, redundancy=192)
            if _letters(raw, run) or (run.redundancy >= 512 and run.redundancy >= 0.1 * len(raw))
        ]
    else:
        return None
    return _of_run(answer, Loop.HARD, LoopRule.EXACT, largest(runs))


def _template(answer: Answer, share: float, kind: Loop) -> Finding | None:
    if not answer.unfinished or _too_short(answer, 1024):
        return None
    runs = tail_runs(answer.mask, slack=answer.slack, repeats=6, redundancy=1024)
    return _of_masked_run(answer, kind, LoopRule.TEMPLATE, _repeating(answer, runs, share))


def _hard_template(answer: Answer) -> Finding | None:
    return _template(answer, 0.5, Loop.HARD)


def _soft_template(answer: Answer) -> Finding | None:
    return _template(answer, 0.2, Loop.SOFT)


def _near_duplicate(answer: Answer) -> Finding | None:
    raw = answer.raw
    found = echo(raw) if answer.unfinished else None
    if found is None or not _in_words(raw[found.start :]):
        return None
    onset = next_character(raw, found.start)
    repeats = (len(raw) - onset) / found.period + 1
    evidence = _evidence(raw, Loop.HARD, LoopRule.NEAR_DUPLICATE, onset, found.period, repeats, found.said / len(raw))
    return Finding(evidence, verbatim=False)


def _finished(answer: Answer) -> Finding | None:
    if answer.unfinished or _too_short(answer, 1024):
        return None
    return _raw_or_masked(
        answer, LoopRule.FINISHED, 0.5, lambda text: tail_runs(text, slack=512, repeats=8, redundancy=1024)
    )


def _interior(answer: Answer) -> Finding | None:
    if _too_short(answer, 512):
        return None
    return _raw_or_masked(
        answer,
        LoopRule.INTERIOR,
        0.2,
        lambda text: inner_runs(text, repeats=8, redundancy=max(512, (len(text) + 4) // 5)),
    )


def _too_short(answer: Answer, redundancy: int) -> bool:
    """Whether neither the text nor its mask, which is up to half as long again (Ⱥ has two bytes, ⱥ three), can say so much."""
    return 3 * len(answer.raw) <= 2 * redundancy


_RULES: Final[tuple[Callable[[Answer], Finding | None], ...]] = (
    _exact,
    _hard_template,
    _near_duplicate,
    _soft_template,
    _finished,
    _interior,
)


def _raw_or_masked(
    answer: Answer, rule: LoopRule, share: float, search: Callable[[bytes], list[Run]]
) -> Finding | None:
    """A soft loop in the answer as it stands, or else in its masked text."""
    raw = answer.raw
    runs = [run for run in search(raw) if run.redundancy >= share * len(raw) and _letters(raw, run)]
    if runs:
        return _of_run(answer, Loop.SOFT, rule, largest(runs))
    return _of_masked_run(answer, Loop.SOFT, rule, _repeating(answer, search(answer.mask), share))


def _repeating(answer: Answer, runs: Sequence[Run], share: float) -> Run | None:
    """The largest of the runs of the masked text that say the same again, rather than count or tabulate."""
    mask = answer.mask
    enough = [run for run in runs if run.redundancy >= share * len(mask) and _letters(mask, run) >= _MASKED_LETTERS]
    text = decoded(answer.raw) if enough else ""
    return largest([run for run in enough if _changing_numbers(text, mask, run) <= 1])


def _of_run(answer: Answer, kind: Loop, rule: LoopRule, run: Run | None) -> Finding | None:
    if run is None:
        return None
    onset = next_character(answer.raw, run.onset)
    share = run.redundancy / len(answer.raw)
    return Finding(_evidence(answer.raw, kind, rule, onset, run.period, run.repeats, share), verbatim=True)


def _of_masked_run(answer: Answer, kind: Loop, rule: LoopRule, run: Run | None) -> Finding | None:
    """The period is the length of the second copy as it stands in the text."""
    if run is None:
        return None
    text, mask = decoded(answer.raw), answer.mask
    onset, third = (
        len(utf8(text[: unmasked(text, character_at(mask, at))])) for at in (run.onset, run.onset + run.period)
    )
    share = run.redundancy / len(mask)
    return Finding(_evidence(answer.raw, kind, rule, onset, third - onset, run.repeats, share), verbatim=False)


def _evidence(
    raw: bytes, kind: Loop, rule: LoopRule, onset: int, period: int, repeats: float, share: float
) -> LoopEvidence:
    """`onset` is the byte, at which a character starts."""
    return LoopEvidence(
        kind=kind,
        rule=rule,
        onset=character_at(raw, onset),
        period=period,
        repeats=repeats,
        share=share,
        unit=decoded(raw[onset : next_character(raw, onset + period)]),
    )


def _letters(raw: bytes, run: Run) -> int:
    """The letters of the unit, counted over two copies: one copy may begin and end inside a character."""
    copies = raw[run.start : run.start + 2 * run.period].decode(errors="ignore")
    return (sum(map(str.isalpha, copies)) + 1) // 2


def _in_words(raw: bytes) -> bool:
    """Whether letters make up a quarter of the characters, as in prose and code and not in matrices and boards."""
    text = raw.decode(errors="ignore")
    return 4 * sum(map(str.isalpha, text)) >= len(text)


def _changing_numbers(text: str, mask: bytes, run: Run) -> int:
    """How many numbers of the unit change from copy to copy; those that change alike ("5. Fact 5") count once."""
    start, stop = (unmasked(text, character_at(mask, at)) for at in (run.start, run.stop))
    numbers = re.findall(r"\d+", text[start:stop])
    each = mask.count(b"0", run.start, run.onset)
    whole = len(numbers) // each * each if each else 0
    columns = {tuple(numbers[column:whole:each]) for column in range(each)}
    return sum(len(set(column)) > 1 for column in columns)
