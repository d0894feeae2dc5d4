"""How long each phase of a round took, for the manifest. Phases do not overlap: what runs side by side is one phase."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Phases:
    """`seconds`: wall time by phase, since the round began or they were last taken."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.monotonic() - began

    def added_to(self, before: dict[str, float]) -> dict[str, float]:
        """The sums of both. What was added counts from nothing again."""
        whole = dict(before)
        for phase, spent in self.seconds.items():
            whole[phase] = round(whole.get(phase, 0.0) + spent, 2)
        self.seconds.clear()
        return whole
