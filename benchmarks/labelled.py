"""Real answers that people labelled by eye: what the loop detectors are calibrated on and measured against.

`loop_labels/README.md` says how they were made, drawn and read. The rule that must not break: thresholds are chosen on the
calibration half alone, and the test half is only ever counted.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.loop_peers import Answer
from factory.wilson import wilson

FOLDER = Path(__file__).parent / "loop_labels"


@dataclass(frozen=True, slots=True)
class Labelled:
    """One answer with its label: `hard`, `soft` or `clean`; `sure` where no reader doubted it."""

    half: str  # calibration or test
    answer: Answer
    label: str
    sure: bool

    @property
    def hard(self) -> bool:
        return self.label == "hard"


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Hits are hard loops that were flagged."""

    hits: int
    false: int
    missed: int

    @property
    def precision(self) -> float:
        return self.hits / (self.hits + self.false) if self.hits else 0.0

    @property
    def recall(self) -> float:
        return self.hits / (self.hits + self.missed) if self.hits else 0.0

    @property
    def f1(self) -> float:
        return 2 * self.hits / (2 * self.hits + self.false + self.missed)

    @property
    def intervals(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Wilson's 95% intervals of precision and recall."""
        return wilson(self.hits, self.hits + self.false), wilson(self.hits, self.hits + self.missed)


def labelled(half: str) -> list[Labelled]:
    """The answers of one half, in the order of their ids."""
    answers = {row["id"]: row for row in pq.ParquetFile(FOLDER / "answers.parquet").read().to_pylist()}
    rows = [json.loads(line) for line in (FOLDER / "labels.jsonl").read_text(encoding="utf-8").splitlines()]
    return [
        Labelled(half, _answer(answers[row["id"]]), row["label"], row["sure"])
        for row in sorted(rows, key=lambda row: str(row["id"]))
        if row["half"] == half
    ]


def _answer(row: dict[str, object]) -> Answer:
    ids = row["token_ids"]
    assert isinstance(ids, list)
    return Answer(str(row["text"]), tuple(ids), str(row["finish_reason"]))


def accuracy(flags: Callable[[Answer], bool], among: Sequence[Labelled]) -> Accuracy:
    flagged = [flags(one.answer) for one in among]
    return Accuracy(
        hits=sum(one.hard and flag for one, flag in zip(among, flagged, strict=True)),
        false=sum(not one.hard and flag for one, flag in zip(among, flagged, strict=True)),
        missed=sum(one.hard and not flag for one, flag in zip(among, flagged, strict=True)),
    )
