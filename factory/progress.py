"""What the work says while it goes on. The factory reports; `flows` decides how it looks."""

from typing import Protocol


class Progress(Protocol):
    def say(self, line: str) -> None:
        """One thing that happened, or that is waited for and why."""

    def begin(self, phase: str, total: int) -> None:
        """A phase of `total` steps begins."""

    def advance(self, phase: str, steps: int = 1) -> None:
        """So many steps of the phase are done."""

    def expect(self, phase: str, more: int) -> None:
        """The phase has so many steps more than was said when it began, or fewer."""


class Silent:
    """For callers that do not look."""

    def say(self, line: str) -> None: ...

    def begin(self, phase: str, total: int) -> None: ...

    def advance(self, phase: str, steps: int = 1) -> None: ...

    def expect(self, phase: str, more: int) -> None: ...
