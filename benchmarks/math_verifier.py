"""The verifier of final results against labelled solutions, the way a run calls it: agreement, speed, and what a hang costs.

    python -m benchmarks.math_verifier                      every labelled solution
    python -m benchmarks.math_verifier --quick              one in twenty questions
    python -m benchmarks.math_verifier --solutions FILE     JSONL: `ground_truth`, and objects with `solution`, `is_correct`

Everything runs through the pool of processes, from a thread that is not the main one and has an event loop of its own;
there a library that sets a signal raises. Then some solutions are checked again with expressions among them that take for
ever: those must be killed, and the others must come back as before. The last line of the output is one JSON object.

The rule that its reader must not break: the reference is given as it stands in the file, reasoning and all; cutting the
result out of it beforehand would measure another verifier.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from factory.judging.calibration import an_answer
from factory.judging.verifying import Check, CheckPool
from judges import math_answer
from schemas.chat import Message, Role
from schemas.rows import Prompt, Verdict, VerdictStatus

SHARED = Path(os.environ.get("PREFACTORY_SHARED", Path(__file__).parents[2] / "shared"))
SOLUTIONS = SHARED / "gold" / "gsm8k_model_solutions.jsonl"
WORKERS = 2
SECONDS = 20.0  # for one check, as in a run
QUICK = 20  # every so many questions
HUNG_SECONDS = 2.0
HOSTILE = ("The answer is $9^{9^{9^9}}$", "A: $(10^{10^{10}})!$", "So it is $\\boxed{2^{2^{2^{2^{2^2}}}}}$.")
BESIDE = 200  # labelled solutions that are checked with the hostile ones
OWN = 300  # labelled solutions that are checked without a pool, for comparison
Figures = dict[str, object]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Labelled:
    """A solution to check, and whether somebody found it to be right."""

    check: Check
    right: bool


def labelled(lines: Sequence[str]) -> Iterator[Labelled]:
    """Every solution of every question."""
    for number, line in enumerate(lines):
        row = json.loads(line)
        prompt = Prompt(f"p{number}", "gold", (Message(Role.USER, row["question"]),), answer=row["ground_truth"])
        for name, value in row.items():
            if isinstance(value, dict):
                answer = an_answer(prompt.prompt_id, name, value["solution"])
                yield Labelled((math_answer.name, prompt, answer), value["is_correct"])


def agrees(one: Labelled, verdict: Verdict) -> bool:
    """An abstention or a failure is no agreement, whatever the label."""
    return verdict.status is VerdictStatus.OK and (verdict.score == 1.0) == one.right


def hostile(like: Check) -> list[Check]:
    name, prompt, _ = like
    return [(name, prompt, an_answer(prompt.prompt_id, f"h{n}", text)) for n, text in enumerate(HOSTILE)]


def elsewhere(work: Coroutine[object, object, T]) -> T:
    """Run it in a thread that is not the main one, on a loop of that thread."""
    found: list[T] = []
    thread = threading.Thread(target=lambda: found.append(asyncio.run(work)), name="not the main thread")
    thread.start()
    thread.join()
    if not found:
        sys.exit("the checks ended in an error, which stands above")
    return found[0]


async def speed(rows: Sequence[Labelled]) -> tuple[tuple[Verdict, ...], Figures]:
    began = time.perf_counter()
    async with CheckPool(WORKERS, SECONDS) as pool:
        await pool.run([rows[0].check] * WORKERS)
        ready = time.perf_counter()
        verdicts = await pool.run([one.check for one in rows])
        seconds = time.perf_counter() - ready
    return verdicts, {
        "start_s": round(ready - began, 2),
        "seconds": round(seconds, 2),
        "per_s": round(len(rows) / seconds, 1),
    }


async def among_hostile(rows: Sequence[Labelled]) -> Figures:
    """The hostile checks are spread evenly among the labelled ones."""
    checks = [one.check for one in rows]
    step = max(1, len(checks) // len(HOSTILE))
    for number, bad in enumerate(hostile(checks[0])):
        checks.insert(number * (step + 1), bad)
    async with CheckPool(WORKERS, HUNG_SECONDS) as pool:
        await pool.run([rows[0].check] * WORKERS)
        began = time.perf_counter()
        verdicts = await pool.run(checks)
        seconds = time.perf_counter() - began
    by_rollout = {(verdict.prompt_id, verdict.rollout_id): verdict for verdict in verdicts}
    killed = [v for v in verdicts if v.status is VerdictStatus.FAILED]
    others = [by_rollout[one.check[2].prompt_id, one.check[2].rollout_id] for one in rows]
    return {
        "hostile": len(HOSTILE),
        "killed": len(killed),
        "killed_why": sorted({verdict.reply or "" for verdict in killed}),
        "beside": len(rows),
        "beside_agreed": sum(map(agrees, rows, others)),
        "seconds": round(seconds, 2),
    }


def own_speed(rows: Sequence[Labelled]) -> float:
    """Checks a second of one process without a pool, in this thread."""
    began = time.perf_counter()
    for one in rows:
        _, prompt, answer = one.check
        math_answer.check(prompt, answer)
    return len(rows) / (time.perf_counter() - began)


def trap() -> Figures:
    """What this process would have been left with by a time limit that rests on signals."""
    handler = signal.getsignal(signal.SIGALRM)
    return {
        "sigalrm": "default" if handler is signal.SIG_DFL else str(handler),
        "timer": signal.getitimer(signal.ITIMER_REAL)[0],
    }


def shown(figures: Figures) -> Table:
    table = Table("", "", show_header=False, title="math_answer against labelled solutions", title_justify="left")
    for name, value in figures.items():
        table.add_row(name, json.dumps(value))
    return table


def main(options: argparse.Namespace) -> None:
    path: Path = options.solutions
    if not path.is_file():
        print(f"skipped: no labelled solutions at {path}; --solutions names a file of that form")
        print(json.dumps({"skipped": str(path)}))
        return
    lines = path.read_text(encoding="utf-8").splitlines()[:: QUICK if options.quick else 1]
    rows = list(labelled(lines))
    verdicts, pool = elsewhere(speed(rows))
    agreed = sum(map(agrees, rows, verdicts))
    console = Console(width=120)
    for one, verdict in zip(rows, verdicts, strict=True):
        if not agrees(one, verdict):
            console.print(
                f"{verdict.rollout_id}: labelled {one.right}, found {verdict.status} {verdict.score}: {verdict.reply}",
                markup=False,
            )
    math_answer.check(*rows[0].check[1:])  # imports count for nobody
    alone = own_speed(rows[:OWN])
    per_s = pool["per_s"]
    assert isinstance(per_s, float)
    figures: Figures = {
        "solutions": len(rows),
        "agreed": agreed,
        "workers": WORKERS,
        **pool,
        "without_a_pool_per_s": round(alone, 1),
        "pool_over_one_process": round(per_s / alone, 2),
        "among_hostile": elsewhere(among_hostile(rows[:BESIDE])),
        "left_behind": trap(),
    }
    console.print(shown(figures))
    print(json.dumps(figures))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.math_verifier", description="The math verifier against labelled solutions."
    )
    parser.add_argument("--quick", action="store_true", help=f"one in {QUICK} questions")
    parser.add_argument("--solutions", type=Path, default=SOLUTIONS, metavar="FILE", help="JSONL of labelled solutions")
    main(parser.parse_args())
