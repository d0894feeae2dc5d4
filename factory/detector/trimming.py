"""Where a loop begins in the token ids, and what of a looped answer to keep.

The rule that must not break: ids and text that are kept together say the same. No tokenizer is asked, because the ids are
what was generated and the text may tokenise otherwise.
"""

from collections.abc import Sequence
from math import ceil

from factory.detector.periods import Run, inner_runs, largest, symbols, tail_runs
from factory.detector.utf8 import character_at, last_character, utf8
from schemas.rows import LoopEvidence, LoopRule


def onset_token(token_ids: Sequence[int], evidence: LoopEvidence) -> int | None:
    """The index of the token that begins the second copy in the ids, found without a tokenizer.

    The ids are searched as the text is. Equal ids are equal bytes, so the token never lies before the text's onset; it
    lies later by what was tokenised otherwise in the first copies. None where the ids show no run that can be the
    text's: one that holds its share of the ids, and in which each copy stands for a whole number of the text's
    copies, with at most two of its own missing.
    """
    run = _tail_run(token_ids, evidence)
    if evidence.rule in (LoopRule.FINISHED, LoopRule.INTERIOR) and not (run and _copies_in(run, evidence)):
        run = _inner_run(token_ids, evidence)
    return run.onset if run is not None and _copies_in(run, evidence) else None


def _tail_run(token_ids: Sequence[int], evidence: LoopEvidence) -> Run | None:
    """The largest run that ends with the ids, or at most 16 tokens before."""
    ids = symbols(token_ids)
    at_end = tail_runs(ids, slack=0, repeats=3, redundancy=1)
    run = largest(at_end + tail_runs(ids, slack=16, repeats=3, redundancy=32))
    return None if run is None or run.redundancy < _least(ids, evidence) else run


def _inner_run(token_ids: Sequence[int], evidence: LoopEvidence) -> Run | None:
    """The largest run anywhere in the ids that can be the text's."""
    ids = symbols(token_ids)
    runs = inner_runs(ids, repeats=3, redundancy=max(8, ceil(_least(ids, evidence))))
    return largest([run for run in runs if _copies_in(run, evidence)])


def _least(ids: str, evidence: LoopEvidence) -> float:
    """A looped token may be far longer than others (blanks), but not without bounds: "..." ends many texts."""
    return (evidence.share or 0.0) * len(ids) / 16


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
    raw, period = utf8(text), evidence.period
    onset = len(utf8(text[: evidence.onset]))
    cut = onset + keep_periods * period
    if cut >= len(raw):
        return everything
    ends_both = period <= onset and raw[onset:] == raw[onset - period : -period]
    if token_ids is not None and ends_both and (matched := _matched(token_ids, evidence)) is not None:
        run, copies = matched
        dropped = min((len(raw) - cut) // (copies * period), run.length // run.period)
        text = text[: character_at(raw, len(raw) - dropped * copies * period)]
        return text, tuple(token_ids[: run.stop - dropped * run.period])
    return text[: character_at(raw, last_character(raw, cut))], None


def _matched(token_ids: Sequence[int], evidence: LoopEvidence) -> tuple[Run, int] | None:
    """The run that ends the ids and how many of the text's copies each of its own is, where that is certain."""
    run = _tail_run(token_ids, evidence)
    if run is None or run.stop != len(token_ids) or len(copies := _copies_in(run, evidence)) != 1:
        return None
    return run, copies[0]
