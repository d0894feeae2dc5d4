"""What stops a training that goes on, and the figures that it is decided by."""

import math
from pathlib import Path

import pytest

from factory.training.metrics import Metrics, plot
from factory.training.step_guards import WINDOW, reason_to_stop
from schemas.train import TrainGuards
from schemas.training import StepFigures

BOUNDS = TrainGuards(max_chosen_fall=0.2, max_kl=0.3)


def line(step: int, shift: float = 0.0, kl: float = 0.0, split: str = "train", **more: object) -> StepFigures:
    figures: dict[str, object] = {
        "step": step,
        "split": split,
        "loss": 0.6,
        "margin": 0.1,
        "chosen": -1.0,
        "rejected": -1.2,
    }
    figures |= {"chosen_shift": shift, "rejected_shift": -0.1, "kl": kl, "accuracy": 0.5, "pairs": 4}
    return StepFigures.model_validate(figures | more)


def test_guards_of_a_sound_training_say_nothing() -> None:
    assert reason_to_stop([line(step, -0.1, 0.1) for step in range(1, 20)], BOUNDS, own_reference=True) is None


def test_guards_stop_a_training_whose_chosen_answers_fall() -> None:
    reason = reason_to_stop([line(1), *(line(step, -0.3) for step in range(2, 20))], BOUNDS, own_reference=True)

    assert reason is not None
    assert "have lost 0.300 nats per token, more than train.guards.max_chosen_fall 0.2" in reason


def test_guards_measure_the_fall_from_the_start_where_the_reference_is_another_model() -> None:
    """Where its batches differ in how far they are from it, no single one is the start."""
    uneven = [line(step, -0.9 if step % 4 else 0.3) for step in range(1, 20)]

    assert reason_to_stop([line(step, -0.9) for step in range(1, 20)], BOUNDS, own_reference=False) is None
    assert reason_to_stop([line(0, 0.3), *uneven], BOUNDS, own_reference=False) is None
    fallen = [line(step, -0.9 if step < 10 else -1.2) for step in range(1, 20)]
    assert "have lost 0.300" in (reason_to_stop(fallen, BOUNDS, own_reference=False) or "")


def test_guards_forgive_one_hard_batch_and_not_a_held_out_one() -> None:
    calm = [line(step) for step in range(1, WINDOW)]
    held_out = [line(0, split="test"), line(WINDOW, -0.3, split="test")]

    assert reason_to_stop([*calm, line(WINDOW, -0.3, 0.5)], BOUNDS, own_reference=True) is None
    assert "on the held-out pairs" in (reason_to_stop(held_out, BOUNDS, own_reference=True) or "")


def test_guards_stop_a_training_that_leaves_its_reference() -> None:
    assert "max_kl 0.3" in (
        reason_to_stop([line(step, 0.0, 0.4) for step in range(1, 20)], BOUNDS, own_reference=True) or ""
    )


@pytest.mark.parametrize("more", [{"loss": math.nan}, {"loss": math.inf}, {"grad_norm": math.nan}], ids=str)
def test_guards_stop_at_what_is_no_number(more: dict[str, float]) -> None:
    assert "at step 3" in (
        reason_to_stop([line(1), line(2), line(3).model_copy(update=more)], BOUNDS, own_reference=True) or ""
    )


# metrics.jsonl


def test_metrics_after_a_kill_hold_each_step_once(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "metrics.jsonl")
    metrics.go_on_from(0, kept=True)
    for step in range(1, 6):
        metrics.append(line(step), kept=True)
    with metrics.path.open("a") as handle:
        handle.write('{"step": 6, "spl')

    again = Metrics(metrics.path)
    again.go_on_from(3, kept=True)
    again.append(line(4, -0.5), kept=True)

    assert again.lines == [line(1), line(2), line(3), line(4, -0.5)]
    read = [StepFigures.model_validate_json(text) for text in metrics.path.read_text().splitlines()]
    assert read == again.lines


def test_metrics_of_a_training_from_the_start_forget_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(line(1).model_dump_json() + "\n")

    Metrics(path).go_on_from(0, kept=True)

    assert path.read_text() == ""


def test_metrics_not_kept_leave_the_disk_alone(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "metrics.jsonl")
    metrics.go_on_from(0, kept=False)
    metrics.append(line(1), kept=False)

    assert list(tmp_path.iterdir()) == []
    assert metrics.last() == [line(1)]


def test_plot_is_a_picture_with_and_without_held_out_pairs(tmp_path: Path) -> None:
    for name, lines in (("one", [line(1), line(2)]), ("two", [line(0, split="test"), line(1), line(1, split="test")])):
        plot(lines, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
