"""TRL's DPOTrainer on stored token ids: its losses and its loop, our data, our figures, our guards.

The rule that must not break: TRL prepares nothing. Its dataset preparation would tokenize again, close every answer with an end
token and drop pairs without a word, so it is passed over; and its logged rewards, which are sums over tokens, are left out.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import DPOTrainer

from factory.training.losses import Side, kl_per_token, kl_per_token_of_own, mean
from factory.training.metrics import Metrics
from factory.training.step_guards import not_a_number, reason_to_stop
from schemas.train import TrainGuards
from schemas.training import StepFigures

_SUMS = ("chosen", "rejected", "chosen_shift", "rejected_shift", "kl", "accuracy", "pairs")


@dataclass
class Watch:
    """What is made of the figures: lines on the disk and on the terminal, and the reason to stop."""

    metrics: Metrics
    guards: TrainGuards
    say: Callable[[str], None]
    main: bool  # of the processes that train together, the one that writes
    own_reference: bool  # the training starts from its reference, which wrote the chosen answers then
    tripped: str | None = None

    def go_on_from(self, step: int) -> None:
        """With the figures up to that step; what had to stop then has to stop now."""
        self.metrics.go_on_from(step, kept=self.main)
        for line in self.metrics.last():
            self._judge(self.metrics.of(line.split))

    def see(self, figures: StepFigures, steps: int) -> None:
        self.metrics.append(figures, kept=self.main)
        self.say(_line(figures, steps))
        self._judge(self.metrics.of(figures.split))

    def _judge(self, lines: Sequence[StepFigures]) -> None:
        self.tripped = self.tripped or reason_to_stop(lines, self.guards, own_reference=self.own_reference)


def _line(figures: StepFigures, steps: int) -> str:
    what = f"step {figures.step} of {steps}" if figures.split == "train" else f"held out, step {figures.step}"
    pace = "" if figures.seconds is None else f", {figures.seconds:.1f} s"
    return (
        f"{what}: loss {figures.loss:.4f}, margin {figures.margin:+.4f}, chosen {figures.chosen:.3f} "
        f"({figures.chosen_shift:+.4f}), rejected {figures.rejected:.3f} ({figures.rejected_shift:+.4f}), "
        f"KL {figures.kl:.4f}{pace}"
    )


@dataclass
class Stop(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Ends the training after the step that is under way, with a state to go on from: for a signal, or for a guard."""

    together: Callable[[int], int]  # the most that any of the processes says
    signum: int = 0

    def note(self, signum: int, _: object) -> None:
        self.signum = self.signum or signum

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        self.signum = self.together(self.signum)
        if state.global_step >= state.max_steps:
            control.should_save = False  # the checkpoint itself comes next
        elif self.signum:
            control.should_training_stop = control.should_save = True
        return control


@dataclass
class _Sums:
    """Over the pairs since the last line."""

    values: dict[str, Tensor] = field(default_factory=dict)

    def add(self, more: dict[str, Tensor]) -> None:
        for name, value in more.items():
            self.values[name] = self.values.get(name, torch.zeros((), device=value.device)) + value.sum()


class PreferenceTrainer(DPOTrainer):  # type: ignore[misc]  # TRL is not typed
    """`watch` sees every step's figures, and every look at the held-out pairs."""

    def __init__(self, *, watch: Watch, model: PreTrainedModel, **settings: object) -> None:
        self.watch = watch
        self.pad_of_base = model.config.get_text_config().pad_token_id  # TRL gives the model one where it has none
        self.tokens_seen = 0
        self._sums = {"train": _Sums(), "test": _Sums()}
        self._began = time.monotonic()
        super().__init__(model=model, **settings)

    def _prepare_dataset(self, dataset: Dataset, *_: object) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *_: object) -> Dataset:
        """They are in the dataset."""
        return dataset

    def create_model_card(self, **_: object) -> None:
        """None: what is left of a state that is gone on from is removed at the end."""

    def _compute_loss(self, model: torch.nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False) -> Tensor:
        inputs = dict(inputs)
        reference, seen = inputs.pop("ref_token_logps"), list[Tensor]()

        def watched(**arguments: object) -> object:
            output = model(**arguments)
            seen.append(output.log_probs.detach())
            return output

        loss = super()._compute_loss(watched, inputs, return_outputs)
        split = "train" if self.model.training else "test"
        kl = kl_per_token if self.watch.own_reference else kl_per_token_of_own
        self._sums[split].add(_figures(seen[0], reference, inputs["completion_mask"][:, 1:], kl))
        if split == "train":
            self.tokens_seen += int(inputs["attention_mask"].sum())
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        self._metrics["train"].clear()
        self._metrics["eval"].clear()
        if "loss" in logs:
            now = time.monotonic()
            figures = self._line("train", logs["loss"])
            more = {name: logs.get(name) for name in ("learning_rate", "grad_norm")}
            figures = figures.model_copy(update=more | {"seconds": round(now - self._began, 3)})
            self._began = now
        elif "eval_loss" in logs:
            figures = self._line("test", logs["eval_loss"])
            self._began = time.monotonic()
        else:
            return
        self.watch.see(figures, self.state.max_steps)
        Trainer.log(self, figures.model_dump(exclude={"step"}), start_time)
        if self.watch.tripped:
            self.control.should_training_stop = True
            self.control.should_save = not_a_number(figures) is None  # such weights are nothing to go on from

    def _line(self, split: str, loss: float) -> StepFigures:
        found = self._sums[split].values
        self._sums[split] = _Sums()
        sums = self.accelerator.reduce(torch.stack([found[name] for name in _SUMS]), "sum")
        *rest, pairs = sums.tolist()
        means = dict(zip(_SUMS, (value / pairs for value in rest), strict=False))
        return StepFigures.model_validate(
            means
            | {
                "step": self.state.global_step,
                "split": split,
                "loss": loss,
                "margin": means["chosen_shift"] - means["rejected_shift"],
                "pairs": round(pairs),
            }
        )


def _figures(policy: Tensor, reference: Tensor, mask: Tensor, kl: Callable[[Side], Tensor]) -> dict[str, Tensor]:
    """By name, (B,) each. `policy`, `reference`, `mask`: (2B, T), the chosen sides first."""
    chosen, rejected = (
        Side(*sides) for sides in zip(*(part.chunk(2) for part in (policy.float(), reference, mask)), strict=True)
    )
    up, down = mean(chosen.log_ratios, chosen.mask), mean(rejected.log_ratios, rejected.mask)
    return {
        "chosen": mean(chosen.policy, chosen.mask),
        "rejected": mean(rejected.policy, rejected.mask),
        "chosen_shift": up,
        "rejected_shift": down,
        "kl": kl(chosen),
        "accuracy": (up > down).float(),
        "pairs": torch.ones_like(up),
    }
