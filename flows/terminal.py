"""What a person sees while it works: bars and the run's pulse on a terminal, plain lines with a time in a log.

The rule that must not break: a line may hold a server's or a model's words, so it is cleaned before the terminal reads it.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from factory.looking.pulse import Watch, lines_of
from factory.objects.place import in_urls
from factory.progress import Progress
from factory.run import RunFolder
from flows.show import clean
from schemas.errors import FactoryError

EVERY = 10.0  # seconds between two lines of one phase in a log
PULSE = 60.0  # seconds between two looks at the whole in a log
SHOWN = 2.0  # and on a terminal


class Pulsing:
    """The lines about a run as a whole, looked up anew after so many seconds. Without a run there are none."""

    def __init__(self, run: RunFolder | None, every: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._watch = Watch(run.root) if run is not None else None
        self._every, self._clock = every, clock
        self._next = clock() + every
        self.lines: list[str] = []

    def due(self) -> bool:
        """Whether the lines are new ones. A run that cannot be looked at now is looked at later."""
        if self._watch is None or self._clock() < self._next:
            return False
        try:
            self.lines = lines_of(self._watch.look())
        except FactoryError:
            self.lines = []
        self._next = self._clock() + self._every
        return bool(self.lines)


class PlainLines:
    """For pipes and logs: a line when something happens, and one every few seconds while a phase goes on."""

    def __init__(self, pulse: Pulsing) -> None:
        self._began = time.monotonic()
        self._pulse = pulse
        self._phases: dict[str, tuple[int, int, float]] = {}  # done, total, when last said

    def say(self, line: str) -> None:
        print(f"[{time.monotonic() - self._began:6.1f} s] {clean(in_urls(line)).plain}", file=sys.stderr, flush=True)

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
            for line in self._pulse.lines if self._pulse.due() else ():
                self.say(line)
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
        self._bars.console.print(clean(in_urls(line)), style="dim")

    def begin(self, phase: str, total: int) -> None:
        self._tasks[phase] = self._bars.add_task(phase, total=total)

    def advance(self, phase: str, steps: int = 1) -> None:
        if phase in self._tasks:
            self._bars.advance(self._tasks[phase], steps)

    def expect(self, phase: str, more: int) -> None:
        if phase in self._tasks:
            total = self._bars.tasks[self._bars.task_ids.index(self._tasks[phase])].total
            self._bars.update(self._tasks[phase], total=(total or 0) + more)


class PulsingBars(Bars):
    """Bars, and below them the run as a whole."""

    pulse = Pulsing(None, SHOWN)  # until one of a run takes its place

    def get_renderables(self) -> Iterator[RenderableType]:
        yield from super().get_renderables()
        self.pulse.due()
        for line in self.pulse.lines:
            yield clean(line)


@contextmanager
def progress_display(run: RunFolder | None = None) -> Iterator[Progress]:
    """Bars where standard error is a terminal, lines elsewhere; with the pulse of the run, where one is named."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield PlainLines(Pulsing(run, PULSE))
        return
    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    bars = PulsingBars(*columns, console=console)
    bars.pulse = Pulsing(run, SHOWN)
    with bars:
        yield LiveBars(bars)
