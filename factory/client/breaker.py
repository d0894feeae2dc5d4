"""Stops a judge whose replies are bad too often, so that a broken judge costs hundreds of calls and not millions.

A judge with 5% bad replies among its last 1,000 is stopped: `BAD` of them, however few came in all. What was heard stays
heard; what was not sent yet is not sent, and its verdicts say `stopped`. The rule that must not break: an opinion nobody
could have had is nobody's fault; only what came back bad, or did not come, counts.
"""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

from schemas.rows import VerdictStatus

WINDOW: Final = 1000  # replies that are looked back at
BAD: Final = WINDOW // 20


@dataclass(slots=True)
class Breaker:
    """The last replies of one judge."""

    last: deque[VerdictStatus] = field(default_factory=lambda: deque(maxlen=WINDOW))
    bad: int = 0
    tripped: bool = False
    failed: set[str] = field(default_factory=set)  # ids of the requests that were sent and got no reply

    def note(self, request_id: str, status: VerdictStatus) -> bool:
        """One more reply. True where this is the one that stops the judge."""
        if status is VerdictStatus.FAILED:
            self.failed.add(request_id)
        if len(self.last) == WINDOW:
            self.bad -= self.last[0] is not VerdictStatus.OK
        self.last.append(status)
        self.bad += status is not VerdictStatus.OK
        if self.tripped or self.bad < BAD:
            return False
        self.tripped = True
        return True

    def why(self) -> str:
        """What came instead of grades, the commonest first."""
        counted = Counter(status for status in self.last if status is not VerdictStatus.OK)
        kinds = ", ".join(f"{count} {status}" for status, count in counted.most_common())
        return f"{self.bad} of its last {len(self.last)} replies were bad ({kinds})"
