"""What a run folder of a million prompts costs: each command's wall time and peak memory on a synthetic one.

    python -m benchmarks.scale                      1,000,000 prompts, 6,000,000 rollouts
    python -m benchmarks.scale --prompts 20000 50000    two folders, and how time and memory grow from one to the other
    python -m benchmarks.scale --quick              1,000 and 2,000 prompts, under a minute
    python -m benchmarks.scale --folder /big/disk   where the folders are made, and removed at the end; a small run says
                                                    last how much room a million prompts would take
    python -m benchmarks.scale --keep --only made   leave the folder, which takes long to make; it is named at the end
    python -m benchmarks.scale --on FOLDER --only status resume     a few commands on one that was kept

Every command is a process of its own, as a user runs it, whose peak memory the kernel tells. `resume` is the time from the
start of the command to its first connection to the engine, on a folder of which one shard of verdicts is not there.
The last line of the output is one JSON object.

The rule that its reader must not break: what may grow with the folder is time, in a straight line; memory may not. So two
sizes are compared: `growth` is the ratio of the CPU's times over that of the prompts, 1 for a straight line, and less where
starting the command is most of it.

At 100 million prompts, a hundred times what is measured here, these would break, in this order:

- `collect` keeps every prompt in memory while it removes duplicates and mixes (about 1.5 KB each: 150 GB). The plan: a
  first pass that keeps 16 bytes of each prompt's hash, its lot and its place (2.4 GB, or DuckDB on disk), and a second
  one that writes the shards from the sources.
- 390,000 shards of 256 are ten files a shard and stage in one folder, and as many entries in the record of the prompts, which
  every start reads. The plan: `machine.shard_size` 8192 (12,200 shards; the journal of a shard then holds 49,152 answers,
  some 150 MB), which is a setting and no change of code.
- `status` and the figures at the end of a run count over every rollout row: 600 million. Each shard's record can carry
  its own counts, and the sum of 12,200 records is the figure.
- The export sorts all pairs. The plan: one file a shard, in the shards' order, each with its own split.
- One process pairs about as fast as `pair` shows here; shards are independent once the spreads are pooled, so that more
  processes on more machines share them, as Prefect's tasks do already within one.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.scale_folder import recipe_file, write_folder

MADE, RESUME = "made", "resume"
QUERIES = {
    "query: loops by slot": "SELECT slot, count(*), count(*) FILTER (loop = 'hard') FROM rollouts GROUP BY ALL",
    "query: one prompt": "SELECT slot, judge, score FROM rollouts JOIN verdicts USING (prompt_id, rollout_id) "
    "WHERE prompt_id = (SELECT prompt_id FROM prompts LIMIT 1)",
    "query: margins by cause": "SELECT cause, count(*), avg(margin), quantile_cont(margin, 0.5) FROM pairs GROUP BY ALL",
}
LOOP_CHECK = (
    "import sys; from pathlib import Path; import pyarrow.parquet as pq; from factory.loops import detect_batch\n"
    "for part in sorted(Path(sys.argv[1]).glob('round=*/rollouts/*.parquet')):\n"
    "    for batch in pq.ParquetFile(part).iter_batches(columns=['text', 'finish_reason', 'token_ids']): detect_batch(batch)"
)


# A process begins with the peak of the one that it was forked from, so that a small one stands in between.
WATCH = (
    "import json, os, sys\n"
    "pid = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)\n"
    "_, status, used = os.wait4(pid, 0)\n"
    "cost = used.ru_utime + used.ru_stime, used.ru_maxrss, os.waitstatus_to_exitcode(status)\n"
    "open(sys.argv[1], 'w').write(json.dumps(cost))"
)


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one command: seconds by the wall, of CPU, peak memory in MB, how it ended."""

    seconds: float
    cpu: float
    peak_mb: int
    code: int


