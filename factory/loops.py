"""The doom-loop detector: whether an answer would go on repeating itself, since where, and what of it to keep.

The rule that must not break: everything here is a pure function of the text, the reason it ended, the prompt and the
token ids. A change that can alter any evidence changes DETECTOR_VERSION, which is part of a run's identity.

A run repeats with period p over l bytes of UTF-8: repeats e = l/p, redundancy w = l - p, share f = w/n of the n bytes.
It is worded where the repeated unit has a letter. Rules are tried in order, hard ones first; the first that holds gives
the evidence, and of several runs that meet it the one of the greatest redundancy does.

| rule     | kind | the answer        | the run ends within | and                                               |
|----------|------|-------------------|---------------------|---------------------------------------------------|
| exact    | hard | ran into the cap  | the last 64 bytes   | e >= 4, w >= 192, worded or (w >= 1024, f >= 0.1) |
| exact    | hard | the engine ended  | 0 bytes             | e >= 3, w >= 24                                   |
| finished | soft | ended by itself   | the last 512 bytes  | e >= 8, w >= 1024, f >= 0.5, worded               |

`finished` allows a closing line or two after the run. It is tested on the masked text too (`masked`): a list whose
items are the same but for their number. There the unit needs 16 letters, which tables lack, and at most one number may
change from copy to copy: "99 bottles … take one down … 98 bottles" counts, it does not repeat.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa

from factory.periods import Run, largest, stretches, symbols, tail_runs
from schemas.rows import Loop, LoopEvidence, LoopRule
from schemas.tables import LOOPS

DETECTOR_VERSION: Final = "1"

_CONTINUATION: Final = bytes(range(0x80, 0xC0))  # the bytes of UTF-8 that start no character
_MASKED: Final = re.compile(r"(\d+)|[^\S ]\s*| \s+")
_SPACE: Final = re.compile(r"\s+")
_NO_WORD: Final = re.compile(r"[\W_]+")

_VERB: Final = re.compile(
    r"\b(?:write|repeat|say|print|type|copy|output|recite|sing"  # English
    r"|écri\w+|répét\w+|répèt\w+|dis|dites|recopi\w+|schreib\w*|wiederhol\w*|sag\w*|kopier\w*"  # French, German
    r"|escrib\w+|escrev\w+|repit\w+|repet\w+|ripet\w+|diga|copi\w+|scriv\w+)\b"  # Spanish, Portuguese, Italian
    r"|\bdi(?=[' ]*[\"«“'])"  # "di" is also Italian for "of"
    r"|اكتب|كرر|قل|انسخ|[写寫抄说說念]|重[复複]|输出|書|繰り返|くり返|言|써|쓰|적어|반복|말해"
)
_WORDS: Final = {
    **dict.fromkeys(("hundred", "cent", "hundert", "cien", "cem", "cento", "百", "백", "مئة", "مائة"), 100),
    **dict.fromkeys(("thousand", "mille", "tausend", "mil", "千", "천", "ألف"), 1000),
}
_COUNT: Final = re.compile(
    rf"(?<![\d.,])(\d{{1,3}}(?:[.,' \u00a0\u202f]\d{{3}})+|\d+|{'|'.join(_WORDS)})"
    r"[ \u00a0-]?(?:times\b|fois\b|mal\b|veces\b|vezes\b|volte\b|مرة|مرات|[遍次回번회])"
)


@dataclass(frozen=True, slots=True)
class _Answer:
    text: str
    finish_reason: str


@dataclass(frozen=True, slots=True)
class _Finding:
    """What a rule saw."""

    evidence: LoopEvidence
    unit: str  # what is repeated, which decides whether the prompt asked for it
    verbatim: bool  # the copies are equal as they stand, not only in the masked text


def detect(text: str, finish_reason: str, *, prompt: str = "", token_ids: Sequence[int] | None = None) -> LoopEvidence:
    """The evidence for a loop in an answer of text `text`.

    `prompt` is what the user said. A hard loop is soft where the prompt asks for it (`asked_for`). `token_ids` are the
    answer's; without them, or where they show no such run, the evidence has no `onset_token`. The period counts UTF-8
    bytes of `text`; where only the masked text repeats, it is the length of the second copy as it stands in `text`.
    """
    rules: tuple[Callable[[_Answer], _Finding | None], ...] = (_exact, _finished)
    answer = _Answer(text, finish_reason)
    finding = next((found for rule in rules if (found := rule(answer)) is not None), None)
    if finding is None:
        return LoopEvidence()
    evidence = finding.evidence
    if evidence.kind is Loop.HARD and asked_for(prompt, finding.unit, evidence.repeats or 0.0):
        evidence = replace(evidence, kind=Loop.SOFT)
    if token_ids is None or not finding.verbatim:
        return evidence
    return replace(evidence, onset_token=onset_token(token_ids, evidence))


def detect_batch(answers: pa.RecordBatch) -> pa.RecordBatch:
    """The columns `schemas.tables.LOOPS` for a batch of answers, row by row in the same order.

    `answers` has the columns `text` (any string type, or binary that is UTF-8) and `finish_reason` (any string type),
    and if known `prompt` (any string type) and `token_ids` (any list of integers). Where the text is NULL, every
    column of its row is.
    """
    columns = {name: answers.column(name).to_pylist() for name in answers.schema.names}
    nothing = [None] * answers.num_rows
    found: dict[str, list[object]] = {name: [] for name in LOOPS.names}
    for text, finish, prompt, ids in zip(
        columns["text"],
        columns["finish_reason"],
        columns.get("prompt", nothing),
        columns.get("token_ids", nothing),
        strict=True,
    ):
        evidence = None if text is None else detect(text, finish, prompt=prompt or "", token_ids=ids)
        for name in LOOPS.names:
            field = name.removeprefix("loop_").replace("loop", "kind")
            found[name].append(None if evidence is None else getattr(evidence, field))
    return pa.RecordBatch.from_pydict(found, schema=LOOPS)


def _exact(answer: _Answer) -> _Finding | None:
    raw = _utf8(answer.text)
    if answer.finish_reason == "repetition":
        slack = 3 if answer.text.endswith("\ufffd") else 0  # the end cut through a character
        runs = tail_runs(raw, slack=slack, repeats=3, redundancy=24)
    elif answer.finish_reason == "length":
        runs = [
            run
            for run in tail_runs(raw, slack=64, repeats=4, redundancy=192)
            if _letters(raw, run) or (run.redundancy >= 1024 and run.redundancy >= 0.1 * len(raw))
        ]
    else:
        return None
    run = largest(runs)
    return None if run is None else _finding(Loop.HARD, LoopRule.EXACT, raw, run)


def _finished(answer: _Answer) -> _Finding | None:
    if answer.finish_reason in ("length", "repetition"):
        return None
    raw = _utf8(answer.text)
    run = largest(_finished_runs(raw, letters=1))
    if run is not None:
        return _finding(Loop.SOFT, LoopRule.FINISHED, raw, run)
    return _finished_masked(answer.text)


def _finished_masked(text: str) -> _Finding | None:
    mask = _utf8(masked(text))
    runs = [run for run in _finished_runs(mask, letters=16) if _changing_numbers(text, mask, run) <= 1]
    run = largest(runs)
    if run is None:
        return None
    finding = _finding(Loop.SOFT, LoopRule.FINISHED, mask, run)
    onset, second = (_unmasked(text, _character(mask, at)) for at in (run.onset, run.onset + run.period))
    evidence = replace(finding.evidence, onset=onset, period=len(_utf8(text[onset:second])))
    return replace(finding, evidence=evidence, verbatim=False)


def _finished_runs(raw: bytes, letters: int) -> list[Run]:
    runs = tail_runs(raw, slack=512, repeats=8, redundancy=1024)
    return [run for run in runs if run.redundancy >= 0.5 * len(raw) and _letters(raw, run) >= letters]


def _finding(kind: Loop, rule: LoopRule, raw: bytes, run: Run) -> _Finding:
    evidence = LoopEvidence(
        kind=kind,
        rule=rule,
        onset=_character(raw, run.onset),
        period=run.period,
        repeats=run.repeats,
        share=run.redundancy / len(raw),
    )
    start = run.start
    while raw[start] in _CONTINUATION:  # the run may begin inside a character
        start += 1
    return _Finding(evidence, raw[start : start + run.period].decode(errors="replace"), verbatim=True)


def _letters(raw: bytes, run: Run) -> int:
    """The letters of the unit, counted over two copies: one copy may begin and end inside a character."""
    copies = raw[run.start : run.start + 2 * run.period].decode(errors="ignore")
    return (sum(map(str.isalpha, copies)) + 1) // 2


def masked(text: str) -> str:
    """The text with digit runs as `0`, in lower case, and with white space as single blanks."""
    return _MASKED.sub(lambda match: "0" if match[1] else " ", _lowered(text))


def _lowered(text: str) -> str:
    """Lower case of the same length: the few characters that grow (İ) stay as they are."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(low if len(low := character.lower()) == 1 else character for character in text)


