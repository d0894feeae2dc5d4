"""Checkpoints side by side: the figures of each, and of each later one what became of it against the first.

The rule that must not break: all of a report is over the same prompts and the same passages. A prompt that the run was trained
on is in no column.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass

from pydantic import JsonValue

from factory import store
from factory.evaluation.comparing import Compared, Wins, compare
from factory.evaluation.evaluating import Evaluated
from factory.evaluation.figures import Figures, answer_figures, bits_per_byte, perplexity
from factory.evaluation.gates import Tripped, gates
from factory.evaluation.held_out import known
from factory.evaluation.paired import Paired, Rate
from factory.run import RunFolder
from schemas.errors import Fixable
from schemas.evaluation import Bounds
from schemas.rows import Prompt


@dataclass(frozen=True, slots=True)
class Against:
    """A later checkpoint against the first: by decoding and cap, and the gates that do not hold."""

    checkpoint: str
    digest: str
    compared: tuple[Compared, ...]
    tripped: tuple[Tripped, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """`figures` of each checkpoint, the baseline first; `against` has one less. `trained`: prompts of the run, 0 before it."""

    figures: tuple[Figures, ...]
    against: tuple[Against, ...]
    trained: int


def report(found: Sequence[Evaluated], trained: Sequence[Prompt], bounds: Bounds) -> Report:
    """`trained`: the prompts of the run. Raises Fixable where no held-out prompt is left, or two are the same."""
    prompts = found[0].prompts
    left_out = known(prompts, trained)
    kept = [prompt for prompt in prompts if prompt.prompt_id not in left_out]
    if not kept:
        raise Fixable("evaluation.paths: every prompt is one that the run was trained on; name others")
    seen = {prompt.source for prompt in trained}
    read = frozenset.intersection(*(frozenset(passage.name for passage in one.passages) for one in found))
    figures = tuple(_figures(one, kept, len(left_out), seen, read) for one in found)
    ids = {prompt.prompt_id for prompt in kept}
    against = tuple(
        _against(found[0], one, figures[0], own, ids, bounds) for one, own in zip(found[1:], figures[1:], strict=True)
    )
    return Report(figures, against, len(trained))


def _figures(one: Evaluated, prompts: Sequence[Prompt], left_out: int, seen: set[str], read: frozenset[str]) -> Figures:
    """`read`: the passages that every checkpoint could be asked about."""
    passages = [passage for passage in one.passages if passage.name in read]
    return Figures(
        checkpoint=one.checkpoint,
        digest=one.digest,
        prompts=len(prompts),
        left_out=left_out,
        answers=tuple(figures for take in one.takes for figures in answer_figures(take, prompts, seen)),
        perplexity=perplexity(passages),
        bits_per_byte=bits_per_byte(passages),
    )


def _against(
    first: Evaluated, second: Evaluated, before: Figures, after: Figures, ids: set[str], bounds: Bounds
) -> Against:
    judged = None if first.scores is None or second.scores is None else (first.scores, second.scores)
    compared = compare(first.takes, second.takes, judged, ids)
    return Against(second.checkpoint, second.digest, compared, gates(before, after, compared, bounds))


def write_report(whole: Report, found: Sequence[Evaluated]) -> None:
    """Each checkpoint's own figures beside its answers, with what became of it against the first."""
    against: Mapping[str, Against] = {one.digest: one for one in whole.against}
    for one, figures in zip(found, whole.figures, strict=True):
        document = {"figures": plain(figures)}
        if one.digest in against:
            document |= {"baseline": whole.figures[0].digest, "against_baseline": plain(against[one.digest])}
        path = RunFolder(one.root).measured_path("figures.json")
        store.write_text(path, json.dumps(document, indent=1) + "\n")


def plain(value: object) -> JsonValue:
    """As JSON, with each rate's value and interval beside its counts."""
    match value:
        case Rate():
            return {"hits": value.hits, "of": value.of, "rate": value.value, "interval": list(value.interval)}
        case Paired():
            tested = {"difference": value.difference, "interval": list(value.interval), "p_value": value.p_value}
            return {field.name: getattr(value, field.name) for field in fields(value)} | tested
        case Wins():
            return {"won": value.won, "tied": value.tied, "lost": value.lost, "win_rate": plain(value.rate)}
        case tuple():
            return [plain(one) for one in value]
        case None | bool() | int() | float() | str():
            return value
    assert is_dataclass(value), f"{value!r} is no part of a report"
    return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
