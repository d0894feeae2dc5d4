"""The command line with a fuse: `python -m benchmarks.kill_points KIND COUNT SECONDS NOTE RUNS WORDS…`.

Runs `prefactory WORDS…`, and SECONDS after the COUNT-th event of KIND the process kills itself as `kill -9` would. `file`:
something below RUNS is opened for writing, renamed, removed or made; `answer`: an answer goes into a journal; `none`: never.
NOTE gets the event's name and the number of questions under way, or, where the process comes to its end, how many
events of each kind there were.
"""

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from factory.engine import Engine
from factory.run import Journal
from flows.cli import main as prefactory
from schemas.chat import Completion, Request

Complete = Callable[[Engine, Request], Coroutine[None, None, Completion]]
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = frozenset({"os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"})


class Event(StrEnum):
    FILE = "file"
    ANSWER = "answer"
    NONE = "none"


@dataclass
class Fuse:
    """Burns from the given event on."""

    kind: Event
    count: int
    seconds: float
    note: Path
    runs: str  # what the path of a run's file contains
    seen: Counter[Event] = field(default_factory=Counter)
    under_way: set[str] = field(default_factory=set)  # questions that were begun and have no answer in a journal
    burning: bool = False

    def event(self, kind: Event, name: str) -> None:
        self.seen[kind] += 1
        if kind is self.kind and self.seen[kind] == self.count and not self.burning:
            self.burning = True
            threading.Thread(target=self._burn, args=(name,), daemon=True).start()
            if not self.seconds:
                time.sleep(60)  # so that it is this very event

    def _burn(self, name: str) -> None:
        time.sleep(self.seconds)
        handle = os.open(self.note, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(handle, f"{name}\n{len(self.under_way)}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)

    def audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.burning:
            return
        if event == "open":
            writes = isinstance(arguments[2], int) and arguments[2] & _WRITES
            if not writes or self.runs not in str(arguments[0]):
                return
        elif event not in _CHANGES or self.runs not in str(arguments[0]):
            return
        self.event(Event.FILE, f"{event} {arguments[0]}")

    def watching(self, append: Callable[[Journal, Completion], None]) -> Callable[[Journal, Completion], None]:
        def watched(journal: Journal, completion: Completion) -> None:
            append(journal, completion)
            self.under_way.discard(completion.request_id)
            self.event(Event.ANSWER, f"answer {journal.path}")

        return watched

    def counting(self, complete: Complete) -> Complete:
        async def counted(engine: Engine, request: Request) -> Completion:
            self.under_way.add(request.request_id)
            try:
                return await complete(engine, request)
            except BaseException:
                self.under_way.discard(request.request_id)
                raise

        return counted


def main(kind: str, count: str, seconds: str, note: str, runs: str, *words: str) -> None:
    fuse = Fuse(Event(kind), int(count), float(seconds), Path(note), runs)
    setattr(Journal, "append", fuse.watching(Journal.append))  # noqa: B010  # nothing else sees every answer
    setattr(Engine, "complete", fuse.counting(Engine.complete))  # noqa: B010  # nor every question
    sys.addaudithook(fuse.audit)
    sys.argv = ["prefactory", *words]
    try:
        prefactory()
    finally:
        Path(note).write_text(f"{fuse.seen[Event.FILE]} {fuse.seen[Event.ANSWER]}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
