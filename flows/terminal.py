"""What a person sees while it works: bars on a terminal, plain lines with a time in a log.

The rule that must not break: a line may hold a server's or a model's words, so it is cleaned before the terminal reads it.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from factory.progress import Progress
from flows.show import clean

EVERY = 10.0  # seconds between two lines of one phase in a log


class PlainLines:
    """For pipes and logs: a line when something happens, and one every few seconds while a phase goes on."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._phases: dict[str, tuple[int, int, float]] = {}  # done, total, when last said

    def say(self, line: str) -> None:
        print(f"[{time.monotonic() - self._began:6.1f} s] {clean(line).plain}", file=sys.stderr, flush=True)

    def begin(self, phase: str, total: int) -> None:
        self._phases[phase] = (0, total, time.monotonic())
        if total:
            self.say(f"{phase}: 0 of {total}")

    def advance(self, phase: str, steps: int = 1) -> None:
        done, total, said = self._phases.get(phase, (0, 0, 0.0))
        done, now = done + steps, time.monotonic()
        if done == total or now - said >= EVERY:
            self.say(f"{phase}: {done} of {total}")
            said = now
        self._phases[phase] = (done, total, said)

    def expect(self, phase: str, more: int) -> None:
        done, total, said = self._phases.get(phase, (0, 0, 0.0))
        self._phases[phase] = (done, total + more, said)


class LiveBars:
    """For terminals."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def say(self, line: str) -> None:
        self._bars.console.print(clean(line), style="dim")

    def begin(self, phase: str, total: int) -> None:
        self._tasks[phase] = self._bars.add_task(phase, total=total)

    def advance(self, phase: str, steps: int = 1) -> None:
        if phase in self._tasks:
            self._bars.advance(self._tasks[phase], steps)

    def expect(self, phase: str, more: int) -> None:
        if phase in self._tasks:
            total = self._bars.tasks[self._bars.task_ids.index(self._tasks[phase])].total
            self._bars.update(self._tasks[phase], total=(total or 0) + more)


@contextmanager
def progress_display() -> Iterator[Progress]:
    """Bars where standard error is a terminal, lines elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield PlainLines()
        return
    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console) as bars:
        yield LiveBars(bars)
