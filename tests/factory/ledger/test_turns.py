"""Whose turn it was: what makes a missed schedule be caught up once, and a killed run known as killed."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from factory.ledger.turns import Turn, caught_up, last_turn, write_turn
from factory.run import RunFolder

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@given(st.lists(st.integers(0, 500), unique=True, min_size=1), st.integers(1, 60))
def test_turns_of_schedules_that_were_missed_together_one_runs(minutes: list[int], seconds: int) -> None:
    """A worker that comes back finds all of them at once; each asks when it holds the folder, in whatever order."""
    at, last, ran = NOON + timedelta(minutes=501), None, 0
    for minute in minutes:
        if not caught_up(last, NOON + timedelta(minutes=minute)):
            last, ran = Turn(run="", began=at), ran + 1
        at += timedelta(seconds=seconds)

    assert ran == 1


def test_turns_schedule_that_came_while_another_ran_is_its_own() -> None:
    began = Turn(run="", began=NOON)

    assert not caught_up(began, NOON + timedelta(seconds=1))
    assert not caught_up(began, None)
    assert not caught_up(None, NOON)


def test_turns_are_read_as_written_and_none_where_they_cannot_be(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert last_turn(folder) is None
    write_turn(folder, turn := Turn(run="a", began=NOON, ended=NOON))
    assert last_turn(folder) == turn
    folder.turn_path.write_text("{")
    assert last_turn(folder) is None
