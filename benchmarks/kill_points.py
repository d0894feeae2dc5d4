"""The command line with a fuse: `python -m benchmarks.kill_points KIND COUNT SECONDS NOTE RUNS WORDS…`.

Runs `prefactory WORDS…`, and SECONDS after the COUNT-th event of KIND the process kills itself as `kill -9` would. `file`:
something below RUNS is opened for writing, renamed, removed or made; `answer`: an answer goes into a journal; `verdict`: a
judge's answer does; `server`: a vLLM is started; `none`: never.

NOTE gets the event's name and the number of questions under way, or, where the process comes to its end, how many files and
answers there were. Beside it, in a file whose name ends in `.asked`, a line for each question (`benchmarks.asked`).
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
from typing import Concatenate, ParamSpec

from benchmarks.asked import ARRIVED, writer
from factory.client.pool import Replica
from factory.engine import Engine
from factory.ledger.journal import Journal
from flows.cli import main as prefactory
from schemas.chat import Completion, Request

P = ParamSpec("P")
Answer = Callable[Concatenate[Engine, Replica, Request, P], Coroutine[None, None, Completion]]
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = frozenset({"os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"})


class Event(StrEnum):
    FILE = "file"
    ANSWER = "answer"
    VERDICT = "verdict"
    SERVER = "server"
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
        if event == "subprocess.Popen" and "vllm.entrypoints" in str(arguments[1]):
            self.event(Event.SERVER, "server")
        elif self._changes(event, arguments) and self.runs in str(arguments[0]):
            self.event(Event.FILE, f"{event} {arguments[0]}")

    @staticmethod
    def _changes(event: str, arguments: tuple[object, ...]) -> bool:
        """Whether a file is written to, made, renamed or removed."""
        if event == "open":
            return isinstance(arguments[2], int) and bool(arguments[2] & _WRITES)
        return event in _CHANGES

    def watching(self, append: Callable[[Journal, Completion], None]) -> Callable[[Journal, Completion], None]:
        def watched(journal: Journal, completion: Completion) -> None:
            append(journal, completion)
            self.under_way.discard(completion.request_id)
            if journal.path.name.startswith("verdicts"):
                self.event(Event.VERDICT, f"answer {journal.path}")
            self.event(Event.ANSWER, f"answer {journal.path}")

        return watched

    def counting(self, answer: Answer[P]) -> Answer[P]:
        note = writer(self.note.with_name(f"{self.note.name}.asked"))

        async def counted(
            engine: Engine, replica: Replica, request: Request, /, *more: P.args, **named: P.kwargs
        ) -> Completion:
            self.under_way.add(request.request_id)
            note(ARRIVED, request.request_id)
            try:
                return await answer(engine, replica, request, *more, **named)
            except BaseException:
                self.under_way.discard(request.request_id)
                raise

        return counted


def main(kind: str, count: str, seconds: str, note: str, runs: str, *words: str) -> None:
    fuse = Fuse(Event(kind), int(count), float(seconds), Path(note), runs)
    setattr(Journal, "append", fuse.watching(Journal.append))  # noqa: B010  # nothing else sees every answer
    setattr(Engine, "_answer", fuse.counting(Engine._answer))  # noqa: B010  # nor every question that has its turn
    sys.addaudithook(fuse.audit)
    sys.argv = ["prefactory", *words]
    try:
        prefactory()
    finally:
        Path(note).write_text(f"{fuse.seen[Event.FILE]} {fuse.seen[Event.ANSWER]}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
