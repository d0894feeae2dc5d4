"""How fast verdicts become pairs: the pure part of a run, without reading or writing files.

    python -m benchmarks.jury_speed                    1,000,000 prompts x 6 answers x 3 judges
    python -m benchmarks.jury_speed --quick            20,000 prompts
    python -m benchmarks.jury_speed --judges 6 --aggregation bradley_terry

Every prompt goes through what a run does with its rows: the judges' spreads are pooled over all prompts, then each prompt
gets its standing, its scorecards, and its pair or the reason why it has none. Texts are real answers of the shipped model,
scores are drawn; rows are made shard by shard and thrown away, as a run reads and writes them. The seconds count that work
alone, in the process that takes longest; making the rows is listed beside it. The last line of the output is one JSON object.
"""

import argparse
import json
import random
import resource
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import get_args

from rich.console import Console
from rich.table import Table

from benchmarks.labelled import labelled
from factory.judging.spreads import PooledSpread
from factory.jury import Rules, scorecards, stand
from factory.pairing import pair_prompt
from factory.processes import process_context
from schemas.chat import Message, Role
from schemas.recipe import Aggregation, JudgeRef, Jury, Pairing
from schemas.rows import Dropped, Loop, Prompt, Rollout, Verdict, VerdictStatus

SHARD = 256  # prompts that lie in memory at once
SLOTS = ("greedy", "t0", "t1", "t2", "t3", "t4")
LOOPING = 0.05  # share of the answers that are hard loops
Rows = tuple[Prompt, list[Rollout], list[Verdict]]


@dataclass(frozen=True, slots=True)
class Load:
    """What is made and how it is decided. Process `worker` of `workers` takes every `workers`-th shard."""

    prompts: int
    workers: int
    jury: Jury
    pairing: Pairing

    def shards(self, worker: int) -> range:
        return range(worker * SHARD, self.prompts, self.workers * SHARD)


@dataclass(slots=True)
class Spent:
    """Of one process: wall seconds of the work, CPU seconds of it, wall seconds of making rows, memory in MB."""

    work: float = 0.0
    cpu: float = 0.0
    making: float = 0.0
    peak_mb: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)


def texts() -> list[str]:
    """Real answers, of all lengths."""
    return [one.answer.text for one in labelled("calibration") if one.answer.text.strip()]


def made(first: int, load: Load, answers: list[str]) -> list[Rows]:
    """The rows of one shard, the same whenever they are made."""
    return [_prompt_rows(number, load, answers) for number in range(first, min(first + SHARD, load.prompts))]


def _prompt_rows(number: int, load: Load, answers: list[str]) -> Rows:
    dice = random.Random(number)
    prompt_id = f"{number:032x}"
    prompt = Prompt(prompt_id, "made", (Message(Role.USER, "What next?"),))
    rollouts = [_rollout(prompt_id, slot, dice, answers) for slot in SLOTS]
    quality = {one.rollout_id: dice.gauss(5, 1.5) for one in rollouts}
    verdicts = [
        _verdict(one, seat, quality[one.rollout_id] + dice.gauss(0, 1.5))
        for one in rollouts
        for seat in load.jury.seats
    ]
    return prompt, rollouts, verdicts


_ANSWER = Rollout("", "", "", 0.7, 1.0, 0.0, 0, "made", "made", "", None, "stop", None, None, Loop.CLEAN)


def _rollout(prompt_id: str, slot: str, dice: random.Random, answers: list[str]) -> Rollout:
    loop = Loop.HARD if dice.random() < LOOPING else Loop.CLEAN
    text = answers[dice.randrange(len(answers))]
    return replace(
        _ANSWER, rollout_id=f"{prompt_id}:{slot}", prompt_id=prompt_id, slot=slot, text=f"{text} {slot}", loop=loop
    )


def _verdict(rollout: Rollout, seat: str, score: float) -> Verdict:
    if rollout.loop is Loop.HARD:
        return Verdict(rollout.prompt_id, rollout.rollout_id, seat, VerdictStatus.SKIPPED_LOOP)
    held = min(9.0, max(1.0, score))
    return Verdict(rollout.prompt_id, rollout.rollout_id, seat, VerdictStatus.OK, held, 1.0, 0.9, "7", 400, 1, 1)


