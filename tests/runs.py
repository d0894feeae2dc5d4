"""Whole runs against the fake engine, for tests that look at what lies in the folder afterwards."""

import asyncio
from dataclasses import dataclass, fields
from pathlib import Path

from factory.ledger.identity import Stage
from factory.ledger.rounds import round_recipe
from factory.opening import open_run
from factory.progress import Progress, Silent
from factory.recipes.recipe_file import read_recipe
from factory.run import RunFolder, run_folder
from flows.plain import PlainRunner
from flows.round import gate_of, make_round
from schemas.recipe import ModelRef
from schemas.rows import Dropped, Pair, Prompt, Rollout, Scorecard, Verdict


@dataclass(frozen=True)
class Tables:
    """All rows of a run, in the order of the shards."""

    prompts: list[Prompt]
    rollouts: list[Rollout]
    verdicts: list[Verdict]
    scorecards: list[Scorecard]
    pairs: list[Pair]
    dropped: list[Dropped]


def tables(root: Path) -> Tables:
    run = RunFolder(root)
    shards = range(run.shards())
    return Tables(
        [row for shard in shards for row in run.read_rows(Prompt, shard)],
        [row for shard in shards for row in run.read_rows(Rollout, shard)],
        [row for shard in shards for row in run.read_rows(Verdict, shard)],
        [row for shard in shards for row in run.read_rows(Scorecard, shard)],
        [row for shard in shards for row in run.read_rows(Pair, shard)],
        [row for shard in shards for row in run.read_rows(Dropped, shard)],
    )


def assert_equal(one: Tables, other: Tables) -> None:
    """Table by table, so that a difference is shown where it is."""
    for table in fields(Tables):
        assert getattr(one, table.name) == getattr(other, table.name), table.name


def make(path: Path, last: Stage = Stage.PAIRS, progress: Progress | None = None) -> tuple[Path, int]:
    """The run's folder, and the requests that were sent for answers. Raises as the command line would see it."""
    recipe = read_recipe(path)
    root = run_folder(recipe)
    with RunFolder(root).locked():
        opened = open_run(recipe, progress or Silent())
        gate = gate_of(opened.work)
        runner = PlainRunner(recipe.machine.shards_in_flight, gate)
        _, sent = asyncio.run(make_round(opened, runner, last, gate=gate))
    return root, sent


def made(path: Path) -> Tables:
    return tables(make(path)[0])


def kept(root: Path) -> int:
    """Answers that lie on disk: lines of journals, and what finished shards sent."""
    lines = sum(path.read_bytes().count(b"\n") for path in root.glob("round=0/_journal/*.jsonl"))
    run = RunFolder(root)
    records = [run.record(stage, shard) for stage in ("rollouts", "verdicts") for shard in range(run.shards())]
    return lines + sum(record.requests for record in records if record)


def make_later(path: Path, round_: int, policy: ModelRef, last: Stage = Stage.PAIRS) -> tuple[Path, int]:
    """As `make`, a round above the first, answered by another model."""
    recipe = read_recipe(path)
    later = round_recipe(recipe, policy)
    root = run_folder(recipe)
    with RunFolder(root).locked():
        opened = open_run(later, Silent(), round_=round_)
        gate = gate_of(opened.work)
        runner = PlainRunner(recipe.machine.shards_in_flight, gate)
        _, sent = asyncio.run(make_round(opened, runner, last, gate=gate))
    return root, sent
