"""From scorecards to one pair, or to the reason why there is none.

Pure. The rule that must not break: every prompt ends in exactly one row, the same one in whatever order its rollouts,
verdicts and scorecards come. A hard loop is what gets rejected; a failed check outranks every opinion; where opinion
alone separates two answers, it must separate them clearly. A tie is never a pair.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from factory.detector.trimming import trim
from factory.judging.aggregation import TIE, weight
from factory.judging.eligibility import FAILED_CHECK, Bar
from factory.jury import Rules, Standing
from schemas.rows import Cause, Dropped, DropReason, Loop, LoopEvidence, Pair, Prompt, Rollout

Trim = Callable[[str, Sequence[int] | None, LoopEvidence, int], tuple[str, tuple[int, ...] | None]]

_ROUNDING = 1e-9  # so that 2 judges of 3 meet a share written as 0.666666667


@dataclass(frozen=True, slots=True)
class _Case:
    """One prompt with all that was found out about its rollouts."""

    prompt: Prompt
    known: Standing
    rules: Rules

    @property
    def compared(self) -> list[Rollout]:
        """The judged rollouts that have a score: all of them, or those that a cascade kept to the end."""
        return [rollout for rollout in self.known.who.judged if rollout.rollout_id in self.known.scores]

    def score(self, rollout: Rollout) -> float:
        """S of one that is compared."""
        return self.known.scores[rollout.rollout_id]

    def tier(self, rollout: Rollout) -> int:
        return self.known.tiers[rollout.rollout_id]

    def may_be_chosen(self, rollout: Rollout) -> bool:
        return self.known.barred[rollout.rollout_id] is None

    def drop(self, reason: DropReason, detail: str) -> Dropped:
        return Dropped(self.prompt.prompt_id, reason, detail)


@dataclass(frozen=True, slots=True)
class _Rejected:
    """A rejected side as it goes into the pair."""

    rollout: Rollout
    text: str
    token_ids: tuple[int, ...] | None
    trimmed: bool


def pair_prompt(
    prompt: Prompt, known: Standing, rules: Rules, trim: Trim = trim, *, may_use_loop: bool = True
) -> Pair | Dropped:
    """One prompt's pair, or why it has none. `known` is what `factory.jury.stand` made of its rows by the same rules.

    Where `may_use_loop` is False the run has enough pairs made by loops (`factory.judging.loop_share`): others are compared.
    """
    case = _Case(prompt, known, rules)
    dropped = _too_few(case) or _none_to_choose(case) or _short_of_quorum(case)
    if dropped:
        return dropped
    eligible = [rollout for rollout in case.compared if case.may_be_chosen(rollout)]
    if not eligible:
        return case.drop(DropReason.NO_CHOSEN, "what was compared to the end may not be chosen")
    chosen = max(eligible, key=case.score)  # of equal ones the first: they are in slot order
    if known.who.loops and may_use_loop:
        return _against_loop(case, chosen, trim)
    if len(case.compared) < 2:
        return case.drop(DropReason.LOOP_SHARE, "without the loop there is nothing to compare with")
    return _against_other(case, chosen)


def _too_few(case: _Case) -> Dropped | None:
    """Without two different answers there is nothing to compare, whatever anybody thinks of them."""
    who = case.known.who
    usable = len(who.judged) + len(who.loops) + len(who.duplicates)
    if usable < 2:
        return _not_enough_answers(case, usable)
    if not who.judged:
        return case.drop(DropReason.ALL_LOOPS, f"{len(who.loops)} hard loops")
    if len(who.judged) == 1 and not who.loops:
        return case.drop(DropReason.ALL_SAME, f"{usable} times the same text")
    return None


def _not_enough_answers(case: _Case, usable: int) -> Dropped:
    errors = [rollout.error for rollout in case.known.who.failed if rollout.error is not None]
    counted = f"{usable} of {usable + len(case.known.who.failed)} rollouts can be used"
    too_long = [error for error in errors if error.startswith(DropReason.PROMPT_TOO_LONG)]
    if too_long:
        return case.drop(DropReason.PROMPT_TOO_LONG, too_long[0])
    if case.known.who.failed and not errors:
        return case.drop(DropReason.UNFINISHED, f"{counted}: the others ended before they said anything")
    return case.drop(DropReason.ENGINE_ERROR, ": ".join([counted, *errors[:1]]))


def _none_to_choose(case: _Case) -> Dropped | None:
    why = [case.known.barred[rollout.rollout_id] for rollout in case.known.who.judged]
    if None in why:
        return None
    counted = ", ".join(f"{why.count(bar)} {bar.value}" for bar in Bar if bar in why)
    open_otherwise = [bar for bar in why if bar not in (Bar.FAILED_CHECK, Bar.NOT_PROVEN)]
    if not open_otherwise:
        return case.drop(DropReason.ALL_FAILED_CHECKS, counted)
    if all(bar is Bar.UNFINISHED for bar in open_otherwise):
        return case.drop(DropReason.UNFINISHED, counted)
    return case.drop(DropReason.NO_CHOSEN, counted)


def _short_of_quorum(case: _Case) -> Dropped | None:
    asked = [seat for seat in case.rules.listened if seat not in case.known.spared]
    wanted = min(case.rules.quorum, len(asked))
    count = len(case.known.opinions)
    if count >= max(1, wanted):
        return None
    detail = f"{count} of {len(asked)} judges count, the quorum is {wanted}"
    return case.drop(DropReason.NO_QUORUM, detail)


def _against_loop(case: _Case, chosen: Rollout, trim: Trim) -> Pair | Dropped:
    """The first hard loop, greedy before sampled, cut short. No judge read it: margin and agreement are not known."""
    if low := _below_floor(case, chosen):
        return low
    for rollout in case.known.who.loops:
        rejected = _cut(rollout, trim, case.rules.pairing.keep_periods)
        if not _same_text(rejected.text, chosen):
            return _pair(case, chosen, rejected, Cause.LOOP, None, None)
    return case.drop(DropReason.ALL_SAME, "a loop, once cut, is the chosen answer")


def _against_other(case: _Case, chosen: Rollout) -> Pair | Dropped:
    """The worst by (tier, S), or with `hard_negative` the best one that is clearly worse than the chosen."""
    others = [rollout for rollout in case.compared if rollout is not chosen]
    ordered = sorted(others, key=lambda rollout: (case.tier(rollout), case.score(rollout)))  # of equal ones the first
    if case.rules.pairing.rejected == "hard_negative":
        clear = [other for other in reversed(ordered) if isinstance(_against(case, chosen, other), Pair)]
        ordered = clear or ordered
    return _against(case, chosen, ordered[0])


def _against(case: _Case, chosen: Rollout, other: Rollout) -> Pair | Dropped:
    """Only a failed check spares the jury from having to be clear about it."""
    margin = case.score(chosen) - case.score(other)
    agreement = _agreement(case, chosen, other)
    failed = case.tier(other) == FAILED_CHECK
    unclear = None if failed else _unclear(case, chosen, other, margin, agreement)
    if dropped := unclear or _below_floor(case, chosen):
        return dropped
    rejected = _Rejected(other, other.answer, other.token_ids, trimmed=False)
    return _pair(case, chosen, rejected, Cause.VERIFIER if failed else Cause.JURY, margin, agreement)


def _agreement(case: _Case, chosen: Rollout, rejected: Rollout) -> float:
    """Share of the weight of the judges that count whose own score is strictly higher for the chosen one."""
    own = {judge: weight(judge, case.rules.weights) for judge in case.known.opinions}
    for_chosen = math.fsum(
        own[judge]
        for judge, block in case.known.opinions.items()
        if block[chosen.rollout_id] - block[rejected.rollout_id] > TIE
    )
    return for_chosen / math.fsum(own.values())


def _unclear(case: _Case, chosen: Rollout, worst: Rollout, margin: float, agreement: float) -> Dropped | None:
    if margin <= 0 or margin < case.rules.pairing.margin:
        figures = f"{case.score(chosen):.3f} - {case.score(worst):.3f} = {margin:.3f}"
        return case.drop(DropReason.BELOW_MARGIN, f"{figures}, the margin is {case.rules.pairing.margin:.3f}")
    if agreement + _ROUNDING < case.rules.pairing.agreement:
        figures = f"{agreement:.3f} of the weight of {len(case.known.opinions)} judges agrees"
        return case.drop(DropReason.BELOW_AGREEMENT, f"{figures}, wanted are {case.rules.pairing.agreement:.3f}")
    return None


def _below_floor(case: _Case, chosen: Rollout) -> Dropped | None:
    """By raw scores, since S knows better and worse within a prompt but not good and bad."""
    raw = [block[chosen.rollout_id] for block in case.known.opinions.values()]
    mean = math.fsum(raw) / len(raw)
    if case.rules.pairing.floor is None or mean >= case.rules.pairing.floor:
        return None
    return case.drop(DropReason.BELOW_FLOOR, f"mean raw score {mean:.3f}, the floor is {case.rules.pairing.floor:.3f}")


def _cut(rollout: Rollout, trim: Trim, keep_periods: int) -> _Rejected:
    whole = rollout.answer
    text, token_ids = trim(whole, rollout.token_ids, evidence(rollout), keep_periods)
    return _Rejected(rollout, text, token_ids, trimmed=text != whole)


def evidence(rollout: Rollout) -> LoopEvidence:
    """What the detector wrote into the rollout's columns."""
    return LoopEvidence(
        kind=rollout.loop or Loop.CLEAN,
        rule=rollout.loop_rule,
        onset=rollout.loop_onset,
        onset_token=rollout.loop_onset_token,
        period=rollout.loop_period,
        repeats=rollout.loop_repeats,
        share=rollout.loop_share,
    )


def _same_text(text: str, chosen: Rollout) -> bool:
    return text.strip() == chosen.answer.strip()


def _pair(
    case: _Case, chosen: Rollout, rejected: _Rejected, cause: Cause, margin: float | None, agreement: float | None
) -> Pair:
    return Pair(
        prompt_id=case.prompt.prompt_id,
        messages=case.prompt.messages,
        chosen=chosen.answer,
        rejected=rejected.text,
        chosen_id=chosen.rollout_id,
        rejected_id=rejected.rollout.rollout_id,
        chosen_score=case.known.scores[chosen.rollout_id],
        rejected_score=case.known.scores.get(rejected.rollout.rollout_id),
        margin=margin,
        agreement=agreement,
        cause=cause,
        prompt_token_ids=chosen.prompt_token_ids,
        chosen_token_ids=chosen.token_ids,
        rejected_token_ids=rejected.token_ids,
        rejected_trimmed=rejected.trimmed,
        rejected_ended=rejected.rollout.finished and not rejected.trimmed,
    )
