"""Runs verifiers where they can be killed: a pool of processes of its own.

The rule that must not break: no text may hang or kill the factory. A check that does not come back in time, takes its
process down, or breaks becomes a verdict with status failed, and the checks beside it go on. Its time is what it uses of a
CPU, so that a busy machine changes no verdict; by the clock it may take several times that, for one that only waits.
"""

import asyncio
import contextlib
import importlib
import math
import resource
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as OutOfTime
from dataclasses import dataclass, field

from pebble import ProcessExpired, ProcessPool

from factory.processes import process_context
from judges.base import Verifier, no_score
from judges.registry import find_verifier
from schemas.rows import Prompt, Rollout, Verdict, VerdictStatus

Check = tuple[str, Prompt, Rollout]  # the verifier's name, and what it looks at
Finder = Callable[[str], Verifier]  # by name; a function of a module, since each process looks it up again

MEMORY_BYTES = 4 * 2**30  # of data for one process: a huge number must not push a model out of memory
BY_THE_CLOCK = 15  # times its CPU seconds a check may take
_SLOW_IMPORTS = ["math_verify", "judges.registry"]


@dataclass
class CheckPool:
    """At most `workers` processes, `cpu_s` seconds of CPU for each check, and `wall_s` by the clock (None: BY_THE_CLOCK times
    as many). Enter it as a context; leaving it ends them all.

    No process is started before something needs one. Works in any thread that runs an event loop, and never blocks it.
    """

    workers: int
    cpu_s: float
    find: Finder = find_verifier
    wall_s: float | None = None
    _pool: ProcessPool | None = None
    _scheduling: asyncio.Lock = field(default_factory=asyncio.Lock)  # a pool is not started twice

    async def __aenter__(self) -> "CheckPool":
        return self

    async def __aexit__(self, *details: object) -> None:
        if self._pool is not None:
            await asyncio.to_thread(_stop, self._pool)

    async def run(self, checks: Sequence[Check]) -> tuple[Verdict, ...]:
        """One verdict for each check, in the order of `checks`. What does not apply abstains here, without a process.

        Raises RecipeError for a name that no verifier has.
        """
        verdicts = [_abstained(check, self.find(check[0])) for check in checks]
        left = [number for number, verdict in enumerate(verdicts) if verdict is None]
        if left:
            found = await self._in_processes([checks[number] for number in left])
            for number, verdict in zip(left, found, strict=True):
                verdicts[number] = verdict
        return tuple(verdict for verdict in verdicts if verdict is not None)

    async def _in_processes(self, checks: Sequence[Check]) -> list[Verdict]:
        if self._pool is None:
            self._pool = ProcessPool(
                max_workers=self.workers, initializer=_make_ready, context=process_context(_SLOW_IMPORTS)
            )
        async with self._scheduling:
            scheduling = asyncio.create_task(
                asyncio.to_thread(_schedule, self._pool, checks, self.cpu_s, self._wall_s, self.find)
            )
            try:
                futures = await asyncio.shield(scheduling)
            finally:
                # A pool that is stopped while it starts would leave its processes behind.
                await asyncio.wait([scheduling])
        answers = await asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)
        return [
            _verdict(check, answer, self.cpu_s, self._wall_s) for check, answer in zip(checks, answers, strict=True)
        ]

    @property
    def _wall_s(self) -> float:
        return BY_THE_CLOCK * self.cpu_s if self.wall_s is None else self.wall_s


def _abstained(check: Check, verifier: Verifier) -> Verdict | None:
    name, prompt, rollout = check
    return None if verifier.applies(prompt, rollout) else no_score(rollout, name, VerdictStatus.ABSTAINED)


def _schedule(
    pool: ProcessPool, checks: Sequence[Check], cpu_s: float, wall_s: float, find: Finder
) -> list[Future[Verdict]]:
    """Blocks while the first process starts, for seconds where the fork server has to start too."""
    return [pool.schedule(_run, args=(cpu_s, find, *check), timeout=wall_s) for check in checks]


def _stop(pool: ProcessPool) -> None:
    pool.stop()  # type: ignore[no-untyped-call]  # pebble leaves it untyped
    pool.join()


def _run(cpu_s: float, find: Finder, name: str, prompt: Prompt, rollout: Rollout) -> Verdict:
    _end_after(cpu_s)
    return find(name).check(prompt, rollout)


def _end_after(cpu_s: float) -> None:
    """The kernel ends this process, by SIGXCPU, when it has used so much CPU from now on; it counts in whole seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = math.ceil(used.ru_utime + used.ru_stime + cpu_s)
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _verdict(check: Check, answer: Verdict | BaseException, cpu_s: float, wall_s: float) -> Verdict:
    if isinstance(answer, Verdict):
        return answer
    name, _, rollout = check
    match answer:
        case OutOfTime():
            why = f"no result within {wall_s:g} s"
        case ProcessExpired() if answer.exitcode == -signal.SIGXCPU:
            why = f"no result within {cpu_s:g} s of CPU"
        case ProcessExpired():
            why = f"its process ended with exit code {answer.exitcode}"
        case _:
            why = f"{type(answer).__name__}: {answer}"
    return no_score(rollout, name, VerdictStatus.FAILED, why)


def _make_ready() -> None:
    """Imports count against no check's time: a fork server that something else started has not made them.

    Where the system allows no bound on memory, the check runs without it.
    """
    for module in _SLOW_IMPORTS:
        importlib.import_module(module)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
