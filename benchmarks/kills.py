"""What a kill costs: runs that are killed again and again (SIGKILL, at random points) until they are done.

    python -m benchmarks.kills                 at least 100 kills over at least 20 runs, plain and with Prefect
    python -m benchmarks.kills --quick         a few, plain alone (Prefect takes its time to start), in under a minute
    python -m benchmarks.kills --real 1        and so many runs of the shipped model, with a vLLM of their own (`real_kills`)

The points are drawn with a seed (--seed): at something that happens to a file of the run folder, or at an answer that goes into
a journal, at once or a little later. Afterwards the rows must be those of a run in which nothing happened; no request may have
been sent more often than there, but for those under way at a kill; nothing that the killed process started may live on, and no
temporary file be left. The last line is one JSON object.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import cycle, islice
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.killed_run import Life, Scene, drawn, live, lost_rows, rows_of, serving
from benchmarks.real_kills import CONCURRENCY as REAL_CONCURRENCY
from benchmarks.real_kills import Kept, real_runs

CONCURRENCY = 16
DELAY = 0.01  # seconds that each answer takes
TRUST = {"canaries": 0.3, "reasked": 0.3}
STAGES = {  # what the path of the event before a kill says of the stage; the first that fits
    "_journal/rollouts": "rollouts, answers",
    "_journal/verdicts": "judging, answers",
    "_journal/confirmations": "confirming, answers",
    "_journal": "journals",
    "/prompts": "prompts",
    "rollouts": "rollouts, closing",
    "verdicts": "judging, closing",
    "canaries": "judging, closing",
    "reasked": "judging, closing",
    "spreads": "deciding",
    "balance": "deciding",
    "confirmations": "confirming, closing",
    "scorecards": "pairing",
    "/pairs": "pairing",
    "/dropped": "pairing",
    "trust": "trust",
    "export": "export",
    "manifest": "manifest and catalog",
    "catalog": "manifest and catalog",
}


@dataclass(frozen=True, slots=True)
class Kind:
    """A recipe that is killed: what it changes, and what its server cannot do."""

    name: str
    jury: Mapping[str, object]
    without: tuple[str, ...] = ()
    prompts: int = 14


KINDS = (
    Kind("three judges", {}),
    Kind("cascade, confirmed, watched", {"cascade": {"first": 2, "margin": 0.5}, "confirm": True, "trust": TRUST}),
    Kind("unreadable replies, asked again", {"quorum": 3, "trust": TRUST}, without=("choices", "logprobs")),
    Kind("verifiers before the judges", {"verifiers": ["language"], "cascade": {"first": 1, "margin": 0.5}}, prompts=8),
)


@dataclass
class Told:
    """All runs of one kind, run in one way."""

    name: str
    window: int = CONCURRENCY
    runs: int = 0
    kills: int = 0
    requests: int = 0
    repeated: int = 0
    beyond: int = 0  # of the repeated, those that cannot have been under way
    under_way: int = 0  # when a process was killed
    lost: int = 0
    orphans: int = 0
    left: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)  # of real runs
    stages: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0  # seconds until all that a killed process had started was gone

    def add(self, life: Life, undisturbed: Counter[str], lost: int) -> None:
        self.runs += 1
        self.kills += len(life.kills)
        self.requests += life.requests
        self.repeated += life.repeated(undisturbed).total()
        self.beyond += life.beyond(undisturbed, self.window)
        self.under_way += sum(min(kill.under_way, self.window) for kill in life.kills)
        self.lost += lost
        self.orphans += sum(kill.orphans for kill in life.kills)
        self.left += life.left
        self.stages.update(stage_of(kill.where) for kill in life.kills)
        self.slowest = max([self.slowest, *(kill.seconds for kill in life.kills)])
        if life.code:
            self.failed.append(life.said.strip().splitlines()[-1] if life.said.strip() else f"code {life.code}")


def stage_of(where: str) -> str:
    place = where.split("/runs/")[-1]
    return next((stage for part, stage in STAGES.items() if part in place), "start")


def write_recipe(folder: Path, kind: Kind, url: str) -> Path:
    marks = islice(cycle(_MARKS), kind.prompts)
    prompts = [
        {"prompt": f"{mark} Write a sentence about number {n}.", "language": "en"} for n, mark in enumerate(marks)
    ]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    judges = [{"judge": judge} for judge in ("helpfulness", "correctness", "clarity")]
    document = {
        "name": "killed",
        "seed": 7,
        "prompts": {"sources": [{"path": "prompts.jsonl"}]},
        "policy": {"model": "fake-model", "urls": [url]},
        "rollouts": {"max_tokens": 300},
        "jury": {"judges": judges, "trust": {"canaries": 0, "reasked": 0}} | dict(kind.jury),
        "machine": {"runs": str(folder / "runs"), "shard_size": 4, "concurrency": CONCURRENCY},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


SUMMED = ("runs", "kills", "requests", "repeated", "beyond", "under_way", "lost", "orphans")
_MARKS = ["", "[loops]", "", "[thinks]", "", "[same]", "", "[capped]"]


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """A run in which nothing happened."""

    rows: Mapping[str, Sequence[object]]
    counts: Counter[str]
    events: tuple[int, int]  # to files, and answers


@dataclass
class Bench:
    """All runs of one call. `scratch` holds what they share and nothing of a run that is over."""

    scratch: Path
    known: dict[str, Undisturbed] = field(default_factory=dict)

    def undisturbed(self, kind: Kind) -> Undisturbed:
        if kind.name not in self.known:
            with self._scene(kind, ("--plain",)) as scene:
                life = live(scene, ())
                assert life.code == 0, life.said
                files, answers = map(int, scene.note.read_text().split())
                self.known[kind.name] = Undisturbed(_rows(scene), life.counts(), (files, answers))
        return self.known[kind.name]

    def kill(self, kind: Kind, words: tuple[str, ...], seed: int, most: int, told: Told) -> None:
        """A run that is killed up to `most` times."""
        whole = self.undisturbed(kind)
        with self._scene(kind, words) as scene:
            life = live(scene, drawn(random.Random(seed), most, whole.events))
            told.add(life, whole.counts, lost_rows({} if life.code else _rows(scene), whole.rows))

    @contextmanager
    def _scene(self, kind: Kind, words: tuple[str, ...]) -> Iterator[Scene]:
        with tempfile.TemporaryDirectory(prefix="run-", dir=self.scratch) as name:
            folder = Path(name)
            with serving(folder / "log", DELAY, kind.without) as url:
                recipe = write_recipe(folder, kind, url)
                yield Scene(folder, recipe, words, folder / "log", self.scratch / "bytecode")


def _rows(scene: Scene) -> dict[str, list[object]]:
    return rows_of(scene.root / "runs" / "killed")


def show(told: Sequence[Told]) -> None:
    console = Console(width=150)
    titles = (
        "runs of",
        "runs",
        "kills",
        "requests",
        "under way at kills",
        "repeated",
        "beyond those",
        "lost rows",
        "orphans",
        "files left",
    )
    shown = Table(*titles, title="Killed and started again until done")
    for one in told:
        figures = (
            one.runs,
            one.kills,
            one.requests,
            one.under_way,
            one.repeated,
            one.beyond,
            one.lost,
            one.orphans,
            len(one.left),
        )
        shown.add_row(one.name, *map(str, figures))
    console.print(shown)
    stages: Counter[str] = sum((one.stages for one in told), Counter())
    console.print(
        "kills by stage: " + ", ".join(f"{stage} {count}" for stage, count in stages.most_common()), markup=False
    )
    for one in told:
        for line in (*(kept.text() for kept in one.kept), *one.failed, *one.left):
            console.print(f"{one.name}: {line}", markup=False, soft_wrap=True)


def summary(told: Sequence[Told], seconds: float) -> dict[str, object]:
    """All together, and row by row."""
    return summed(told) | {
        "left": sum(len(one.left) for one in told),
        "failed": sum(len(one.failed) for one in told),
        "stages": dict(sum((one.stages for one in told), Counter())),
        "slowest_end_s": round(max(one.slowest for one in told), 1),
        "rows": [row_of(one) for one in told],
        "seconds": round(seconds),
    }


def summed(told: Sequence[Told]) -> dict[str, object]:
    return {name: sum(getattr(one, name) for one in told) for name in SUMMED}


def row_of(one: Told) -> dict[str, object]:
    own = {name: getattr(one, name) for name in ("name", *SUMMED)}
    return (
        own
        | {"slowest_end_s": round(one.slowest, 1)}
        | ({"kept": [asdict(kept) for kept in one.kept]} if one.kept else {})
    )


def real_killed_runs(count: int, seed: int) -> list[Told]:
    """Runs of the shipped model, if any are wanted."""
    told = Told("the shipped model under vLLM", REAL_CONCURRENCY)
    for one in real_runs(count, seed) if count else ():
        told.add(one.life, one.wanted, one.kept.lost)
        told.kept.append(one.kept)
    return [told] if count else []


def killed_runs(options: argparse.Namespace) -> list[Told]:
    """Runs of every kind in turn, until there are enough of them; before, some with Prefect."""
    runs, kills, prefect, most = (2, 6, 0, 4) if options.quick else (20, 100, 3, 8)
    plain = {kind.name: Told(f"{kind.name}, plain") for kind in KINDS}
    scheduled = [Told(f"{kind.name}, with Prefect") for kind in KINDS[:prefect]]
    with tempfile.TemporaryDirectory(prefix="kills-") as scratch:
        bench, seed = Bench(Path(scratch)), options.seed
        for kind, one in zip(KINDS, scheduled, strict=False):
            bench.kill(kind, (), seed, most // 2, one)
            seed += 1
        told = [*scheduled, *plain.values()]
        while sum(one.runs for one in told) < runs or sum(one.kills for one in told) < kills:
            kind = KINDS[seed % len(KINDS)]
            bench.kill(kind, ("--plain",), seed, most, plain[kind.name])
            print(f"after seed {seed}: {json.dumps(summed(told))}", file=sys.stderr, flush=True)
            seed += 1
    return [one for one in told if one.runs]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description="What a kill costs.")
    parser.add_argument("--quick", action="store_true", help="a few kills, in under a minute")
    parser.add_argument("--seed", type=int, default=1, help="of the points at which runs are killed")
    parser.add_argument(
        "--real",
        type=int,
        default=0,
        metavar="N",
        help="and so many runs of the shipped model with a vLLM of their own",
    )
    chosen = parser.parse_args()
    began = time.monotonic()
    found = killed_runs(chosen) + real_killed_runs(chosen.real, chosen.seed)
    show(found)
    print(json.dumps(summary(found, time.monotonic() - began)))
