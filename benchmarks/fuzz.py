"""Bad bytes: every reader of what strangers write is fed spoilt input, and must refuse it in its own words or read it whole.

    python -m benchmarks.fuzz                       ten seconds a reader
    python -m benchmarks.fuzz --quick               under a minute in all
    python -m benchmarks.fuzz --seconds 300 --only journal recipe
    python -m benchmarks.fuzz --seed 7              the same inputs as another run with that seed, as far as both came

Each reader runs in a process of its own, since a library that crashes takes its process along. A fault is an exception that
is not the reader's own, an input that takes longer than TOO_LONG, a row lost or changed without a word, or the death of the
process; hypothesis shrinks its input. The last line of the output is one JSON object.

The rule that its reader must not break: the goal is 0 faults, and a reader that tried nothing has shown nothing.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.table import Table

TOO_LONG = 20.0  # seconds for one input; the slowest sound ones take less than one
CHUNK = 100  # inputs between two looks at the clock
LAST = "input.txt"


@dataclass(frozen=True, slots=True)
class Fuzzed:
    reader: str
    inputs: int
    seconds: float
    slowest: float  # seconds for one input
    faults: tuple[str, ...]


class Hang(BaseException):
    """No reader may catch it."""


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    def stop(_: int, __: FrameType | None) -> None:
        raise Hang(f"one input took longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def fuzz(name: str, seconds: float, seed: int, scratch: Path) -> Fuzzed:
    """Feed one reader for so long, in this process."""
    from hypothesis import HealthCheck, Phase, given, settings  # half a second, and the parent has no use for it
    from hypothesis import seed as seeded

    from benchmarks.fuzz_readers import readers

    found = next(one for one in readers(scratch) if one.name == name)
    work, tried, slowest, faults = scratch / "work", 0, 0.0, list[str]()
    began = time.monotonic()

    def once(given_input: object) -> None:
        nonlocal tried, slowest
        tried += 1
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        (scratch / LAST).write_text(repr(given_input)[:2000], encoding="utf-8", errors="backslashreplace")
        started = time.monotonic()
        try:
            with bounded(TOO_LONG):
                found.read(work, given_input)
        except Hang as hang:
            raise AssertionError(str(hang)) from hang
        finally:
            slowest = max(slowest, time.monotonic() - started)

    while time.monotonic() - began < seconds and not faults:
        test = seeded(seed)(
            settings(
                max_examples=CHUNK,
                database=None,
                deadline=None,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
            )(given(found.inputs)(once))
        )
        seed += 1
        try:
            test()
        except Exception as error:  # noqa: BLE001  # whatever it is, it is what is looked for
            where = traceback.extract_tb(error.__traceback__)[-1]
            said = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            faults.append(
                f"{said} ({Path(where.filename).name}:{where.lineno}) on {(scratch / LAST).read_text()[:300]}"
            )
    return Fuzzed(name, tried, round(time.monotonic() - began, 1), round(slowest, 2), tuple(faults))


def in_a_process(name: str, seconds: float, seed: int) -> Fuzzed:
    with tempfile.TemporaryDirectory(prefix="prefactory-fuzz-") as scratch:
        line = [sys.executable, "-m", "benchmarks.fuzz", "--one", name, "--seconds", str(seconds), "--seed", str(seed)]
        done = subprocess.run([*line, "--scratch", scratch], capture_output=True, text=True, timeout=seconds + 600)
        if done.returncode == 0:
            read = json.loads(done.stdout.splitlines()[-1])
            return Fuzzed(**read | {"faults": tuple(read["faults"])})
        last = Path(scratch, LAST)
        said = (done.stderr.strip().splitlines() or ["without a word"])[-1]
        shown = last.read_text()[:300] if last.exists() else "no input"
        return Fuzzed(name, 0, 0.0, 0.0, (f"the process died with {done.returncode}: {said} on {shown}",))


def names() -> list[str]:
    from benchmarks.fuzz_readers import readers

    with tempfile.TemporaryDirectory() as scratch:
        return [one.name for one in readers(Path(scratch))]


def table(found: list[Fuzzed]) -> Table:
    shown = Table("reader", "inputs", "seconds", "slowest input", "faults", title="Spoilt input, by reader")
    for one in found:
        shown.add_row(one.reader, str(one.inputs), str(one.seconds), f"{one.slowest:.2f} s", str(len(one.faults)))
    return shown


def main(options: argparse.Namespace) -> None:
    if options.one:
        print(json.dumps(asdict(fuzz(options.one, options.seconds, options.seed, Path(options.scratch)))))
        return
    chosen = [name for name in names() if not options.only or any(word in name for word in options.only)]
    seconds = options.seconds if not options.quick else 12.0 / len(chosen)
    found: list[Fuzzed] = []
    for name in chosen:
        found.append(in_a_process(name, seconds, options.seed))
        print(f"{name}: {found[-1].inputs} inputs, {len(found[-1].faults)} faults", file=sys.stderr, flush=True)
    Console(width=120).print(table(found))
    for one in found:
        for fault in one.faults:
            print(f"{one.reader}: {fault}")
    total = {"inputs": sum(one.inputs for one in found), "faults": sum(len(one.faults) for one in found)}
    print(json.dumps({"seed": options.seed, **total, "readers": [asdict(one) for one in found]}))


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description="Spoilt input for every reader.")
    parser.add_argument("--quick", action="store_true", help="half a second a reader")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", metavar="WORD", help="readers whose name holds one of these")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--scratch", help=argparse.SUPPRESS)
    main(parser.parse_args())
