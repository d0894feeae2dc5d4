"""What a judge and a verifier are to the factory: protocols that every file in this package fulfils.

The rule that must not break: nothing here does I/O, and a judgement that could not be had is a verdict with a status
and no score, never a number. A judge says what to ask and how to read the answer; who sends it is not its concern.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.chat import Completion, Request
from schemas.rows import Prompt, Rollout, Verdict, VerdictStatus


@dataclass(frozen=True, slots=True)
class Question:
    """A request, and the rollouts whose verdicts rest on its reply."""

    request: Request
    about: tuple[str, ...]  # rollout_ids


class Judge(Protocol):
    """An opinion, asked of a model."""

    @property
    def name(self) -> str: ...

    @property
    def digest(self) -> str:
        """sha256 over everything that words the question: equal digests ask the same of the same rollout."""
        ...

    def again(self) -> "Judge":
        """The same judge for a second take: the same words, another request, another seed, another order."""
        ...

    def worth(self, reply: Completion) -> VerdictStatus:
        """What one reply is worth by itself: OK where a score can be read from it, else why not."""
        ...

    def ask(self, prompt: Prompt, candidates: Sequence[Rollout]) -> tuple[Question, ...]: ...

    def read(
        self, prompt: Prompt, candidates: Sequence[Rollout], replies: Mapping[str, Completion]
    ) -> tuple[Verdict, ...]:
        """Exactly one verdict for each candidate, in the order of `candidates`.

        `replies` is keyed by the id of the request that `ask` made, whatever id the completion itself carries; what is
        missing from it is a verdict with status failed, what is in it besides is not looked at.
        """
        ...


class Verifier(Protocol):
    """A check, not an opinion: the same text always gets the same verdict.

    `check` gives score 1.0 (passed) or 0.0 (failed) with status ok, or status abstained and no score. It may hang or
    kill its process on a hostile text, so the factory runs it in a process of its own, which finds it by its name.
    """

    @property
    def name(self) -> str: ...

    @property
    def proves(self) -> bool:
        """Whether a pass lifts the answer above the unchecked ones.

        False for a check that can only veto: lifting those would rank the answers that are too short to check below
        the others.
        """
        ...

    def objection(self, prompt: Prompt) -> str | None:
        """What makes the prompt uncheckable (column, value, mend), on one line; None where nothing does.

        Asked before anything is spent. A prompt that has nothing to check is fine.
        """
        ...

    def applies(self, prompt: Prompt, rollout: Rollout) -> bool:
        """Whether there is something to check. Cheap and safe: it runs where `check` may not."""
        ...

    def check(self, prompt: Prompt, rollout: Rollout) -> Verdict: ...


def request_id(rollout_id: str, judge: str) -> str:
    """Names the one question that a judge has about a rollout."""
    return f"{rollout_id}:{judge}"


def no_score(rollout: Rollout, judge: str, status: VerdictStatus, reply: str | None = None) -> Verdict:
    """The verdict of somebody who has none, and why."""
    return Verdict(rollout.prompt_id, rollout.rollout_id, judge, status, reply=reply)


def check_result(rollout: Rollout, verifier: str, score: float, compared: str) -> Verdict:
    """What a verifier found: `score` is 1.0 or 0.0, `compared` is what it looked at, for a person to read."""
    return Verdict(rollout.prompt_id, rollout.rollout_id, verifier, VerdictStatus.OK, score=score, reply=compared)
