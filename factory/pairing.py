"""From scorecards to one pair, or to the reason why there is none.

Pure. The rule that must not break: every prompt ends in exactly one row, the same one in whatever order its rollouts,
verdicts and scorecards come. A hard loop is what gets rejected; a failed check outranks every opinion; where opinion
alone separates two answers, it must separate them clearly. A tie is never a pair.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from factory.jury import FAILED_CHECK, Bar, Block, Candidates, bars, blocks, candidates, quorum
from factory.trimming import trim
from schemas.recipe import Jury, Pairing
from schemas.rows import Cause, Dropped, DropReason, Loop, LoopEvidence, Pair, Prompt, Rollout, Scorecard, Verdict

Trim = Callable[[str, Sequence[int] | None, LoopEvidence, int], tuple[str, tuple[int, ...] | None]]

_TIE = 1e-6  # raw scores nearer than this are equal: the same grain as the pooled spread's
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

    @property
    def judges(self) -> int:
        """How many count for this prompt. A judge that tells nothing apart is not among them."""
        return self.cards[self.who.judged[0].rollout_id].judges

    def score(self, rollout: Rollout) -> float:
        """S of a judged rollout. With a quorum there is always one."""
        score = self.cards[rollout.rollout_id].score
        return -math.inf if score is None else score

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
) -> Pair | Dropped:
    """One prompt's rollouts to its pair, or why it has none. The rows may be in any order.

    Who may be chosen is worked out anew from `pairing`, so that a changed recipe needs no new scorecards.
    """
    who = candidates(rollouts)
    case = _Case(
        prompt=prompt,
        who=who,
        barred=bars(rollouts, verdicts, jury, pairing),
        cards={card.rollout_id: card for card in scorecards},
        opinions=blocks(who.judged, verdicts, jury),
        jury=jury,
        pairing=pairing,
    )
    dropped = _too_few(case) or _none_to_choose(case) or _short_of_quorum(case)
    if dropped:
        return dropped
    chosen = max(_eligible(case), key=case.score)  # of equal ones the first: they are in slot order
    return _against_loop(case, chosen, trim) if who.loops else _against_worst(case, chosen)


def _eligible(case: _Case) -> list[Rollout]:
    return [rollout for rollout in case.who.judged if case.barred[rollout.rollout_id] is None]


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
    wanted = quorum(case.jury)
    if case.judges >= wanted:
        return None
    detail = f"{case.judges} of {len(case.jury.judges)} judges count, the quorum is {wanted}"
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


def _against_worst(case: _Case, chosen: Rollout) -> Pair | Dropped:
    """The worst by (tier, S). Only a failed check spares the jury from having to be clear about it."""
    others = [rollout for rollout in case.who.judged if rollout is not chosen]
    worst = min(others, key=lambda rollout: (case.tier(rollout), case.score(rollout)))  # of equal ones the first
    margin = case.score(chosen) - case.score(worst)
    agreement = _agreement(case, chosen, worst)
    failed = case.tier(worst) == FAILED_CHECK
    unclear = None if failed else _unclear(case, chosen, worst, margin, agreement)
    if dropped := unclear or _below_floor(case, chosen):
        return dropped
    rejected = _Rejected(worst, worst.answer, worst.token_ids, trimmed=False)
    return _pair(case, chosen, rejected, Cause.VERIFIER if failed else Cause.JURY, margin, agreement)


def _agreement(case: _Case, chosen: Rollout, rejected: Rollout) -> float:
    """Share of the judges that count whose own score is strictly higher for the chosen one."""
    for_chosen = sum(block[chosen.rollout_id] - block[rejected.rollout_id] > _TIE for block in case.opinions.values())
    return for_chosen / case.judges


def _unclear(case: _Case, chosen: Rollout, worst: Rollout, margin: float, agreement: float) -> Dropped | None:
    if margin <= 0 or margin < case.pairing.margin:
        figures = f"{case.score(chosen):.3f} - {case.score(worst):.3f} = {margin:.3f}"
        return case.drop(DropReason.BELOW_MARGIN, f"{figures}, the margin is {case.pairing.margin:.3f}")
    if agreement + _ROUNDING < case.pairing.agreement:
        figures = f"{agreement:.3f} of {case.judges} judges agree"
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
