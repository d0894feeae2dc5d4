"""The recipe's section `grpo`: reinforcement learning on verifiable rewards, small, through TRL's GRPOTrainer.

The rule that must not break: what is None here is settled by `settled` alone, so that the trainer knows one value each.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field

from schemas.manifest import Document
from schemas.section import Section


class Grpo(Section):
    """How many answers to how many prompts, what they earn, and how far a step goes."""

    verifiers: list[str] | None = None  # 1 for an answer that passes, 0 for one that fails; None: those of the jury
    loop_penalty: float = Field(default=-1.0, le=0)  # of a hard loop, and half of it for a soft one
    repetition_penalty: float = Field(default=0.0, le=0)  # times the share of repeated 3-grams
    steps: int = Field(default=20, ge=1)
    prompts_per_step: int = Field(default=4, ge=1)
    generations: int = Field(default=4, ge=2)  # answers to a prompt, which are compared with each other
    max_tokens: int = Field(default=128, ge=1)
    temperature: float = Field(default=1.0, gt=0, le=5)
    learning_rate: float = Field(default=1e-6, gt=0)
    kl: float = Field(default=0.0, ge=0)  # weight of the divergence from the model that it starts from
    seed: int | None = Field(default=None, ge=0, lt=2**32)  # None: the recipe's
    device: Literal["auto", "cpu"] = "auto"

    def settled(self, seed: int, verifiers: list[str]) -> "Grpo":
        """With what the recipe says elsewhere."""
        return self.model_copy(
            update={
                "seed": seed if self.seed is None else self.seed,
                "verifiers": verifiers if self.verifiers is None else self.verifiers,
            }
        )


class GrpoPlan(Document):
    """What the process that trains is told: everything, and no path that is not absolute."""

    grpo: Grpo  # settled
    model: Path
    model_digest: str
    prompts: Path  # the Parquet file of the export's train split
    folder: Path
    threads: int | None = None
    trust_remote_code: bool = False


class GrpoResult(Document):
    """What came out."""

    model_digest: str  # of the model that it started from
    digest: str  # of the checkpoint
    steps: int
    answers: int
    first: dict[str, float]  # rewards and loop shares, by TRL's names, of the first step
    last: dict[str, float]
    seconds: float
    versions: dict[str, str]