def _shards(load: Load, worker: int, spent: Spent) -> Iterator[list[Rows]]:
    """Each shard, with the time that the caller takes for it counted as work."""
    answers = texts()
    for first in load.shards(worker):
        began = time.perf_counter()
        rows = made(first, load, answers)
        ready, cpu = time.perf_counter(), time.process_time()
        spent.making += ready - began
        yield rows
        spent.work += time.perf_counter() - ready
        spent.cpu += time.process_time() - cpu
    spent.peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def pooled(worker: int, load: Load) -> tuple[PooledSpread, Spent]:
    spread, spent = PooledSpread(), Spent()
    for rows in _shards(load, worker, spent):
        for _, rollouts, verdicts in rows:
            spread.add(rollouts, verdicts, load.jury)
    return spread, spent


def decided(worker: int, load: Load, sigmas: dict[str, float]) -> Spent:
    """Scorecards and a pair or a drop for each prompt."""
    rules, spent = Rules(load.jury, sigmas, load.pairing), Spent()
    for rows in _shards(load, worker, spent):
        for prompt, rollouts, verdicts in rows:
            known = stand(rollouts, verdicts, rules)
            scorecards(known, rules)
            outcome = pair_prompt(prompt, known, rules)
            name = f"dropped: {outcome.reason}" if isinstance(outcome, Dropped) else f"pair: {outcome.cause}"
            spent.outcomes[name] += 1
    return spent


def measured(load: Load) -> dict[str, object]:
    with ProcessPoolExecutor(load.workers, mp_context=process_context([__name__])) as pool:
        first = list(pool.map(partial(pooled, load=load), range(load.workers)))
        spread = PooledSpread()
        for own, _ in first:
            spread.merge(own)
        second = list(pool.map(partial(decided, load=load, sigmas=spread.sigmas()), range(load.workers)))
    phases = {"spreads": [spent for _, spent in first], "pairs": second}
    outcomes = sum((spent.outcomes for spent in second), Counter[str]())
    if outcomes.total() != load.prompts:
        raise AssertionError(f"{load.prompts} prompts became {outcomes.total()} rows")
    return {
        "prompts": load.prompts,
        "processes": load.workers,
        "aggregation": load.pairing.aggregation,
        "judges": len(load.jury.judges),
        "seconds": round(sum(max(one.work for one in each) for each in phases.values()), 2),
        "seconds_by_phase": {name: round(max(one.work for one in each), 2) for name, each in phases.items()},
        "cpu_us_per_prompt": round(sum(one.cpu for each in phases.values() for one in each) / load.prompts * 1e6, 1),
        "making_rows_seconds": round(sum(max(one.making for one in each) for each in phases.values()), 2),
        "peak_mb": round(sum(one.peak_mb for one in second)),
        "outcomes": dict(outcomes.most_common()),
    }


def table(figures: dict[str, object]) -> Table:
    shown = Table(title="Verdicts to pairs, the pure part", title_justify="left", show_header=False)
    for name, value in figures.items():
        text = ", ".join(f"{key} {each:,}" for key, each in value.items()) if isinstance(value, dict) else f"{value}"
        shown.add_row(name.replace("_", " "), text)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.jury_speed", description="Verdicts to pairs, timed.")
    parser.add_argument("--quick", action="store_true", help="20,000 prompts")
    parser.add_argument("--prompts", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--judges", type=int, default=3)
    parser.add_argument("--aggregation", choices=get_args(Aggregation), default="scaled")
    asked = parser.parse_args()
    jury = Jury(judges=[JudgeRef(judge="helpfulness", name=f"judge-{n}") for n in range(asked.judges)])
    prompts = 20_000 if asked.quick else asked.prompts
    figures = measured(Load(prompts, asked.processes, jury, Pairing(aggregation=asked.aggregation)))
    Console(width=120).print(table(figures))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
