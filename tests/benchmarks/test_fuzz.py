"""The fuzzer finds what is wrong, bounds what hangs, survives a reader that dies, and has a reader for each door."""

import time
from pathlib import Path

import pytest
from hypothesis import strategies as st

from benchmarks import fuzz as bench
from benchmarks.fuzz import Hang, bounded, fuzz, names
from benchmarks.fuzz_readers import Reader, readers


def test_names_cover_every_kind_of_reader() -> None:
    kinds = {name.split(",")[0] for name in names()}

    assert kinds >= {"recipe", "prompts", "verdicts", "journal", "records", "parts", "replies", "loops", "query"}


@pytest.mark.parametrize("name", names())
def test_readers_find_no_fault_in_a_few_inputs(name: str, tmp_path: Path) -> None:
    found = fuzz(name, 0.01, 1, tmp_path)

    assert found.inputs > 0
    assert found.faults == ()


def test_fuzz_wrong_reader_is_a_fault_with_the_least_input_that_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(_: Path, given: object) -> None:
        assert isinstance(given, int)
        if given >= 1000:
            raise KeyError(given)

    monkeypatch.setattr("benchmarks.fuzz_readers.readers", lambda _: [Reader("wrong", st.integers(), read)])

    found = fuzz("wrong", 5.0, 0, tmp_path)

    assert found.faults[0].startswith("KeyError: 1000 (")
    assert found.faults[0].endswith(" on 1000")


def test_fuzz_input_that_takes_too_long_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "TOO_LONG", 0.05)
    monkeypatch.setattr(
        "benchmarks.fuzz_readers.readers", lambda _: [Reader("slow", st.just(1), lambda _, __: time.sleep(30))]
    )

    assert "one input took longer than 0.05 s" in fuzz("slow", 5.0, 0, tmp_path).faults[0]


def test_bounded_what_is_in_time_is_let_go_on() -> None:
    with bounded(5.0):
        pass
    with pytest.raises(Hang), bounded(0.05):
        time.sleep(5)


def test_in_a_process_reader_that_is_not_there_is_said_and_not_counted() -> None:
    found = bench.in_a_process("no such reader", 0.1, 0)

    assert found.inputs == 0
    assert found.faults[0].startswith("the process died with 1: ")


def test_readers_are_told_apart_by_their_names(tmp_path: Path) -> None:
    found = [one.name for one in readers(tmp_path)]

    assert len(found) == len(set(found))
