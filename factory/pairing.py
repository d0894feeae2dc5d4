"""From scorecards to one pair, or to the reason why there is none.

Pure. The rule that must not break: every prompt ends in exactly one row, the same one in whatever order its rollouts,
verdicts and scorecards come. A hard loop is what gets rejected; a failed check outranks every opinion; where opinion
alone separates two answers, it must separate them clearly. A tie is never a pair.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from factory.aggregation import ALL_ALIKE, TIE, Block, Weights, weight
from factory.jury import (
    FAILED_CHECK,
    Bar,
    Candidates,
    bars,
    blocks,
    candidates,
    heard_blocks,
    listened_to,
    quorum,
    settled_without,
)
from factory.trimming import trim
from schemas.recipe import Jury, Pairing
from schemas.rows import Cause, Dropped, DropReason, Loop, LoopEvidence, Pair, Prompt, Rollout, Scorecard, Verdict

Trim = Callable[[str, Sequence[int] | None, LoopEvidence, int], tuple[str, tuple[int, ...] | None]]

_ROUNDING = 1e-9  # so that 2 judges of 3 meet a share written as 0.666666667


@dataclass(frozen=True, slots=True)
class _Case:
    """One prompt with all that was found out about its rollouts."""

    prompt: Prompt
    who: Candidates
    barred: Mapping[str, Bar | None]
    cards: Mapping[str, Scorecard]
    opinions: Mapping[str, Block]
    jury: Jury
    pairing: Pairing
    weights: Weights
    spared: frozenset[str]  # judges that a cascade did not ask

    @property
    def judges(self) -> int:
        """How many count for this prompt. A judge that tells nothing apart is not among them."""
        return self.cards[self.who.judged[0].rollout_id].judges

    @property
    def compared(self) -> list[Rollout]:
        """The judged rollouts that have a score: all of them, or those that a cascade kept to the end."""
        return [rollout for rollout in self.who.judged if self.cards[rollout.rollout_id].score is not None]

    def score(self, rollout: Rollout) -> float:
        """S of one that is compared."""
        score = self.cards[rollout.rollout_id].score
        assert score is not None, "only rollouts with a score are compared"
        return score

    def tier(self, rollout: Rollout) -> int:
        return self.cards[rollout.rollout_id].tier

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
    prompt: Prompt,
    rollouts: Sequence[Rollout],
    verdicts: Sequence[Verdict],
    scorecards: Sequence[Scorecard],
    jury: Jury,
    pairing: Pairing,
    trim: Trim = trim,
    *,
    sigmas: Mapping[str, float] | None = None,
    weights: Weights = ALL_ALIKE,
    may_use_loop: bool = True,
) -> Pair | Dropped:
    """One prompt's rollouts to its pair, or why it has none. The rows may be in any order.

    `sigmas` and `weights` are what the scorecards were made with; a judge without a sigma tells nothing apart and has no
    say in the agreement (None: every judge has one).

    Who may be chosen is worked out anew from `pairing`, so that a changed recipe needs no new scorecards. Where
    `may_use_loop` is False the run has enough pairs made by loops (`factory.loop_share`): the others are compared.
    """
    who = candidates(rollouts)
    case = _Case(
        prompt=prompt,
        who=who,
        barred=bars(rollouts, verdicts, jury, pairing),
        cards={card.rollout_id: card for card in scorecards},
        opinions=_opinions(who, verdicts, jury, sigmas, weights),
        jury=jury,
        pairing=pairing,
        weights=weights,
        spared=settled_without(verdicts),
    )
    dropped = _too_few(case) or _none_to_choose(case) or _short_of_quorum(case)
    if dropped:
        return dropped
    eligible = [rollout for rollout in case.compared if case.barred[rollout.rollout_id] is None]
    if not eligible:
        return case.drop(DropReason.NO_CHOSEN, "what was compared to the end may not be chosen")
    chosen = max(eligible, key=case.score)  # of equal ones the first: they are in slot order
    if who.loops and may_use_loop:
        return _against_loop(case, chosen, trim)
    if len(case.compared) < 2:
        return case.drop(DropReason.LOOP_SHARE, "without the loop there is nothing to compare with")
    return _against_other(case, chosen)


def _opinions(
    who: Candidates, verdicts: Sequence[Verdict], jury: Jury, sigmas: Mapping[str, float] | None, weights: Weights
) -> Mapping[str, Block]:
    """The raw scores that were aggregated."""
    whole = blocks(who.judged, verdicts, jury)
    return heard_blocks(whole, jury, dict.fromkeys(whole, 1.0) if sigmas is None else sigmas, weights)


def _too_few(case: _Case) -> Dropped | None:
    """Without two different answers there is nothing to compare, whatever anybody thinks of them."""
    who = case.who
    usable = len(who.judged) + len(who.loops) + len(who.duplicates)
    if usable < 2:
        return _not_enough_answers(case, usable)
    if not who.judged:
        return case.drop(DropReason.ALL_LOOPS, f"{len(who.loops)} hard loops")
    if len(who.judged) == 1 and not who.loops:
        return case.drop(DropReason.ALL_SAME, f"{usable} times the same text")
    return None


def _not_enough_answers(case: _Case, usable: int) -> Dropped:
    errors = [rollout.error for rollout in case.who.failed if rollout.error is not None]
    counted = f"{usable} of {usable + len(case.who.failed)} rollouts can be used"
    too_long = [error for error in errors if error.startswith(DropReason.PROMPT_TOO_LONG)]
    if too_long:
        return case.drop(DropReason.PROMPT_TOO_LONG, too_long[0])
    if case.who.failed and not errors:
        return case.drop(DropReason.UNFINISHED, f"{counted}: the others ended before they said anything")
    return case.drop(DropReason.ENGINE_ERROR, ": ".join([counted, *errors[:1]]))


def _none_to_choose(case: _Case) -> Dropped | None:
    why = [case.barred[rollout.rollout_id] for rollout in case.who.judged]
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
    asked = [seat for seat in listened_to(case.jury, case.weights) if seat not in case.spared]
    wanted = min(quorum(case.jury, case.weights), len(asked))
    if case.judges >= max(1, wanted):
        return None
    detail = f"{case.judges} of {len(asked)} judges count, the quorum is {wanted}"
    return case.drop(DropReason.NO_QUORUM, detail)


def _against_loop(case: _Case, chosen: Rollout, trim: Trim) -> Pair | Dropped:
    """The first hard loop, greedy before sampled, cut short. No judge read it: margin and agreement are not known."""
    if low := _below_floor(case, chosen):
        return low
    for rollout in case.who.loops:
        rejected = _cut(rollout, trim, case.pairing.keep_periods)
        if not _same_text(rejected.text, chosen):
            return _pair(case, chosen, rejected, Cause.LOOP, None, None)
    return case.drop(DropReason.ALL_SAME, "a loop, once cut, is the chosen answer")


def _against_other(case: _Case, chosen: Rollout) -> Pair | Dropped:
    """The worst by (tier, S), or with `hard_negative` the best one that is clearly worse than the chosen."""
    others = [rollout for rollout in case.compared if rollout is not chosen]
    ordered = sorted(others, key=lambda rollout: (case.tier(rollout), case.score(rollout)))  # of equal ones the first
    if case.pairing.rejected == "hard_negative":
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
    own = {judge: weight(judge, case.weights) for judge in case.opinions}
    for_chosen = math.fsum(
        own[judge]
        for judge, block in case.opinions.items()
        if block[chosen.rollout_id] - block[rejected.rollout_id] > TIE
    )
    return for_chosen / math.fsum(own.values())


def _unclear(case: _Case, chosen: Rollout, worst: Rollout, margin: float, agreement: float) -> Dropped | None:
    if margin <= 0 or margin < case.pairing.margin:
        figures = f"{case.score(chosen):.3f} - {case.score(worst):.3f} = {margin:.3f}"
        return case.drop(DropReason.BELOW_MARGIN, f"{figures}, the margin is {case.pairing.margin:.3f}")
    if agreement + _ROUNDING < case.pairing.agreement:
        figures = f"{agreement:.3f} of the weight of {case.judges} judges agrees"
        return case.drop(DropReason.BELOW_AGREEMENT, f"{figures}, wanted are {case.pairing.agreement:.3f}")
    return None


def _below_floor(case: _Case, chosen: Rollout) -> Dropped | None:
    """By raw scores, since S knows better and worse within a prompt but not good and bad."""
    raw = [block[chosen.rollout_id] for block in case.opinions.values()]
    mean = math.fsum(raw) / len(raw)
    if case.pairing.floor is None or mean >= case.pairing.floor:
        return None
    return case.drop(DropReason.BELOW_FLOOR, f"mean raw score {mean:.3f}, the floor is {case.pairing.floor:.3f}")


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
        chosen_score=case.cards[chosen.rollout_id].score,
        rejected_score=case.cards[rejected.rollout.rollout_id].score,
        margin=margin,
        agreement=agreement,
        cause=cause,
        prompt_token_ids=chosen.prompt_token_ids,
        chosen_token_ids=chosen.token_ids,
        rejected_token_ids=rejected.token_ids,
        rejected_trimmed=rejected.trimmed,
        rejected_ended=rejected.rollout.finished and not rejected.trimmed,
    )
