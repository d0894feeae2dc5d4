"""The log of the questions that arrived somewhere: a line for each, with a letter, the time, and the question's name.

The rule that must not break: a line is written at once and whole, so that a kill of its writer costs none that stands there.
"""

import time
from collections.abc import Callable
from pathlib import Path

ARRIVED, PROBED = "R", "P"


def writer(log: Path) -> Callable[[str, str], None]:
    """Writes a line of a letter and a name."""

    def write(letter: str, name: str) -> None:
        with log.open("a") as file:
            file.write(f"{letter} {time.monotonic():.4f} {name}\n")

    return write


def arrived(log: Path) -> list[tuple[float, str]]:
    """When each question came, and its name. Probes are none."""
    lines = log.read_text().splitlines() if log.exists() else []
    parted = [line.split(maxsplit=2) for line in lines]
    return [(float(at), name) for letter, at, name in parted if letter == ARRIVED]
