"""Prompts of up to six answers with three judges' scores, for tests of what is made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hypothesis import strategies as st

from factory.jury import Rules, scorecards, stand
from schemas.recipe import JudgeRef, Jury, Pairing
from schemas.rows import Loop, Rollout, Scorecard, Verdict, VerdictStatus
from tests.samples import a_rollout

JUDGES = ("helpfulness", "correctness", "clarity")
JURY = Jury(judges=[JudgeRef(judge=name) for name in JUDGES])
CHECKED = Jury(judges=JURY.judges, verifiers=["math_answer", "language"])
UNIT = dict.fromkeys(JUDGES, 1.0)
SLOTS = ("greedy", "t0", "t1", "t2", "t3", "t4")
Grid = Mapping[str, Sequence[float | None]]  # judge -> raw score of each slot; None: unreadable


def answered(slot: str = "t0", text: str | None = None, prompt_id: str = "p") -> Rollout:
    """Without a text, one that no other slot has."""
    return a_rollout(prompt_id, slot, f"answer {slot}" if text is None else text)


def looped(slot: str) -> Rollout:
    return replace(answered(slot, "again " * 50), loop=Loop.HARD, finish_reason="repetition")


def failed(slot: str) -> Rollout:
    return replace(answered(slot), text=None, finish_reason=None, loop=None, error="no answer")


def slots(count: int) -> list[Rollout]:
    return [answered(slot) for slot in SLOTS[:count]]


def heard(rollouts: Sequence[Rollout], grid: Grid) -> list[Verdict]:
    return [
        Verdict(
            rollout.prompt_id,
            rollout.rollout_id,
            judge,
            VerdictStatus.UNREADABLE if score is None else VerdictStatus.OK,
            score=score,
        )
        for judge, scores in grid.items()
        for rollout, score in zip(rollouts, scores, strict=True)
    ]


def checked(rollout: Rollout, verifier: str, score: float | None) -> Verdict:
    status = VerdictStatus.ABSTAINED if score is None else VerdictStatus.OK
    return Verdict(rollout.prompt_id, rollout.rollout_id, verifier, status, score=score)


def ids(rollouts: Sequence[Rollout]) -> list[str]:
    return [rollout.slot for rollout in rollouts]


grids = st.integers(2, 6).flatmap(
    lambda n: st.fixed_dictionaries(
        {judge: st.lists(st.floats(1, 9).map(lambda s: round(s, 3)), min_size=n, max_size=n) for judge in JUDGES}
    )
)


def scored(
    rollouts: Sequence[Rollout],
    verdicts: Sequence[Verdict],
    jury: Jury = JURY,
    sigmas: Mapping[str, float] = UNIT,
    pairing: Pairing | None = None,
) -> tuple[Scorecard, ...]:
    """The scorecards of one prompt."""
    rules = Rules(jury, sigmas, pairing or Pairing())
    return scorecards(stand(rollouts, verdicts, rules), rules)
