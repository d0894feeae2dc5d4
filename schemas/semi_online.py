"""The recipe's section `semi_online`: rounds of answering, judging, pairing and training, one after the other.

The rule that must not break: nothing here decides a round's rows. Which checkpoint answers a round does, and that one is known
by its digest; why it was promoted is kept beside it.
"""

from typing import Literal

from pydantic import Field, model_validator

from schemas.manifest import Document
from schemas.section import Section

Opponent = Literal["previous", "base"]


class Fallback(Section):
    """What a further try at a round's training changes, each time once more. Factors of the recipe's `train`."""

    tries: int = Field(default=2, ge=1, le=10)  # after the first
    learning_rate: float = Field(default=0.5, gt=0, le=1)
    beta: float = Field(default=1.0, ge=1)
    steps: float = Field(default=1.0, gt=0, le=1)

    @model_validator(mode="after")
    def _changes_something(self) -> "Fallback":
        if self.learning_rate == self.beta == self.steps == 1:
            raise ValueError(
                "changes nothing, and the same training comes to the same end: lower learning_rate or steps"
            )
        return self


class Merge(Section):
    """The mean of the weights of the last promoted checkpoints and the new one stands for the new one."""

    last: int = Field(default=2, ge=2, le=16)  # the new one counted; those that there are, where there are fewer
    weights: list[float] | None = Field(default=None, min_length=2)  # the newest last; None: all alike

    @model_validator(mode="after")
    def _one_each(self) -> "Merge":
        if self.weights is not None:
            if len(self.weights) != self.last:
                raise ValueError(
                    f"{len(self.weights)} weights for {self.last} checkpoints; give one each, the newest last"
                )
            if min(self.weights) < 0 or self.weights[-1] <= 0:
                raise ValueError("weights are not negative, and the newest checkpoint's is above 0")
        return self


class SemiOnline(Section):
    """`evaluation.bounds` are the gates; a checkpoint that trips one is not promoted."""

    rounds: int = Field(default=3, ge=1, le=1000)
    reference: Literal["base", "previous"] = (
        "previous"  # of the training: the recipe's policy, or what answered the round
    )
    against: list[Opponent] = Field(default=["previous", "base"], min_length=1)  # whom a checkpoint may not fall behind
    on_tripped: Literal["stop", "retry"] = "stop"
    fallback: Fallback = Fallback()
    merge: Merge | None = None


class Attempt(Document):
    """One training of a round, and what became of its checkpoint."""

    number: int  # 0: as the recipe says; above: with the fallback so many times
    trained: str | None = None  # digest of the checkpoint; None: a guard stopped the training
    candidate: str | None = None  # digest of what was evaluated: the same, or its merge
    folder: str | None = None  # of the candidate, below the run folder
    tripped: list[str] = Field(default=[])  # gates and guards, each with its figures
    figures: dict[str, float | None] = Field(default={})  # of the candidate's evaluation

    @property
    def passed(self) -> bool:
        return self.candidate is not None and not self.tripped


class RoundOutcome(Document):
    """What became of a round, from the checkpoint that answered it to the one that was promoted."""

    round: int
    policy: str  # digest
    reference: str  # digest
    attempts: list[Attempt] = Field(default=[])
    trained: str | None = None  # digest, of the attempt that passed
    promoted: str | None = None  # digest; None: no attempt passed
    folder: str | None = None  # of the promoted checkpoint, below the run folder


class Story(Document):
    """`semi_online.json`: the rounds that were finished, and the last one that was not promoted."""

    rounds: list[RoundOutcome] = Field(default=[])

    @property
    def promoted(self) -> list[RoundOutcome]:
        return [one for one in self.rounds if one.promoted is not None]
