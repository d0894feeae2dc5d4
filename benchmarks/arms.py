"""What one way of doing some work took, beside another way: wall time, CPU time, and how full the engine was kept.

The rule that its reader must not break: two arms are compared only where they ran right after one another on one server.
"""

import math
import os
import time
from dataclasses import dataclass

import httpx
import psutil


@dataclass(frozen=True, slots=True)
class Arm:
    """One of the two ways, once."""

    seconds: float
    cpu_ms: float  # of our own process, a request
    cpu_s: float  # of our own process and the server
    in_engine: float  # requests, on average
    others: float  # cores that other processes kept busy
    tokens: int  # that came back


@dataclass(frozen=True, slots=True)
class Clock:
    """What time had been spent when it was read, by whom."""

    wall: float
    own: float  # CPU of this process
    family: float  # and of the server
    idle: float  # of all cores
    latency: float  # of all requests that the server has answered

    @staticmethod
    def read(url: str) -> "Clock":
        here = psutil.Process()
        own = sum(here.cpu_times()[:2])
        server = sum(sum(each.cpu_times()[:2]) for each in here.children(recursive=True))
        idle = sum(psutil.cpu_times(percpu=False)[3:5])
        return Clock(time.perf_counter(), own, own + server, idle, answered_latency(url))

    def arm(self, after: "Clock", requests: int, tokens: int, seconds: float | None = None) -> Arm:
        """What happened between two readings. `seconds`: where another clock knows better how long the work took."""
        wall, cpu = after.wall - self.wall, after.family - self.family
        busy = wall * (os.cpu_count() or 1) - (after.idle - self.idle)
        took = seconds or wall
        return Arm(
            seconds=round(took, 3),
            cpu_ms=round(1000 * (after.own - self.own) / requests, 3),
            cpu_s=round(cpu, 3),
            in_engine=round((after.latency - self.latency) / took, 2),
            others=round(max(0.0, busy - cpu) / wall, 2),
            tokens=tokens,
        )


def answered_latency(url: str) -> float:
    """Seconds that requests have been in the server, summed over all that it has answered; nan where it does not say."""
    return latency_in(httpx.get(f"{url.removesuffix('/v1')}/metrics", trust_env=False).text)


def latency_in(metrics: str) -> float:
    sums = [line for line in metrics.splitlines() if line.startswith("vllm:e2e_request_latency_seconds_sum")]
    return sum(float(line.split()[-1]) for line in sums) if sums else math.nan
