"""What Ctrl-C and SIGTERM do: the first one closes the gate, the second one stops at once, a third one does not wait at all.

Once: nothing more is sent, the answers under way are waited for and kept, servers are stopped, and the run ends. Twice: what
is under way is given up, and servers are stopped. Whichever it was, the same command goes on. The rule that must not break:
a signal that the process was started to ignore stays ignored, as a shell wants it of what runs in its background.
"""

import asyncio
import math
import signal
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from types import FrameType

from factory.client.gate import Gate
from schemas.errors import Stopped

Handler = Callable[[int, FrameType | None], object] | int | None
NUMBERS = (signal.SIGINT, signal.SIGTERM)
APART = 0.25  # seconds: what comes sooner after another is the same key, passed on by a parent as well
GO_ON = "the same command goes on from here"


@dataclass
class StopSignals:
    """The signals that came, and the work that they stop. Enter it as a context to have them handled."""

    say: Callable[[str], None]
    gate: Gate = field(default_factory=Gate)
    clock: Callable[[], float] = time.monotonic
    count: int = 0
    signum: int = 0  # of the last one
    _last: float = -math.inf
    _before: dict[int, Handler] = field(default_factory=dict)
    _loop: asyncio.AbstractEventLoop | None = None
    _task: "asyncio.Task[None] | None" = None

    def __enter__(self) -> "StopSignals":
        self._before = {number: signal.getsignal(number) for number in NUMBERS}
        self.install()
        return self

    def __exit__(self, *details: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def install(self) -> None:
        """Take the signals over, also from a library that took them in the meantime."""
        for number in NUMBERS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._note)

    def run(self, work: Coroutine[object, None, None], gate: Gate) -> None:
        """Do the work in an event loop of its own. Raises what it raises, and Stopped where a signal ended it."""
        self.gate = gate
        try:
            asyncio.run(self._watched(work))
        except BaseException as error:
            if self.count >= 2 or (self.count and not isinstance(error, Exception)):
                raise self._stopped("stopped at once") from error
            raise
        finally:
            self._loop = self._task = None

    async def _watched(self, work: Coroutine[object, None, None]) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.ensure_future(work)
        self.install()
        await self._task

    def _note(self, signum: int, _: FrameType | None) -> None:
        """Runs between any two steps of the main thread, also where the event loop does not come round for a while."""
        last, self._last = self._last, self.clock()
        if self._last - last < APART:
            return
        self.count, self.signum = self.count + 1, signum
        if self._loop is None or self._task is None:
            raise self._stopped("stopped before anything was under way")
        if self.count == 1:
            self._loop.call_soon_threadsafe(self._close)
        elif self.count == 2:
            self._loop.call_soon_threadsafe(self._task.cancel)
            if asyncio.current_task(self._loop) is not None:
                raise asyncio.CancelledError  # in the middle of a step that may take minutes
        else:
            raise KeyboardInterrupt

    def _close(self) -> None:
        waited = self.gate.under_way
        kept = f", {waited} answers under way are waited for" if waited else ""
        self.say(f"stopping: nothing more is sent{kept}; once more stops at once")
        self.gate.close(self._stopped("stopped, and every answer that was under way is kept"))

    def _stopped(self, how: str) -> Stopped:
        return Stopped(f"{how}; {GO_ON}", self.signum)