def measured(line: Sequence[str], env: Mapping[str, str], log: Path) -> Cost:
    """Run a command to its end. Its output goes to `log`."""
    began, told = time.monotonic(), log.with_name("cost.json")
    with log.open("ab") as sink:
        watch = [sys.executable, "-S", "-c", WATCH, str(told), *line]
        subprocess.run(watch, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=dict(env), check=True)
    cpu, peak, code = json.loads(told.read_text())
    return Cost(round(time.monotonic() - began, 2), round(cpu, 2), peak // 1024, code)


class Door:
    """An address where connections are noticed and closed: what comes before the first one is the command's own time."""

    def __init__(self, port: int = 0) -> None:
        self.first: float | None = None
        self._listener = socket.create_server(("127.0.0.1", port))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self.first is None:
                self.first = time.monotonic()
            connection.close()


def prefactory(*words: object) -> list[str]:
    return [sys.executable, "-m", "flows.cli", *map(str, words)]


@dataclass(frozen=True, slots=True)
class Made:
    """A folder with a run up to its verdicts, and the door that its recipe names as the engine."""

    folder: Path
    prompts: int
    shard_size: int
    door: Door

    @property
    def recipe(self) -> Path:
        return self.folder / "recipe.yaml"

    @property
    def root(self) -> Path:
        return self.folder / "runs" / "scale"


def make(prompts: int, shard_size: int, folder: Path, console: Console) -> tuple[Made, Cost]:
    door, began = Door(), time.monotonic()
    recipe = recipe_file(folder, prompts, shard_size, door.url)
    for done in write_folder(recipe, prompts):
        if done % (shard_size * 100) == 0:
            console.print(f"{done} of {prompts} prompts written, {time.monotonic() - began:.0f} s")
    return Made(folder, prompts, shard_size, door), Cost(round(time.monotonic() - began, 1), 0.0, 0, 0)


def made_before(folder: Path) -> Made:
    """One that `--keep` has left."""
    document = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    port = int(document["policy"]["urls"][0].rsplit(":", 1)[1].removesuffix("/v1"))
    with (folder / "prompts.jsonl").open("rb") as lines:
        prompts = sum(1 for _ in lines)
    return Made(folder, prompts, document["machine"]["shard_size"], Door(port))


def commands(made: Made) -> dict[str, list[str]]:
    """In the order in which they are run: each finds what the one before it has left."""
    recipe, root = made.recipe, made.root
    return {
        "loop check": [sys.executable, "-c", LOOP_CHECK, str(root)],
        "pair": prefactory("pair", recipe),
        "export": prefactory("export", recipe),
        "status": prefactory("status", root, "--json"),
        "report": prefactory("report", root),
        "verify": prefactory("verify", root),
        **{name: prefactory("query", root, sql, "--format", "json") for name, sql in QUERIES.items()},
        "run again": prefactory("run", recipe, "--plain"),
    }


def measure(made: Made, only: Collection[str], console: Console) -> dict[str, Cost]:
    log, env = made.folder / "log", os.environ | {"XDG_CACHE_HOME": str(made.folder / "cache")}
    found: dict[str, Cost] = {}
    for name, line in commands(made).items():
        if not only or name in only:
            found[name] = measured(line, env, log)
            console.print(name, asdict(found[name]))
    if not only or RESUME in only:
        found[RESUME] = _resumed(made, env, log)
        console.print(RESUME, asdict(found[RESUME]))
    return found


def _resumed(made: Made, env: Mapping[str, str], log: Path) -> Cost:
    """Of which one shard of verdicts is not there."""
    last = (made.prompts - 1) // made.shard_size
    (made.root / "round=0" / "_records" / f"verdicts-{last:05d}.json").unlink(missing_ok=True)
    made.door.first, started = None, time.monotonic()
    cost = measured(prefactory("judge", made.recipe), env, log)
    assert made.door.first is not None, f"resume never reached its engine, see {log}"
    return Cost(round(made.door.first - started, 2), cost.cpu, cost.peak_mb, 0 if cost.code == 1 else cost.code)


def growth(small: Cost, large: Cost, times: float) -> float | None:
    """How the CPU's time grew for each time that the folder did; None where it was not measured."""
    return round(large.cpu / small.cpu / times, 2) if small.cpu else None


def at_a_million(prompts: int, gigabytes: float) -> float:
    return round(gigabytes * 1_000_000 / prompts, 1)


def table(sizes: Sequence[int], found: Sequence[Mapping[str, Cost]]) -> Table:
    shown = Table(
        "command", *(f"{size:,} prompts" for size in sizes), "growth", title="Seconds by the wall (of CPU), peak MB"
    )
    for name in found[0]:
        costs = [one[name] for one in found]
        cells = [f"{one.seconds:.1f} s ({one.cpu:.1f} s), {one.peak_mb} MB" for one in costs]
        cells = [cell + (f" code {one.code}" if one.code else "") for cell, one in zip(cells, costs, strict=True)]
        grown = growth(costs[0], costs[-1], sizes[-1] / sizes[0]) if len(costs) > 1 else None
        shown.add_row(name, *cells, "-" if grown is None else str(grown))
    return shown


def measured_sizes(options: argparse.Namespace, console: Console) -> Iterator[tuple[Made, dict[str, Cost]]]:
    """A folder for each size, which is removed when the next one is asked for, unless it is to be kept."""
    if options.on:
        made = made_before(options.on.resolve())
        yield made, measure(made, options.only, console)
        return
    for size in [1000, 2000] if options.quick else options.prompts:
        folder = Path(tempfile.mkdtemp(prefix="prefactory-scale-", dir=options.folder))
        try:
            made, cost = make(size, options.shard_size, folder, console)
            yield made, {MADE: cost} | measure(made, options.only, console)
        finally:
            if options.keep:
                console.print(f"kept: {folder}")
            else:
                shutil.rmtree(folder)


def main(options: argparse.Namespace) -> None:
    console = Console(stderr=True)
    sizes: list[int] = []
    found: list[dict[str, Cost]] = []
    weight: list[float] = []
    for made, costs in measured_sizes(options, console):
        sizes.append(made.prompts)
        found.append(costs)
        files = [path for path in made.folder.rglob("*") if path.is_file()]
        weight.append(round(sum(path.stat().st_size for path in files) / 1e9, 3))
        if options.keep_log:
            shutil.copy(made.folder / "log", options.keep_log)
    whole = at_a_million(sizes[-1], weight[-1])
    Console(width=120).print(table(sizes, found))
    print(f"{', '.join(map(str, weight))} GB; a million prompts at the rate of the largest: {whole} GB")
    rows = [{name: asdict(cost) for name, cost in one.items()} for one in found]
    room = {"gigabytes": weight, "gigabytes_at_a_million": whole}
    print(json.dumps({"prompts": sizes} | room | {"shard_size": made.shard_size, "costs": rows}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description="What a large run folder costs.")
    parser.add_argument("--quick", action="store_true", help="1,000 and 2,000 prompts")
    parser.add_argument("--prompts", type=int, nargs="+", default=[1_000_000], metavar="N")
    parser.add_argument("--shard-size", type=int, default=256)
    parser.add_argument("--folder", type=Path, help="where the folders are made, on a disk with room")
    parser.add_argument("--keep", action="store_true", help="leave the folders there")
    parser.add_argument("--on", type=Path, metavar="FOLDER", help="one that --keep has left")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="the commands that are measured")
    parser.add_argument("--keep-log", type=Path, metavar="FILE", help="what the commands of the last folder said")
    main(parser.parse_args())
