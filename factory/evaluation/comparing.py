"""Two checkpoints over the same questions: loops, right answers, and which of two answers the jury prefers. Pure.

The rule that must not break: a question is a prompt and a slot, and it counts only where both checkpoints have what is
compared. A jury's preference between two answers rests on judges that scored both.

With several sampled answers a prompt the questions of one prompt are alike, and the intervals of the sampled ones are a
little too narrow.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from factory.evaluation.figures import GREEDY, SAMPLED, Take, decoding_of, passed
from factory.evaluation.paired import Paired, Rate
from factory.judging.candidates import candidates
from factory.judging.hearing import by_prompt
from schemas.rows import Loop, Rollout, Verdict, VerdictStatus

Question = tuple[str, str]  # prompt_id, slot
Scores = Mapping[Question, Mapping[str, float]]  # by judge
TIED = 1e-9


@dataclass(frozen=True, slots=True)
class Wins:
    """The later checkpoint's answers against the earlier one's: how often the jury prefers which."""

    won: int
    tied: int
    lost: int

    @property
    def rate(self) -> Rate:
        """A tie counts half."""
        return Rate(self.won + self.tied / 2, self.won + self.tied + self.lost)


@dataclass(frozen=True, slots=True)
class Compared:
    """One decoding at one cap. `wins` are there at the largest cap alone: those answers are judged.

    `wins`: where both answers were judged. `wins_with_loops`: hard loops are never judged; here one loses to any other
    answer, and two are a tie.
    """

    decoding: str
    max_tokens: int
    loops: Paired
    accuracy: Paired
    wins: Wins | None = None
    wins_with_loops: Wins | None = None


def compare(
    before: Sequence[Take],
    after: Sequence[Take],
    judged: tuple[Scores, Scores] | None,
    prompt_ids: Collection[str],
) -> tuple[Compared, ...]:
    """By cap, greedy and sampled, over the answers to these prompts. `judged`: both checkpoints' scores at the last cap."""
    found = []
    for first, second in zip(before, after, strict=True):
        for decoding in (GREEDY, SAMPLED):
            one, two = (_answers(take, decoding, prompt_ids) for take in (first, second))
            questions = [question for question in one if question in two]
            if not questions:
                continue
            looped = [(_looped(one[key]), _looped(two[key])) for key in questions]
            right = [_right(take, answers) for take, answers in ((first, one), (second, two))]
            told = [(right[0][key], right[1][key]) for key in questions if all(key in by for by in right)]
            leads = _leads(questions, *judged) if judged and second is after[-1] else None
            found.append(
                Compared(
                    decoding,
                    second.max_tokens,
                    Paired.of(looped),
                    Paired.of(told),
                    None if leads is None else _counted(leads.values()),
                    None if leads is None else _counted(_with_loops(questions, looped, leads)),
                )
            )
    return tuple(found)


def _answers(take: Take, decoding: str, prompt_ids: Collection[str]) -> dict[Question, Rollout]:
    return {
        (one.prompt_id, one.slot): one
        for one in take.rollouts
        if one.text is not None and decoding_of(one) == decoding and one.prompt_id in prompt_ids
    }


def _looped(rollout: Rollout) -> bool:
    return rollout.loop is Loop.HARD


def _right(take: Take, answers: Mapping[Question, Rollout]) -> dict[Question, bool]:
    told = passed(take.checks)
    return {key: all(told[one.rollout_id].values()) for key, one in answers.items() if one.rollout_id in told}


def scores(rollouts: Sequence[Rollout], verdicts: Sequence[Verdict]) -> Scores:
    """What each judge gave each answer that it could be asked about; a text that was there twice has one score."""
    given: dict[str, dict[str, float]] = {}
    for one in verdicts:
        if one.status is VerdictStatus.OK and one.score is not None:
            given.setdefault(one.rollout_id, {})[one.judge] = one.score
    found: dict[Question, Mapping[str, float]] = {}
    for own in by_prompt(rollouts).values():
        who = candidates(own)
        found |= {(one.prompt_id, one.slot): given.get(one.rollout_id, {}) for one in who.judged}
        found |= {(one.rollout.prompt_id, one.rollout.slot): given.get(one.of, {}) for one in who.duplicates}
    return found


def _leads(questions: Iterable[Question], before: Scores, after: Scores) -> dict[Question, float]:
    """How far the jury puts the later answer above the earlier one, where it can say.

    Each judge's differences are divided by their root mean square, so that one who spreads his grades widely has no more
    to say than the others; then the judges are averaged.
    """
    apart: dict[Question, dict[str, float]] = {}
    for key in questions:
        one, two = before.get(key, {}), after.get(key, {})
        if shared := {judge: two[judge] - one[judge] for judge in one if judge in two}:
            apart[key] = shared
    units = _units(apart.values())
    return {
        key: math.fsum(lead / units[judge] for judge, lead in by.items() if judge in units) / len(by)
        for key, by in apart.items()
    }


def _units(apart: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Judges that tell no two answers apart are not in it."""
    squares: dict[str, list[float]] = {}
    for by in apart:
        for judge, lead in by.items():
            squares.setdefault(judge, []).append(lead * lead)
    return {judge: math.sqrt(math.fsum(own) / len(own)) for judge, own in squares.items() if any(own)}


def _with_loops(
    questions: Sequence[Question], looped: Sequence[tuple[bool, bool]], leads: Mapping[Question, float]
) -> list[float]:
    outcomes = []
    for key, (first, second) in zip(questions, looped, strict=True):
        if first or second:
            outcomes.append(float(first) - float(second))
        elif key in leads:
            outcomes.append(leads[key])
    return outcomes


def _counted(leads: Iterable[float]) -> Wins:
    found = list(leads)
    won, lost = sum(lead > TIED for lead in found), sum(lead < -TIED for lead in found)
    return Wins(won, len(found) - won - lost, lost)
