"""What the factory and its trainer, two processes, say to each other: a plan in, figures and a result out.

The rule that must not break: both are whole files that say everything, so that a training can be started again by its plan
alone, by whatever launcher.
"""

import json
from pathlib import Path
from typing import Literal

from pydantic import Field

from schemas.manifest import Document
from schemas.train import Train

PLAN, METRICS, RESULT = "plan.json", "metrics.jsonl", "result.json"


class PairFigures(Document):
    """What can be said of the pairs before anything is trained."""

    pairs: int  # of the training split, as exported
    used: int  # not too long
    too_long: list[str]  # prompt ids of training pairs that are dropped
    test_pairs: int
    test_used: int
    causes: dict[str, int]  # of the used ones
    loop_share: float
    margins: dict[str, float] = Field(default={})  # quantiles, over the pairs that the jury decided
    length_ratios: dict[str, float] = Field(default={})  # quantiles of chosen over rejected, in tokens
    unended: dict[str, int]  # sides whose ids do not close with an end token, by side
    trimmed: int  # rejected sides that were cut after a few periods
    tokens: int  # that one epoch reads: prompt and answer of both sides
    in_both_splits: list[str] = Field(default=[])  # prompt ids of test prompts that are trained on too
    near_twins: list[str] = Field(default=[])  # prompt ids of test prompts that are nearly a training prompt


class TrainingPlan(Document):
    train: Train  # settled
    model: Path  # a folder
    model_digest: str
    reference: Path
    reference_digest: str
    pairs: Path  # the folder of the export that holds token ids
    pairs_digest: str
    folder: Path  # where checkpoint, metrics and result go
    threads: int | None = None
    trust_remote_code: bool = False
    figures: PairFigures

    @property
    def made_from(self) -> dict[str, str]:
        """Field -> value, of all that decides the weights."""
        settings = {f"train.{name}": json.dumps(value) for name, value in self.train.deciding().items()}
        return settings | {
            "model": self.model_digest,
            "reference": self.reference_digest,
            "pairs": self.pairs_digest,
        }


class StepFigures(Document):
    """One line of metrics.jsonl. Log-probabilities, margins and KL are per token, in nats, means over the pairs."""

    step: int
    split: Literal["train", "test"]
    loss: float
    margin: float  # chosen_shift - rejected_shift
    chosen: float  # log-probability
    rejected: float
    chosen_shift: float  # log-probability less the reference's
    rejected_shift: float
    kl: float  # to the reference, on the chosen answers
    accuracy: float  # share of the pairs with a margin above 0
    pairs: int  # that the figures were counted over
    learning_rate: float | None = None
    grad_norm: float | None = None
    seconds: float | None = None  # of the step


class TrainingResult(Document):
    status: Literal["finished", "tripped"]
    reason: str | None = None  # of one that tripped a guard
    steps: int  # that were trained
    digest: str | None = None  # of the checkpoint's weights
    made_from: dict[str, str]
    pairs: PairFigures
    tokens_seen: int = 0  # prompt and answer of both sides, padding left out, by this process since it was started
    first: list[StepFigures] = Field(default=[])  # one of each split
    last: list[StepFigures] = Field(default=[])
    versions: dict[str, str] = Field(default={})
