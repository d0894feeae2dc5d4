"""What is looked at while a training goes on: has the model begun to lose what it had?

Two curves are watched, each against the same answers at the start: the log-probability per token of the chosen answers, and
the KL to the reference on them. They are taken where it costs nothing, as a running mean over the training batches of the
difference to the reference on the same tokens (so that easy and hard batches do not hide a fall), and, where there is a test
split, on a fixed held-out slice. Only the chosen side is held: the rejected one is meant to become unlikely.

The rule that must not break: a guard is a function of the figures alone, so that a training that goes on after a kill, and has
its figures in metrics.jsonl, decides as if nothing had happened.
"""

import math
from collections.abc import Sequence

from schemas.train import TrainGuards
from schemas.training import StepFigures

WINDOW = 8  # training steps in the running mean


def reason_to_stop(figures: Sequence[StepFigures], guards: TrainGuards, *, own_reference: bool) -> str | None:
    """What the last line of one split's figures breaks, with the field that sets the bound; None where it breaks nothing.

    `own_reference`: the training starts from its reference. Else the batches differ in how far they are from it at the start,
    and a fall is one from the mean of the first few.
    """
    last = figures[-1]
    if reason := not_a_number(last):
        return reason
    window = figures[-WINDOW:] if last.split == "train" else figures[-1:]
    where = f"at step {last.step}, on {'the last batches' if last.split == 'train' else 'the held-out pairs'}"
    begun = figures[: 1 if own_reference or last.split == "test" else WINDOW]
    fall = _mean([line.chosen_shift for line in begun]) - _mean([line.chosen_shift for line in window])
    if fall > guards.max_chosen_fall:
        return (
            f"{where}, the chosen answers have lost {fall:.3f} nats per token, more than train.guards.max_chosen_fall "
            f"{guards.max_chosen_fall:g}"
        )
    kl = _mean([line.kl for line in window])
    if kl > guards.max_kl:
        return f"{where}, the KL to the reference is {kl:.3f} nats per token, more than train.guards.max_kl {guards.max_kl:g}"
    return None


def not_a_number(figures: StepFigures) -> str | None:
    """Of a step whose weights cannot be used any more."""
    for name, value in (("loss", figures.loss), ("gradient's norm", figures.grad_norm)):
        if value is not None and not math.isfinite(value):
            return f"at step {figures.step} the {name} is {value}: lower train.learning_rate, or look at the pairs"
    return None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
