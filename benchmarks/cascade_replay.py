"""What a cascade would have asked and decided, replayed on the replies of a jury that was heard in full.

Pure: it sends nothing. The rule that its reader must not break: outcomes are what the whole pipeline makes of a prompt, so
two drops are the same outcome, whatever their reasons; the share over the prompts that the full jury makes a pair of stands
beside it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from factory.judging.cascade import waves
from factory.judging.hearing import Case, Court, all_verdicts, asked_about, judged_verdicts
from factory.judging.spreads import PooledSpread
from factory.jury import Rules, stand
from factory.pairing import pair_prompt
from factory.wilson import wilson
from judges.registry import seated
from schemas.chat import Completion
from schemas.recipe import Cascade, Jury
from schemas.rows import Pair

Replies = Mapping[str, Completion]
Outcome = tuple[str, str] | None  # ids of chosen and rejected; None: the prompt is dropped


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often a cascade ends where the full jury ends, and for how many of its calls."""

    calls: int
    full_calls: int
    same: int
    prompts: int
    same_pairs: int  # of the prompts that the full jury makes a pair of
    pairs: int

    def figures(self) -> dict[str, object]:
        """For JSON."""
        return {
            "calls": round(self.calls / max(1, self.full_calls), 3),
            "same": round(self.same / max(1, self.prompts), 3),
            "interval": [round(bound, 3) for bound in wilson(self.same, self.prompts)],
            "prompts": self.prompts,
            "same_of_pairs": round(self.same_pairs / max(1, self.pairs), 3),
            "interval_of_pairs": [round(bound, 3) for bound in wilson(self.same_pairs, self.pairs)],
            "pairs": self.pairs,
        }


def court_of(jury: Jury) -> Court:
    return Court({ref.seat: seated(ref) for ref in jury.judges}, jury)


def after_wave(court: Court, wave: Sequence[str], cases: Sequence[Case], kept: Replies) -> Court:
    """The court when the whole run has heard a wave, as a run makes it."""
    spread = PooledSpread()
    for case in cases:
        own = [one for one in judged_verdicts(case, court, kept) if one.judge in wave]
        spread.add(case.rollouts, own, court.jury)
    return replace(court, heard={*court.heard, *wave}, sigmas={**court.sigmas, **spread.sigmas()})


def replayed(jury: Jury, cases: Sequence[Case], kept: Replies) -> Court:
    """The court at the end of a run in which every question that the cascade asks is answered from `kept`."""
    court = court_of(jury)
    for wave in waves(jury)[:-1]:
        court = after_wave(court, wave, cases, kept)
    return court


def calls(court: Court, cases: Sequence[Case], kept: Replies) -> int:
    """Of a pointwise jury."""
    return sum(len(about) for case in cases for about in asked_about(case, court, kept).values())


def outcomes(court: Court, cases: Sequence[Case], kept: Replies) -> dict[str, Outcome]:
    """By prompt_id, as the stages after the jury make them."""
    spread = PooledSpread()
    heard = [(case, all_verdicts(case, court, kept)) for case in cases]
    for case, verdicts in heard:
        spread.add(case.rollouts, verdicts, court.jury)
    rules, found = Rules(court.jury, spread.sigmas(), court.pairing, court.weights), dict[str, Outcome]()
    for case, verdicts in heard:
        one = pair_prompt(case.prompt, stand(case.rollouts, verdicts, rules), rules)
        found[case.prompt.prompt_id] = (one.chosen_id, one.rejected_id) if isinstance(one, Pair) else None
    return found


def agreement(whole: Mapping[str, Outcome], other: Mapping[str, Outcome], asked: int, of: int) -> Agreement:
    """`asked` calls of the cascade, `of` the full jury's."""
    same = {own: other[own] == outcome for own, outcome in whole.items()}
    pairs = [own for own, outcome in whole.items() if outcome is not None]
    return Agreement(asked, of, sum(same.values()), len(same), sum(same[own] for own in pairs), len(pairs))


def curve(full: Jury, cascades: Sequence[Cascade], cases: Sequence[Case], kept: Replies) -> list[Agreement]:
    """Each cascade beside the full jury, on the full jury's replies."""
    court = court_of(full)
    whole, of = outcomes(court, cases, kept), calls(court, cases, kept)
    found = []
    for cascade in cascades:
        own = replayed(full.model_copy(update={"cascade": cascade}), cases, kept)
        found.append(agreement(whole, outcomes(own, cases, kept), calls(own, cases, kept), of))
    return found


def beside(full: Jury, cascade: Jury, cases: Sequence[Case], first: Replies, second: Replies) -> dict[str, Agreement]:
    """Both as they were heard: `first` are the full jury's replies, `second` the cascade's own to some of the same questions.

    An engine that batches a question otherwise grades it a little otherwise. How much that alone turns stands in the last
    row: the full jury with the second replies in the place of the first. Beside it the cascade is judged by what it heard.
    """
    whole, own = court_of(full), replayed(cascade, cases, second)
    once, again = outcomes(whole, cases, first), outcomes(whole, cases, {**first, **second})
    heard, asked, of = outcomes(own, cases, second), calls(own, cases, second), calls(whole, cases, first)
    return {
        "cascade, other replies": agreement(once, heard, asked, of),
        "cascade, same replies": agreement(again, heard, asked, of),
        "no cascade, other replies": agreement(once, again, of, of),
    }


def moved(full: Jury, cases: Sequence[Case], first: Replies, second: Replies) -> float:
    """SD of what a grade moves by when it is asked for again, in the judges' pooled within-prompt SDs."""
    court, spread, steps = court_of(full), PooledSpread(), list[tuple[str, float]]()
    for case in cases:
        verdicts = all_verdicts(case, court, first)
        spread.add(case.rollouts, verdicts, full)
        before = {(one.judge, one.rollout_id): one.score for one in verdicts if one.score is not None}
        for one in all_verdicts(case, court, second):
            if one.score is not None and (was := before.get((one.judge, one.rollout_id))) is not None:
                steps.append((one.judge, one.score - was))
    sigmas = spread.sigmas()
    squares = [(step / sigmas[judge]) ** 2 for judge, step in steps if judge in sigmas]
    return math.sqrt(math.fsum(squares) / len(squares)) if squares else math.nan
