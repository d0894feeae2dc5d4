"""The loop detector beside those of others: how right, how fast, and how its time grows.

    python -m benchmarks.loops                      everything (about ten minutes: vLLM's own check is slow)
    python -m benchmarks.loops --quick              smaller texts, each once
    python -m benchmarks.loops --only speed growth  some of: accuracy speed growth processes start
    python -m benchmarks.loops --run runs/laptop    what the detector costs of a real run's rollouts

Accuracy is on real answers that people labelled (`loop_labels/README.md`), on the half that no threshold was chosen on.
Speed is MB of UTF-8 for each second of CPU in one process, ours and a peer's on the same texts one after the other, the
best of several rounds; the slow peers get a part of the texts, and ours is timed again on just that part. `make
loop-peers` installs the packages that two peers need. The last line of the output is one JSON object.

The rule that its reader must not break: compare ratios of one run, never figures of two.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from benchmarks.labelled import Accuracy, Labelled, accuracy, labelled
from benchmarks.loop_peers import Answer, Rule, Score, best_threshold, peers
from factory.detector.periods import tail_runs
from factory.loops import detect, detect_batch
from factory.run import RunFolder
from factory.survey.detecting import detect_batches
from schemas.rows import Loop, Rollout

SECTIONS = ("accuracy", "speed", "growth", "processes", "start")
SLOW = {"vLLM, default": 40, "vLLM, short": 40, "vLLM, long": 40, "Gopher": 100}  # answers that a slow peer gets
Figures = dict[str, object]


@dataclass(frozen=True, slots=True)
class Effort:
    rounds: int
    answers: int  # synthetic ones
    growth: int  # bytes of the largest text
    megabytes: int  # through the processes


def ours(answer: Answer) -> bool:
    return detect(answer.text, answer.finish_reason, token_ids=answer.token_ids).kind is Loop.HARD


def tail(answer: Answer) -> bool:
    return bool(tail_runs(answer.text.encode(), slack=64, repeats=4, redundancy=192))


def calibrated(peer: Rule | Score, half: Sequence[Labelled]) -> Rule | Score:
    """A score with the threshold that serves it best on the calibration half."""
    if isinstance(peer, Rule):
        return peer
    return replace(peer, threshold=best_threshold([peer.score(one.answer) for one in half], [one.hard for one in half]))


def cut_off(flags: Callable[[Answer], bool], answer: Answer) -> bool:
    """As good as a peer can be: told for free which answers ended by themselves, it flags none of those."""
    return answer.finish_reason == "length" and flags(answer)


# --- accuracy ---


def measure_accuracy(console: Console) -> Figures:
    calibration, test = labelled("calibration"), labelled("test")
    there, missing = peers()
    unfinished = [one for one in calibration if one.answer.finish_reason == "length"]
    found = {"prefactory": accuracy(ours, test)}
    found |= {peer.name: accuracy(partial(cut_off, calibrated(peer, unfinished).flags), test) for peer in there}
    alone = {peer.name: accuracy(calibrated(peer, calibration).flags, test).f1 for peer in there}
    console.print(_accuracy_table(found, alone, test))
    _say_missing(console, missing)
    sure = [one for one in test if one.sure]
    return {
        "answers": len(test),
        "hard": sum(one.hard for one in test),
        "detectors": {name: _accuracy_figures(each) for name, each in found.items()},
        "calibration": _accuracy_figures(accuracy(ours, calibration)),
        "without_doubtful_ones": _accuracy_figures(accuracy(ours, sure)),
    }


def _accuracy_table(found: dict[str, Accuracy], alone: dict[str, float], test: Sequence[Labelled]) -> Table:
    hard = sum(one.hard for one in test)
    table = Table(
        title=f"Hard loops in the {len(test)} labelled answers of the test half ({hard} hard); 95% intervals after Wilson.\n"
        "Peers are told for free which answers ended by themselves; `alone`: F1 where they are not.",
        title_justify="left",
    )
    for column in ("detector", "precision", "recall", "F1", "alone", "hits", "false", "missed"):
        table.add_column(column, justify="left" if column == "detector" else "right")
    for name, each in found.items():
        precision, recall = each.intervals
        table.add_row(
            name,
            f"{each.precision:.3f} ({precision[0]:.3f}-{precision[1]:.3f})",
            f"{each.recall:.3f} ({recall[0]:.3f}-{recall[1]:.3f})",
            f"{each.f1:.3f}",
            f"{alone[name]:.3f}" if name in alone else "",
            *map(str, (each.hits, each.false, each.missed)),
        )
    return table


def _accuracy_figures(each: Accuracy) -> Figures:
    precision, recall = each.intervals
    return {
        "precision": round(each.precision, 4),
        "precision_interval": [round(bound, 4) for bound in precision],
        "recall": round(each.recall, 4),
        "recall_interval": [round(bound, 4) for bound in recall],
        "f1": round(each.f1, 4),
        "hits": each.hits,
        "false": each.false,
        "missed": each.missed,
    }


def _say_missing(console: Console, missing: Iterable[tuple[str, str]]) -> None:
    for name, reason in missing:
        console.print(f"{name}: {reason} (`make loop-peers`)", markup=False, highlight=False)


# --- speed ---


def synthetic(count: int) -> list[Answer]:
    """Answers of 2 to 16 KB over a vocabulary of 4,000 words: prose at the cap, prose that ended, and loops."""
    rng = random.Random(5)
    words = ["".join(rng.choices("etaoinshrdlu", k=rng.randint(2, 9))) + " " for _ in range(4000)]
    found = []
    for number in range(count):
        ids = rng.choices(range(4000), k=rng.randint(300, 2200))
        if number % 4 == 0:  # a loop to the cap
            unit = rng.choices(range(4000), k=rng.randint(8, 60))
            ids = ids[: len(ids) // 2] + (unit * 300)[: len(ids) // 2]
        text = "".join(words[token] for token in ids)
        found.append(Answer(text, tuple(ids), "stop" if number % 4 == 1 else "length"))
    return found


def seconds(work: Callable[[Answer], object], texts: Sequence[Answer], rounds: int) -> float:
    """Of CPU, the best of the rounds. One call before them loads what is loaded once."""
    work(texts[0])
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        for text in texts:
            work(text)
        best = min(best, time.process_time() - began)
    return best


def measure_speed(console: Console, effort: Effort) -> Figures:
    calibration, test = labelled("calibration"), labelled("test")
    there, missing = peers()
    found: Figures = {}
    for title, texts in (
        ("real answers", [one.answer for one in calibration + test]),
        ("synthetic, 2 to 16 KB", synthetic(effort.answers)),
    ):
        found[title] = _speeds(console, title, texts, [calibrated(peer, calibration) for peer in there], effort)
    _say_missing(console, missing)
    return found


def _speeds(
    console: Console, title: str, texts: Sequence[Answer], there: Sequence[Rule | Score], effort: Effort
) -> Figures:
    table = Table(title=f"{title}: {len(texts)} texts, {_megabytes(texts):.1f} MB", title_justify="left")
    for column in ("detector", "texts", "MB/s", "ours, same texts", "ours is faster by"):
        table.add_column(column, justify="left" if column == "detector" else "right")
    figures: Figures = {}
    rows: list[tuple[str, Callable[[Answer], bool], int]] = [
        ("prefactory, tail alone", tail, len(texts)),
        ("prefactory", ours, len(texts)),
    ]
    rows += [(peer.name, peer.flags, SLOW.get(peer.name, len(texts))) for peer in there]
    for name, flags, count in rows:
        part = texts[:: max(1, len(texts) // count)]
        rounds = 1 if name in SLOW else effort.rounds
        speed = _megabytes(part) / seconds(flags, part, rounds)
        own = _megabytes(part) / seconds(ours, part, effort.rounds)
        figures[name] = {"mb_per_s": round(speed, 3), "ours_mb_per_s": round(own, 1), "ratio": round(own / speed, 2)}
        table.add_row(name, str(len(part)), f"{speed:.2f}", f"{own:.1f}", f"{own / speed:,.1f}")
    figures["batch"] = _batch_speed(texts, effort)
    console.print(table)
    console.print(f"prefactory through Arrow, one process: {figures['batch']} MB/s", highlight=False)
    return figures


def _batch_speed(texts: Sequence[Answer], effort: Effort) -> float:
    batch = record_batch(texts)
    best = min(_timed(lambda: detect_batch(batch), time.process_time) for _ in range(effort.rounds))
    return round(_megabytes(texts) / best, 1)


def _timed(work: Callable[[], object], clock: Callable[[], float]) -> float:
    began = clock()
    work()
    return clock() - began


def _megabytes(texts: Sequence[Answer]) -> float:
    return sum(len(text.text.encode()) for text in texts) / 1e6


def record_batch(texts: Sequence[Answer]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {
            "text": [text.text for text in texts],
            "finish_reason": [text.finish_reason for text in texts],
            "token_ids": pa.array([text.token_ids for text in texts], pa.list_(pa.int32())),
        }
    )


# --- growth, processes, start ---


def fibonacci(size: int) -> str:
    shorter, longer = "a", "ab"
    while len(longer) < size:
        shorter, longer = longer, longer + shorter
    return longer[:size]


ADVERSARIAL: dict[str, Callable[[int], str]] = {
    "a^n": lambda size: "a" * size,
    "Fibonacci word": fibonacci,
    "(a^500 b)^k": lambda size: ("a" * 500 + "b") * (size // 501),
    "one emoji": lambda size: "😀" * (size // 4),
    "lines, all the same": lambda size: "line\n" * (size // 5),
    "lines, all different": lambda size: "".join(f"line {number}\n" for number in range(size // 11)),
    "blocks, nearly the same": lambda size: "".join("a" * (size // 16) + str(number) for number in range(16)),
    "growing blocks": lambda size: "".join("a" * number + "b" for number in range(int((2 * size) ** 0.5))),
}


def measure_growth(console: Console, effort: Effort) -> Figures:
    """The dearer of the two ends, at three doublings of the size."""
    sizes = [effort.growth // 8, effort.growth // 4, effort.growth // 2, effort.growth]
    table = Table(title="Seconds on texts made to be hard; growth for each doubling of the size", title_justify="left")
    for column in ("text", *(f"{size / 1e6:.2g} MB" for size in sizes), "growth"):
        table.add_column(column, justify="left" if column == "text" else "right")
    figures: Figures = {}
    for name, make in ADVERSARIAL.items():
        spent = [
            max(seconds(ours, [Answer(make(size), (), end)], effort.rounds) for end in ("length", "stop"))
            for size in sizes
        ]
        growth = (spent[-1] / spent[0]) ** (1 / 3)
        figures[name] = {"seconds": [round(each, 4) for each in spent], "growth": round(growth, 2)}
        table.add_row(name, *(f"{each:.3f}" for each in spent), f"{growth:.2f}")
    console.print(table)
    return figures


def measure_processes(console: Console, effort: Effort) -> Figures:
    """Wall-clock time of the Arrow face over many batches, in this process and in two others."""
    texts = synthetic(1000)
    batches = [record_batch(texts)] * max(2, round(effort.megabytes / _megabytes(texts)))

    def run(processes: int) -> float:
        """From the first batch that comes back, so that the start of the processes is not counted."""
        results = detect_batches(iter([record_batch(texts[:8])] * processes * 2 + batches), processes)
        for _ in range(processes * 2):
            next(results)
        return _timed(lambda: sum(batch.num_rows for batch in results), time.perf_counter)

    spent = {processes: min(run(processes) for _ in range(2)) for processes in (1, 2)}
    ratio = spent[1] / spent[2]
    size = _megabytes(texts) * len(batches)
    console.print(
        f"Arrow face, {size:.0f} MB: 1 process {size / spent[1]:.0f} MB/s, 2 processes {size / spent[2]:.0f} MB/s, "
        f"{ratio:.2f} times",
        highlight=False,
    )
    return {
        "mb": round(size),
        "seconds": {str(count): round(each, 2) for count, each in spent.items()},
        "ratio": round(ratio, 2),
    }


FIRST_CALL = """
import time
began = time.perf_counter()
from factory.loops import detect
imported = time.perf_counter()
detect("".join(f"We have seen {n % 7} of them before, and we will see them again. " for n in range(200)), "length")
print(imported - began, time.perf_counter() - imported)
"""


def measure_start(console: Console) -> Figures:
    spent = [
        [
            float(each)
            for each in subprocess.run(
                [sys.executable, "-c", FIRST_CALL], capture_output=True, text=True, check=True
            ).stdout.split()
        ]
        for _ in range(3)
    ]
    imported, called = min(spent, key=sum)
    console.print(f"Import {imported:.2f} s, first call {called:.3f} s", highlight=False)
    return {"import_s": round(imported, 3), "first_call_s": round(called, 4)}


def measure_run(console: Console, root: Path) -> Figures:
    """What the detector costs of the rollouts of a run that is there."""
    folder = RunFolder(root)
    records = [folder.record("rollouts", shard) for shard in range(folder.shards())]
    done = [record for record in records if record is not None]
    if not done:
        raise SystemExit(f"{root}: no run with rollouts there; `make run` makes one as runs/laptop")
    rollouts = [
        row for shard in range(folder.shards()) for row in folder.read_rows(Rollout, shard) if row.text is not None
    ]
    answers = [Answer(row.answer, row.token_ids or (), row.finish_reason or "") for row in rollouts]
    batch = record_batch(answers)
    spent = min(_timed(lambda: detect_batch(batch), time.perf_counter) for _ in range(3))
    took = (max(record.ended for record in done) - min(record.started for record in done)).total_seconds()
    share = spent / took
    console.print(
        f"{root.name}: {len(answers)} answers, {_megabytes(answers):.2f} MB: detector {spent:.4f} s of the "
        f"{took:.1f} s that the rollouts took, {share:.4%}",
        highlight=False,
    )
    return {
        "answers": len(answers),
        "detector_s": round(spent, 4),
        "rollouts_s": round(took, 2),
        "share": share,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="The loop detector beside those of others.")
    parser.add_argument(
        "--quick", action="store_true", help="smaller texts, each once: under a minute without vLLM's check"
    )
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--run", type=Path, help="a run folder: what the detector costs of its rollouts")
    options = parser.parse_args()
    effort = Effort(1, 300, 800_000, 20) if options.quick else Effort(5, 3000, 4_000_000, 120)
    console = Console(width=120)
    measures: dict[str, Callable[[], Figures]] = {
        "accuracy": lambda: measure_accuracy(console),
        "speed": lambda: measure_speed(console, effort),
        "growth": lambda: measure_growth(console, effort),
        "processes": lambda: measure_processes(console, effort),
        "start": lambda: measure_start(console),
    }
    figures: Figures = {name: measures[name]() for name in SECTIONS if name in options.only}
    if options.run is not None:
        figures["run"] = measure_run(console, options.run)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
