"""What a scheduled run does where another one works on the same run folder."""

import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import cast
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import State

from factory.ledger.turns import Turn, last_turn, write_turn
from factory.progress import Silent
from factory.run import RunFolder
from factory.work import now
from flows import prefect_turn
from flows.prefect_page import Page
from flows.prefect_turn import Me, NotNow, turn
from schemas.schedule import Overlap

PAGE = cast(Page, Silent())
OTHER = Turn(run=str(uuid4()), began=now())


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Which flow runs were said to be in which state. This one was started by a person."""
    said: list[tuple[str, str]] = []

    def note(run: UUID, state: "State[object]") -> None:
        said.append((str(run), state.type.value))

    monkeypatch.setattr(prefect_turn, "_set", note)
    monkeypatch.setattr(prefect_turn, "me", lambda: Me(uuid4(), None, None))
    return said


def held_for(folder: RunFolder, seconds: float) -> threading.Thread:
    """Another one holds the folder for a while, and has it when this returns."""
    holds = threading.Event()

    def hold() -> None:
        with folder.locked():
            holds.set()
            time.sleep(seconds)
            write_turn(folder, OTHER.model_copy(update={"ended": now()}))

    thread = threading.Thread(target=hold)
    thread.start()
    holds.wait()
    return thread


@pytest.mark.parametrize(("overlap", "said"), [(Overlap.WAIT, []), (Overlap.CANCEL, [(OTHER.run, "CANCELLING")])])
def test_turn_comes_when_the_other_has_let_go(
    tmp_path: Path, told: list[tuple[str, str]], overlap: Overlap, said: list[tuple[str, str]]
) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.locked():
        write_turn(folder, OTHER)
    other = held_for(folder, 0.5)

    with turn(folder, overlap, PAGE):
        other.join(timeout=5)
        assert not other.is_alive()
        mine = last_turn(folder)
    ended = last_turn(folder)

    assert mine is not None
    assert mine.ended is None
    assert ended is not None
    assert ended.ended is not None
    assert told == said


def test_turn_that_is_skipped_leaves_the_other_alone(tmp_path: Path, told: list[tuple[str, str]]) -> None:
    folder = RunFolder(tmp_path / "run")
    other = held_for(folder, 0.5)

    with pytest.raises(NotNow, match=r"another process works on this run .*`schedule.overlap` is skip"):
        turn(folder, Overlap.SKIP, PAGE).__enter__()

    other.join()
    assert told == []


def test_turn_after_a_killed_run_says_that_it_was_killed(tmp_path: Path, told: list[tuple[str, str]]) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.locked():
        write_turn(folder, OTHER)

    with turn(folder, Overlap.WAIT, PAGE):
        pass

    assert told == [(OTHER.run, "CRASHED")]


def test_turn_of_a_schedule_that_was_missed_does_not_take_place(
    tmp_path: Path, told: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.locked():
        write_turn(folder, OTHER.model_copy(update={"ended": now()}))
    missed = Me(uuid4(), None, OTHER.began - timedelta(seconds=1))
    monkeypatch.setattr(prefect_turn, "me", lambda: missed)

    with pytest.raises(NotNow, match=r"missed at .*, and caught up by the run that began at"):
        turn(folder, Overlap.WAIT, PAGE).__enter__()

    assert told == []
