"""The recipe's section on evaluation: what a checkpoint is asked, how it answers, and what a later one may not lose.

The rule that must not break: nothing here depends on the checkpoint or on the recipe's rollouts. Figures of two checkpoints
compare only where both were asked the same in the same way.
"""

from pathlib import Path

from pydantic import Field, field_validator

from schemas.section import Section


class Bounds(Section):
    """What a checkpoint may lose against the one before it. None: that gate is open.

    Shares are differences of rates: 0.02 lets two answers of a hundred more be lost.
    """

    loops: float | None = Field(default=0.0, ge=0, le=1)  # rise of the greedy hard-loop rate, at the largest max_tokens
    sampled_loops: float | None = Field(default=0.0, ge=0, le=1)  # the same of sampled answers, beyond its interval
    accuracy: float | None = Field(default=0.0, ge=0, le=1)  # fall of the verifiable accuracy, beyond its interval
    win_rate: float | None = Field(default=0.0, ge=0, le=0.5)  # by which it may lie below one half, beyond its interval
    perplexity: float | None = Field(default=1.1, ge=1)  # of the prose, after over before
    distinct: float | None = Field(default=0.9, gt=0, le=1)  # of distinct-2 of greedy answers, after over before


class Evaluation(Section):
    paths: list[Path] = Field(default=[])  # held-out prompts, as `prompts.sources`; none: data/evaluation
    sample: int | None = Field(default=None, ge=1)  # how many of them, drawn by `seed`; None: every one
    prose: Path | None = None  # a text with an empty line between passages; None: data/evaluation/prose.txt
    max_tokens: list[int] = Field(default=[256, 1024], min_length=1)
    samples: int = Field(default=1, ge=1, le=16)  # sampled answers a prompt, beside the greedy one
    temperature: float = Field(default=0.7, gt=0, le=5)
    top_p: float = Field(default=1.0, gt=0, le=1)
    min_p: float = Field(default=0.05, ge=0, le=1)  # top_p would sort the vocabulary at every token: a CPU feels it
    stop_loops: bool = (
        False  # let the engine end repetition early: cheaper, and such an answer counts as long as the cap
    )
    verifiers: list[str] = Field(default=["math_answer", "constraints"])
    judged: bool = True  # by the recipe's jury, one answer at a time; false: no win rate
    seed: int = Field(default=0, ge=0, lt=2**32)
    bounds: Bounds = Bounds()

    @field_validator("max_tokens")
    @classmethod
    def _rising(cls, caps: list[int]) -> list[int]:
        if any(cap < 1 for cap in caps) or sorted(set(caps)) != caps:
            raise ValueError("name each cap once, from the smallest to the largest, for example [256, 1024]")
        return caps
