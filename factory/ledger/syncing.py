"""Puts on the disk what is written answer by answer, about once a second, so that a power cut costs no more than that.

The rule that must not break: who writes never waits for the disk. What could not be put there says so at its next write.
"""

import atexit
import threading
import time
from collections.abc import Callable
from typing import Protocol

PERIOD = 1.0  # seconds


class Written(Protocol):
    def put_on_disk(self) -> None:
        """All that was written so far. Raises nothing."""


class Syncer:
    """One thread of a process, from the first answer on. `pause` comes before each look at what was written."""

    def __init__(self, pause: Callable[[], object] = lambda: time.sleep(PERIOD)) -> None:
        self._pause = pause
        self._lock = threading.Lock()
        self._at_it = threading.Lock()
        self._some = threading.Event()
        self._written: set[Written] = set()
        self._thread: threading.Thread | None = None

    def soon(self, one: Written) -> None:
        with self._lock:
            self._written.add(one)
            if self._thread is None:
                thread = threading.Thread(target=self._go_on, name="journals", daemon=True)
                thread.start()
                self._thread = thread
        self._some.set()

    def now(self) -> None:
        """Also what another thread has begun with is on the disk then."""
        with self._at_it:
            with self._lock:
                written, self._written = self._written, set()
                self._some.clear()
            for one in written:
                one.put_on_disk()

    def _go_on(self) -> None:
        while True:
            self._some.wait()
            self._pause()
            self.now()


SYNCER = Syncer()
atexit.register(SYNCER.now)
