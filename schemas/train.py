"""The recipe's section `train`: how a checkpoint is made from the pairs, and when the trainer has to stop.

The rule that must not break: what is None here is settled by `settled` alone, so that the trainer and the plan that it
is given know one value each.
"""

from typing import Literal, Self

from pydantic import Field, JsonValue, model_validator

from schemas.section import Section

# As TRL calls them: length-normalised DPO, plain DPO, and cross-entropy on the chosen side alone, which is the control.
Loss = Literal["sigmoid_norm", "sigmoid", "sft"]

# Rewards per token are smaller than rewards per answer by the length of an answer, so they want a larger beta (Tülu 3).
BETAS: dict[Loss, float] = {"sigmoid_norm": 5.0, "sigmoid": 0.1, "sft": 0.1}
FULL_RATE, LORA_RATE = 1e-5, 2e-4
EPOCHS = 3.0
_HOW_IT_RUNS = {"guards", "save_every", "eval_every", "eval_pairs", "device", "gradient_checkpointing"}


class Lora(Section):
    """Low-rank adapters in the place of full weights. They are merged at the end."""

    r: int = Field(default=16, ge=1, le=1024)
    alpha: float = Field(default=32, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: list[str] = Field(default=[])  # empty: every linear layer but the output


class TrainGuards(Section):
    """What stops a training: the first part before it begins, from the pairs alone, the second while it goes on."""

    min_pairs: int = Field(default=16, ge=1)  # after those that are too long are dropped
    max_too_long: float = Field(default=0.25, ge=0, le=1)  # share of the pairs that `max_length` drops
    max_loop_share: float = Field(default=0.95, ge=0, le=1)  # share of the pairs that a loop made
    min_median_margin: float = 0.0  # of the pairs that the jury decided
    min_length_ratio: float = Field(default=0.2, ge=0)  # median of chosen over rejected, in tokens
    max_length_ratio: float = Field(default=5.0, gt=0)
    max_test_overlap: float = Field(default=0.0, ge=0, le=1)  # share of the test prompts that are trained on too
    near_text: float = Field(default=0.8, gt=0, le=1)  # Jaccard of token 3-grams from which two prompts are one
    max_chosen_fall: float = Field(default=0.5, gt=0)  # nats per token that the chosen answers may lose
    max_kl: float = Field(default=0.5, gt=0)  # nats per token, to the reference, on the chosen answers

    @model_validator(mode="after")
    def _ratios_in_order(self) -> Self:
        if self.min_length_ratio >= self.max_length_ratio:
            raise ValueError(
                f"min_length_ratio {self.min_length_ratio:g} leaves nothing below max_length_ratio "
                f"{self.max_length_ratio:g}"
            )
        return self


class Train(Section):
    """The defaults are what taught a small model not to loop without a price in perplexity."""

    loss: Loss = "sigmoid_norm"
    beta: float | None = Field(default=None, gt=0)  # None: 5 for `sigmoid_norm`, 0.1 for `sigmoid`
    learning_rate: float | None = Field(default=None, gt=0)  # None: 1e-5 for full weights, 2e-4 for LoRA
    lora: Lora | None = None  # None: full weights
    epochs: float | None = Field(default=None, gt=0)  # None: 3, unless `max_steps` says it
    max_steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=4, ge=1)  # pairs that a device holds at once; a step is that times the next
    gradient_accumulation: int = Field(default=1, ge=1)
    max_length: int = Field(default=2048, ge=8)  # tokens of prompt and answer; longer pairs are dropped and counted
    warmup: float = Field(default=0.1, ge=0, lt=1)  # share of the steps
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    seed: int | None = Field(default=None, ge=0, lt=2**32)  # None: the recipe's
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # of the arithmetic; the weights are float32 always
    device: Literal["auto", "cpu"] = "auto"
    gradient_checkpointing: bool = False  # a third slower, and much less memory
    save_every: int = Field(default=20, ge=1)  # steps between two states that a killed training goes on from
    eval_every: int = Field(default=10, ge=1)  # steps between two looks at the held-out slice
    eval_pairs: int = Field(default=16, ge=0)  # the size of that slice of the test split; 0: none
    guards: TrainGuards = TrainGuards()

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if self.epochs is not None and self.max_steps is not None:
            raise ValueError("`epochs` and `max_steps` both say when to stop; leave one of them out")
        return self

    def settled(self, seed: int) -> "Train":
        """With every value that is None and means something else filled in. `seed`: the recipe's."""
        rate = FULL_RATE if self.lora is None else LORA_RATE
        ends = self.epochs is not None or self.max_steps is not None
        return self.model_copy(
            update={
                "beta": BETAS[self.loss] if self.beta is None else self.beta,
                "learning_rate": rate if self.learning_rate is None else self.learning_rate,
                "seed": seed if self.seed is None else self.seed,
                "epochs": self.epochs if ends else EPOCHS,
            }
        )

    def deciding(self) -> dict[str, JsonValue]:
        """What decides the weights, in JSON's terms. How a training runs, and when it has to stop, has no part in it."""
        found: dict[str, JsonValue] = self.model_dump(mode="json", exclude=_HOW_IT_RUNS)
        return found
