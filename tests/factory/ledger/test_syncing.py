"""What a power cut costs: an answer is on the disk about a second after it came, and nobody who writes waits for that."""

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from factory.ledger.journal import Journal
from factory.ledger.syncing import Syncer
from schemas.chat import Completion
from schemas.errors import StorageError

PATIENCE = 30.0  # seconds: what never comes is a failed test, not one that hangs
ENDS = """
import os, sys
from pathlib import Path
from factory.ledger.journal import Journal
from schemas.chat import Completion
os.fdatasync = lambda handle: print(Path(f"/proc/self/fd/{handle}").readlink().name)
Journal(Path(sys.argv[1])).append(Completion("r", "x", "stop"))
"""


class Step:
    """A pause that lasts until the test says so."""

    def __init__(self) -> None:
        self.reached, self.over = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self) -> None:
        self.reached.release()
        self.over.acquire()

    def end(self) -> None:
        self.over.release()


def until(synced: list[str], count: int) -> None:
    late = time.monotonic() + PATIENCE
    while len(synced) < count:
        assert time.monotonic() < late
        time.sleep(0.01)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was put on the disk, by name."""
    names: list[str] = []

    def note(handle: int) -> None:
        names.append(Path(f"/proc/self/fd/{handle}").readlink().name)

    monkeypatch.setattr(os, "fdatasync", note)
    monkeypatch.setattr(os, "fsync", note)
    return names


def test_syncer_puts_many_answers_on_the_disk_at_once_and_those_after_it_the_next_time(
    tmp_path: Path, synced: list[str]
) -> None:
    step = Step()
    journal = Journal(tmp_path / "j.jsonl", Syncer(step))
    for wanted in (["j.jsonl", tmp_path.name], ["j.jsonl"]):
        for number in range(9):
            journal.append(Completion(f"r{number}", "x", "stop"))
        assert step.reached.acquire(timeout=PATIENCE)
        assert synced == []
        step.end()
        until(synced, len(wanted))
        assert synced == wanted
        synced.clear()


def test_journal_of_a_finished_shard_is_left_alone(tmp_path: Path, synced: list[str]) -> None:
    journal = Journal(tmp_path / "j.jsonl", Syncer(Step()))
    journal.append(Completion("r", "x", "stop"))
    journal.path.unlink()

    journal.put_on_disk()

    assert synced == []


def test_journal_that_could_not_be_put_on_the_disk_says_so_at_its_next_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "j.jsonl", Syncer(Step()))
    journal.append(Completion("r", "x", "stop"))

    def fails(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", fails)
    journal.put_on_disk()

    with pytest.raises(StorageError, match=r"j\.jsonl: cannot be written: Input/output error"):
        journal.append(Completion("s", "x", "stop"))
    assert list(Journal(journal.path).kept) == ["r", "s"]  # the one that came is kept all the same


def test_process_that_ends_puts_the_last_answers_on_the_disk(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", ENDS, str(tmp_path / "j.jsonl")], capture_output=True, text=True, check=True
    )

    assert ended.stdout.split() == ["j.jsonl"]
