"""What a checkpoint's answers come to, by decoding and token cap. Pure: rows in, figures out.

The rule that must not break: every rate stands beside the cap that it was seen at, since a low cap hides loops, and what is
not known (an answer without token ids, a check without a verdict) is left out and counted as such, never put as 0.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from factory.evaluation.paired import Rate
from factory.gathering.dedupe import words
from schemas.rows import Loop, Prompt, Rollout, Verdict, VerdictStatus

GREEDY, SAMPLED = "greedy", "sampled"
REPETITION = "repetition"  # the engine ended it, and it would have gone on to the cap


@dataclass(frozen=True, slots=True)
class Take:
    """Every answer as it stands at one cap, with what the verifiers say of it there."""

    max_tokens: int
    rollouts: tuple[Rollout, ...]
    checks: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True)
class Passage:
    """What the model makes of one passage of prose: natural log of its probability, over so many tokens.

    `name`: of the text, the same for every checkpoint.
    """

    name: str
    logprob: float
    tokens: int
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class KindFigures:
    """The hard loops of one kind of prompt, which is the name of its file. `seen`: the run trained on that kind."""

    source: str
    seen: bool
    hard: Rate


@dataclass(frozen=True, slots=True)
class AnswerFigures:
    """The answers of one decoding at one cap.

    `accuracy`: of the answers that a verifier could tell, those that every such verifier passed; `passed_loops` of them
    are hard loops all the same. `tokens` are mean and median, an answer that the engine stopped for repetition counted
    as long as the cap. `distinct`: see `distinct`; `repeated`: see `repeated`.
    """

    decoding: str
    max_tokens: int
    answers: int
    failed: int
    hard: Rate
    soft: Rate
    ended: Rate
    rules: tuple[tuple[str, str, int], ...]  # hard or soft, rule, answers
    accuracy: Rate
    verifiers: tuple[tuple[str, Rate], ...]
    passed_loops: int
    tokens: tuple[float, float] | None
    distinct: tuple[float | None, float | None, float | None]  # n = 1, 2, 3
    repeated: float | None
    kinds: tuple[KindFigures, ...]


@dataclass(frozen=True, slots=True)
class Figures:
    """All that is said of one checkpoint. `left_out`: prompts that the run was trained on, or nearly."""

    checkpoint: str
    digest: str
    prompts: int
    left_out: int
    answers: tuple[AnswerFigures, ...]
    perplexity: float | None
    bits_per_byte: float | None

    def at(self, decoding: str, max_tokens: int) -> AnswerFigures:
        return next(one for one in self.answers if (one.decoding, one.max_tokens) == (decoding, max_tokens))


def decoding_of(rollout: Rollout) -> str:
    return GREEDY if rollout.slot == GREEDY else SAMPLED


def answer_figures(take: Take, prompts: Sequence[Prompt], seen: Collection[str]) -> tuple[AnswerFigures, ...]:
    """Greedy, then sampled, over the answers to these prompts. `seen`: kinds that were trained on."""
    source = {prompt.prompt_id: prompt.source for prompt in prompts}
    own = [rollout for rollout in take.rollouts if rollout.prompt_id in source]
    told = passed(take.checks)
    parts = ((name, [one for one in own if decoding_of(one) == name]) for name in (GREEDY, SAMPLED))
    return tuple(_figures(name, take, part, source, told, seen) for name, part in parts if part)


def _figures(
    decoding: str,
    take: Take,
    own: Sequence[Rollout],
    source: Mapping[str, str],
    told: Mapping[str, Mapping[str, bool]],
    seen: Collection[str],
) -> AnswerFigures:
    answers = [one for one in own if one.text is not None]
    kinds = dict.fromkeys(source[one.prompt_id] for one in own)
    checked = {one.rollout_id: told[one.rollout_id] for one in answers if one.rollout_id in told}
    right = {rollout_id for rollout_id, by in checked.items() if all(by.values())}
    names = sorted({name for by in checked.values() for name in by})
    return AnswerFigures(
        decoding=decoding,
        max_tokens=take.max_tokens,
        answers=len(answers),
        failed=len(own) - len(answers),
        hard=_rate(answers, lambda one: one.loop is Loop.HARD),
        soft=_rate(answers, lambda one: one.loop is Loop.SOFT),
        ended=_rate(answers, lambda one: one.finished),
        rules=_rules(answers),
        accuracy=Rate(len(right), len(checked)),
        verifiers=tuple((name, _of([by[name] for by in checked.values() if name in by])) for name in names),
        passed_loops=sum(one.loop is Loop.HARD and one.rollout_id in right for one in answers),
        tokens=_lengths(answers, take.max_tokens),
        distinct=(distinct(answers, 1), distinct(answers, 2), distinct(answers, 3)),
        repeated=repeated(answers, 4),
        kinds=tuple(_kind(name, seen, [one for one in answers if source[one.prompt_id] == name]) for name in kinds),
    )


def passed(checks: Iterable[Verdict]) -> dict[str, dict[str, bool]]:
    """rollout_id -> verifier -> whether it passed, of the verdicts that could be had."""
    found: dict[str, dict[str, bool]] = {}
    for one in checks:
        if one.status is VerdictStatus.OK:
            found.setdefault(one.rollout_id, {})[one.judge] = one.score == 1.0
    return found


def _kind(name: str, seen: Collection[str], answers: Sequence[Rollout]) -> KindFigures:
    return KindFigures(name, name in seen, _of([one.loop is Loop.HARD for one in answers]))


def _rate(answers: Sequence[Rollout], holds: Callable[[Rollout], bool]) -> Rate:
    return _of([holds(one) for one in answers])


def _of(outcomes: Sequence[bool]) -> Rate:
    return Rate(sum(outcomes), len(outcomes))


def _rules(answers: Sequence[Rollout]) -> tuple[tuple[str, str, int], ...]:
    counted = Counter((str(one.loop), str(one.loop_rule)) for one in answers if one.loop_rule is not None)
    return tuple((kind, rule, count) for (kind, rule), count in sorted(counted.items()))


def _lengths(answers: Sequence[Rollout], max_tokens: int) -> tuple[float, float] | None:
    found = [
        max_tokens if one.finish_reason == REPETITION else len(one.token_ids)
        for one in answers
        if one.token_ids is not None
    ]
    return (fmean(found), float(median(found))) if found else None


def distinct(answers: Sequence[Rollout], n: int) -> float | None:
    """Distinct n-grams over all n-grams of all answers together (Li et al., arXiv 1510.03055, section 5.2), of words.

    It falls with the length and the number of answers: compare it between checkpoints, over the same prompts, only.
    """
    grams = [gram for one in answers for gram in _grams(one.answer, n)]
    return len(set(grams)) / len(grams) if grams else None


def repeated(answers: Sequence[Rollout], n: int) -> float | None:
    """Share of the n-grams of an answer that stand earlier in it, averaged over the answers that have any.

    seq-rep-n of Welleck et al. (arXiv 1908.04319, section 6), of words.
    """
    each = [grams for one in answers if (grams := _grams(one.answer, n))]
    return fmean(1 - len(set(grams)) / len(grams) for grams in each) if each else None


def _grams(text: str, n: int) -> list[tuple[str, ...]]:
    said = words(text)
    return [tuple(said[start : start + n]) for start in range(len(said) - n + 1)]


def perplexity(passages: Sequence[Passage]) -> float | None:
    """exp of the mean negative log-probability of a token, over all passages together."""
    tokens = sum(one.tokens for one in passages)
    return math.exp(-math.fsum(one.logprob for one in passages) / tokens) if tokens else None


def bits_per_byte(passages: Sequence[Passage]) -> float | None:
    """The same in a unit that does not depend on the tokenizer; the first token of each passage costs nothing."""
    size = sum(one.size for one in passages)
    return -math.fsum(one.logprob for one in passages) / math.log(2) / size if size else None