def _unmasked(text: str, place: int) -> int:
    """Where the character at `place` of the masked text stands in `text`."""
    folded = 0
    for match in _MASKED.finditer(_lowered(text)):
        if match.start() - folded >= place:
            break
        folded += len(match[0]) - 1
    return place + folded


def _changing_numbers(text: str, mask: bytes, run: Run) -> int:
    """How many numbers of the unit change from copy to copy; those that change alike ("5. Fact 5") count once."""
    start, stop = (_unmasked(text, _character(mask, at)) for at in (run.start, run.stop))
    numbers = re.findall(r"\d+", text[start:stop])
    each = mask.count(b"0", run.start, run.onset)
    whole = len(numbers) // each * each if each else 0
    columns = {tuple(numbers[column:whole:each]) for column in range(each)}
    return sum(len(set(column)) > 1 for column in columns)


def asked_for(prompt: str, unit: str, repeats: float) -> bool:
    """Whether the prompt holds the unit twice itself, or asks to say it at least that often.

    Twice: two copies, wherever they begin in the unit, white space apart; of a unit under 16 characters as many in a
    row as make 16, because every prompt holds "the" twice. Asks: it has a verb of saying ("write", "répète", "写"), a
    count ("100 times", "cent fois", "100回") that the answer has not passed, and the unit, punctuation apart.
    """
    plain, short = _SPACE.sub("", unit), _SPACE.sub("", prompt)
    if plain and sum(length // len(plain) for length in stretches(short, plain) if length >= 16) >= 2:
        return True
    prompt, unit = prompt.lower(), _NO_WORD.sub("", unit.lower())
    counts = [_number(match[1]) for match in _COUNT.finditer(prompt)]
    if not _VERB.search(prompt) or repeats > max(counts, default=0) + 1:
        return False
    return bool(stretches(_NO_WORD.sub("", prompt), unit))


def _number(count: str) -> int:
    return _WORDS.get(count) or int("".join(filter(str.isdecimal, count))[:9])


def onset_token(token_ids: Sequence[int], evidence: LoopEvidence) -> int | None:
    """The index of the token that begins the second copy in the ids, found without a tokenizer.

    The ids are searched as the text is. Equal ids are equal bytes, so the token never lies before the text's onset; it
    lies later by what was tokenised otherwise in the first copies. None where the ids show no run that can be the
    text's: one that holds its share of the ids, and in which each copy stands for a whole number of the text's
    copies, with at most two of its own missing.
    """
    run = _token_run(token_ids, evidence)
    return run.onset if run is not None and _copies_in(run, evidence) else None


def _token_run(token_ids: Sequence[int], evidence: LoopEvidence) -> Run | None:
    """The largest run that ends with the ids, or at most 16 tokens before."""
    ids = symbols(token_ids)
    at_end = tail_runs(ids, slack=0, repeats=3, redundancy=1)
    run = largest(at_end + tail_runs(ids, slack=16, repeats=3, redundancy=32))
    # A looped token may be far longer than others (blanks), but not without bounds: "..." ends many texts.
    return None if run is None or 16 * run.redundancy < (evidence.share or 0.0) * len(ids) else run


def _copies_in(run: Run, evidence: LoopEvidence) -> list[int]:
    """How many of the text's copies one copy of the ids may be."""
    repeats = evidence.repeats or 0.0
    most = int(repeats // int(run.repeats))
    return [copies for copies in range(1, most + 1) if repeats < (run.repeats + 2) * copies]


def trim(
    text: str, token_ids: Sequence[int] | None, evidence: LoopEvidence, keep_periods: int
) -> tuple[str, tuple[int, ...] | None]:
    """The text up to `keep_periods` copies of the unit after the onset, and the ids of just that text.

    Without ids the cut is at onset + keep_periods * period; nothing is cut where that is past the end. With ids both
    are cut by the same number of whole copies, counted from the end and as many as leave `keep_periods` after the
    onset: only there is it known, without a tokenizer, that ids and text say the same. So up to one copy of the ids
    more is kept. Where the run does not reach the end of both, or it is not certain how many of the text's copies one
    of the ids' is, the ids are None: no ids are better than ids that say something else. (The ids may begin before
    the text, with reasoning split off, and end with part of a character where the engine left that out of the text.)
    """
    everything = text, None if token_ids is None else tuple(token_ids)
    if evidence.onset is None or evidence.period is None:
        return everything
    raw, period = _utf8(text), evidence.period
    onset = len(_utf8(text[: evidence.onset]))
    cut = onset + keep_periods * period
    if cut >= len(raw):
        return everything
    ends_both = period <= onset and raw[onset:] == raw[onset - period : -period]
    if token_ids is not None and ends_both and (matched := _matched(token_ids, evidence)) is not None:
        run, copies = matched
        dropped = min((len(raw) - cut) // (copies * period), run.length // run.period)
        text = text[: _character(raw, len(raw) - dropped * copies * period)]
        return text, tuple(token_ids[: run.stop - dropped * run.period])
    while raw[cut] in _CONTINUATION:
        cut -= 1
    return text[: _character(raw, cut)], None


def _matched(token_ids: Sequence[int], evidence: LoopEvidence) -> tuple[Run, int] | None:
    """The run that ends the ids and how many of the text's copies each of its own is, where that is certain."""
    run = _token_run(token_ids, evidence)
    if run is None or run.stop != len(token_ids) or len(copies := _copies_in(run, evidence)) != 1:
        return None
    return run, copies[0]


def _utf8(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def _character(raw: bytes, place: int) -> int:
    """The index of the first character that starts at or after byte `place`."""
    return place if raw.isascii() else len(raw[:place].translate(None, _CONTINUATION))
