"""What is looked at before a training: is this a set of pairs that anybody should train on?

The rule that must not break: it needs no model and nothing but the pairs, so that what is wrong with them costs seconds.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from factory.training.token_pairs import TokenPair, TokenPairs, short_enough
from schemas.rows import Cause
from schemas.train import Train
from schemas.training import PairFigures

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
GRAM = 3  # tokens
COMMON = 0.5  # share of the prompts from which on a 3-gram is the chat template's, and says nothing
ROUNDING = 1e-9  # 0.55 of 100 is a little more than 55
_FEW = 4  # prompts among which nothing can be called common
_NAMED = 3  # prompts that a reason names

Grams = frozenset[tuple[int, ...]]


def pair_figures(pairs: TokenPairs, train: Train) -> PairFigures:
    used, test = short_enough(pairs.train, train.max_length), short_enough(pairs.test, train.max_length)
    kept = {pair.prompt_id for pair in used}
    causes = Counter(pair.cause for pair in used)
    both = sorted({pair.prompt_id for pair in test if pair.prompt_id in kept})
    return PairFigures(
        pairs=len(pairs.train),
        used=len(used),
        too_long=[pair.prompt_id for pair in pairs.train if pair.longest > train.max_length],
        test_pairs=len(pairs.test),
        test_used=len(test),
        causes=dict(sorted(causes.items())),
        loop_share=causes[Cause.LOOP] / len(used) if used else 0.0,
        margins=_quantiles([pair.margin for pair in used if pair.cause == Cause.JURY and pair.margin is not None]),
        length_ratios=_quantiles([len(pair.chosen_ids) / max(len(pair.rejected_ids), 1) for pair in used]),
        unended={
            "chosen": sum(not pair.chosen_ended for pair in used),
            "rejected": sum(not pair.rejected_ended for pair in used),
        },
        trimmed=sum(pair.rejected_trimmed for pair in used),
        tokens=sum(pair.tokens for pair in used),
        in_both_splits=both,
        near_twins=near_twins(used, [pair for pair in test if pair.prompt_id not in kept], train.guards.near_text),
    )


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    return {f"{at:g}": float(value) for at, value in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)}


def near_twins(train: Sequence[TokenPair], test: Sequence[TokenPair], threshold: float) -> list[str]:
    """Ids of the test prompts whose 3-grams of tokens have that Jaccard similarity or more with a training prompt's.

    What half of all prompts have in common, the chat template, is left out. A prompt that has nothing else is compared whole.
    Two that are so similar share `threshold` of either's 3-grams, so that one of the others and one more at least is in both:
    only who has one of the rarest is looked at (prefix filtering; Chaudhuri, Ganti and Kaushik, ICDE 2006).
    """
    common = _common([pair.prompt_ids for pair in (*train, *test)])
    there: defaultdict[tuple[int, ...], set[int]] = defaultdict(set)
    grams = [_grams(pair.prompt_ids) - common for pair in train]
    for number, found in enumerate(grams):
        for gram in found:
            there[gram].add(number)
    whole = {pair.prompt_ids for pair in train}

    def has_twin(pair: TokenPair) -> bool:
        own = sorted(_grams(pair.prompt_ids) - common, key=lambda gram: (len(there.get(gram, ())), gram))
        rarest = own[: len(own) - math.ceil(threshold * len(own) - ROUNDING) + 1]
        found = {number for gram in rarest for number in there.get(gram, ())}
        all_own = frozenset(own)
        return pair.prompt_ids in whole or any(_jaccard(all_own, grams[number]) >= threshold for number in found)

    return [pair.prompt_id for pair in test if has_twin(pair)]


def _jaccard(one: Grams, other: Grams) -> float:
    return len(one & other) / len(one | other)


def _grams(ids: Sequence[int]) -> Grams:
    return frozenset(zip(*(ids[at:] for at in range(GRAM)), strict=False))


def _common(prompts: Sequence[Sequence[int]]) -> Grams:
    if len(prompts) < _FEW:
        return frozenset()
    counts = Counter(gram for prompt in prompts for gram in _grams(prompt))
    return frozenset(gram for gram, count in counts.items() if count > COMMON * len(prompts))


def reason_not_to_train(figures: PairFigures, train: Train) -> str | None:
    """The first bound that the pairs break, with the field that sets it; None where they break none."""
    return next(_broken(figures, train), None)


def _broken(figures: PairFigures, train: Train) -> Iterator[str]:
    guards, ratio, margin = train.guards, figures.length_ratios.get("0.5"), figures.margins.get("0.5")
    too_long = len(figures.too_long) / figures.pairs if figures.pairs else 0.0
    twins = figures.in_both_splits + figures.near_twins
    overlap = len(twins) / figures.test_used if figures.test_used else 0.0
    if too_long > guards.max_too_long:
        yield (
            f"{len(figures.too_long)} of {figures.pairs} pairs are longer than train.max_length {train.max_length} "
            f"tokens, more than train.guards.max_too_long {guards.max_too_long:g}"
        )
    if figures.used < guards.min_pairs:
        yield f"{figures.used} pairs to train on, fewer than train.guards.min_pairs {guards.min_pairs}"
    if figures.loop_share > guards.max_loop_share:
        yield (
            f"{figures.loop_share:.0%} of the pairs are forced by a loop, more than train.guards.max_loop_share "
            f"{guards.max_loop_share:g}"
        )
    if margin is not None and margin < guards.min_median_margin:
        yield f"the jury's median margin is {margin:.2f}, below train.guards.min_median_margin {guards.min_median_margin:g}"
    if ratio is not None and not guards.min_length_ratio <= ratio <= guards.max_length_ratio:
        yield (
            f"chosen answers have {ratio:.2f} times the tokens of rejected ones (median), outside "
            f"train.guards.min_length_ratio {guards.min_length_ratio:g} and max_length_ratio {guards.max_length_ratio:g}"
        )
    if overlap > guards.max_test_overlap:
        yield (
            f"{len(twins)} of {figures.test_used} test prompts are trained on too, by id {len(figures.in_both_splits)}, "
            f"by near text {len(figures.near_twins)} ({', '.join(twins[:_NAMED])}), more than "
            f"train.guards.max_test_overlap {guards.max_test_overlap:g}"
        )
