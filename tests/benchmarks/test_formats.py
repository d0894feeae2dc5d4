"""The pure parts of `benchmarks.formats`: what counts as read."""

import subprocess
from pathlib import Path

import pytest

from benchmarks.formats import Outcome, all_well, judged, tried
from schemas.export import ExportFormat
from tests.format_cases import CASES

SIDES = [[f"assistant\n{case.pair.chosen}<end>", case.pair.rejected] for case in CASES if case.pair.chosen.strip()]
LEFT_OUT = {"empty_answer": 1}


def test_judged_every_side_as_written_is_read() -> None:
    outcome = judged("axolotl", {"rows": {"train": 6, "test": 4}, "answers": SIDES}, LEFT_OUT)

    assert outcome.passed
    assert (outcome.written, outcome.read, outcome.unlike) == (len(CASES) - 1, len(CASES) - 1, 0)


def test_judged_a_row_that_the_loader_lost_is_not_read() -> None:
    assert not judged("axolotl", {"rows": {"train": 5, "test": 4}, "answers": SIDES[1:]}, LEFT_OUT).passed


def test_judged_a_side_that_is_cut_or_swapped_is_unlike() -> None:
    (chosen, rejected), *others = SIDES

    for wrong in ([chosen[:-8], rejected], [rejected, chosen]):
        outcome = judged("axolotl", {"rows": {"train": 10}, "answers": [wrong, *others]}, LEFT_OUT)
        assert (outcome.unlike, outcome.passed) == (1, False)


def test_tried_a_loader_that_crashes_has_read_nothing_and_one_that_does_not_install_was_not_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    crash = subprocess.CalledProcessError(1, "loader", stderr="Traceback\nValueError: no such column")

    def fails(*_: object) -> Path:
        raise crash

    monkeypatch.setattr("benchmarks.formats.read_by_trainer", fails)
    monkeypatch.setattr("benchmarks.formats.environment", lambda *_: tmp_path)
    read = tried(ExportFormat.AXOLOTL, tmp_path, {}, tmp_path, None)
    monkeypatch.setattr("benchmarks.formats.environment", fails)
    absent = tried(ExportFormat.AXOLOTL, tmp_path, {}, tmp_path, None)

    assert (read.read, read.passed, read.why) == (0, False, "NOT READ: ValueError: no such column")
    assert (absent.read, absent.why) == (None, "does not install here: ValueError: no such column")


def test_all_well_where_something_was_asked_and_all_of_it_read() -> None:
    read, lost, absent = (Outcome("axolotl", 2, rows, 0, {}) for rows in (2, 0, None))

    assert all_well([read, absent])
    assert not all_well([read, lost])
    assert not all_well([absent])
