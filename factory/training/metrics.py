"""metrics.jsonl, a line for each step and each look at the held-out pairs, and the plot of it.

The rule that must not break: each step stands there once, also where a training was killed and went on from an earlier one.
"""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from pydantic import ValidationError

from factory import store
from schemas.training import StepFigures

PANELS = (
    ("loss", ("loss",)),
    ("margin per token (nats)", ("margin",)),
    ("log-probability per token (nats)", ("chosen", "rejected")),
    ("KL to the reference, chosen, per token (nats)", ("kl",)),
)
_STYLES = {"train": "-", "test": "o--"}


class Metrics:
    """The figures of one training, on the disk and here."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[StepFigures] = []

    def go_on_from(self, step: int, *, kept: bool) -> None:
        """Read what is there, and drop what came after the step, and half a line of a kill. `kept`: on the disk too."""
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        found = [line for line in map(_read, text.splitlines()) if line is not None]
        self.lines = [line for line in found if line.step <= step] if step else []
        if kept:
            store.write_text(self.path, "".join(f"{line.model_dump_json()}\n" for line in self.lines))

    def append(self, figures: StepFigures, *, kept: bool) -> None:
        self.lines.append(figures)
        if kept:
            with self.path.open("a", encoding="utf-8") as handle:
                handle.write(f"{figures.model_dump_json()}\n")

    def first(self) -> list[StepFigures]:
        return [line for split in _STYLES for line in self.of(split)[:1]]

    def last(self) -> list[StepFigures]:
        return [line for split in _STYLES for line in self.of(split)[-1:]]

    def of(self, split: str) -> list[StepFigures]:
        return [line for line in self.lines if line.split == split]


def _read(line: str) -> StepFigures | None:
    try:
        return StepFigures.model_validate_json(line)
    except ValidationError:
        return None


def plot(lines: Sequence[StepFigures], path: Path) -> None:
    """A PNG with loss, margin, log-probabilities and KL over the steps."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    for axes, (title, names) in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
        for split, style in _STYLES.items():
            rows = [line for line in lines if line.split == split]
            for number, name in enumerate(names):
                label = f"{name}, {split}" if len(names) > 1 else split
                values = [getattr(row, name) for row in rows]
                axes.plot([row.step for row in rows], values, style, color=f"C{number}", label=label, markersize=4)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    with store.writing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
