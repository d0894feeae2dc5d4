"""The fake engine in a process of its own, so that its work is not counted as the client's.

    python -m tests.fake_engine --faults 500 silence --share 0.2

It prints its port as soon as it listens, tells under /fake what it has done so far, and ends when its standard input does.
"""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

TOLD = "/fake"


class Done(NamedTuple):
    """What the server has done so far."""

    asked: int  # questions of a run, each attempt counted
    dealt: dict[str, int]  # faults
    most_in_flight: int
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Served:
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def done(self) -> Done:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{TOLD}", timeout=30) as answer:
            return Done(**json.load(answer))


@contextmanager
def in_a_process(*options: str) -> Iterator[Served]:
    """The server with these options of its command line, for as long as the block lasts."""
    command = [sys.executable, "-m", "tests.fake_engine", *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Served(int(process.stdout.readline()))
        finally:
            process.stdin.close()
            process.wait()
