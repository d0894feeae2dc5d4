"""A run folder with as many pairs as asked for: the shards of a small synthetic run, again and again under other ids.

The rule that its reader must not break: only what is looked at is there, that is parts, a manifest and a catalog. It has no
records, so that no run can go on in it.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.scale_folder import recipe_file, write_folder
from factory.ledger.identity import Stage
from factory.looking import queries
from factory.progress import Silent
from factory.recipes.recipe_file import read_recipe
from factory.run import RunFolder
from flows.redoing import redo
from flows.stopping import StopSignals
from schemas.tables import Table

SHARDS, SHARD = 20, 256  # of the small run
COPIED = (Table.PROMPTS, Table.ROLLOUTS, Table.VERDICTS, Table.SCORECARDS, Table.PAIRS, Table.DROPPED)
ID, NUMBER = 32, 8  # characters of a prompt's id, and how many of them tell the copies apart
NO_ENGINE = "http://127.0.0.1:9/v1"  # nothing is asked of it


def write_pairs(folder: Path, pairs: int) -> Iterator[int]:
    """A run of at least so many pairs below `folder`; yields those that are written so far. Goes on where it was stopped."""
    base, run = _base(folder), RunFolder(run_of(folder))
    manifest = base.known().model_copy(update={"name": "look"})
    written = shard = 0
    while written < pairs:
        for table in COPIED:
            _copy(base.part_path(table, shard % SHARDS), run.part_path(table, shard), shard // SHARDS)
        written += pq.read_metadata(run.part_path(Table.PAIRS, shard)).num_rows
        shard += 1
        yield written
    run.write_manifest(manifest.model_copy(update={"pairs": written, "shards": shard}))
    queries.write_catalog(run.catalog_path, run.root)


def run_of(folder: Path) -> Path:
    return folder / "runs" / "look"


def _base(folder: Path) -> RunFolder:
    """The small run, up to its pairs."""
    run = RunFolder(folder / "base" / "runs" / "scale")
    if not any(run.root.glob("round=0/_records/pairs-*")):
        shutil.rmtree(folder / "base", ignore_errors=True)
        recipe = recipe_file(folder / "base", SHARDS * SHARD, SHARD, NO_ENGINE)
        for _ in write_folder(recipe, SHARDS * SHARD):
            pass
        progress = Silent()
        with StopSignals(progress.say) as signals, run.locked():
            redo(run, read_recipe(recipe), Stage.PAIRS, signals, progress)
    return run


def _copy(source: Path, target: Path, number: int) -> None:
    if target.exists():
        return
    rows = pq.read_table(source)
    for name in rows.schema.names:
        if name in ("prompt_id", "rollout_id", "chosen_id", "rejected_id"):
            renamed = pc.utf8_replace_slice(rows[name], ID - NUMBER, ID, f"{number:0{NUMBER}x}")
            rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), renamed)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".unfinished")
    pq.write_table(rows, unfinished, compression="zstd", write_page_checksum=True)
    unfinished.replace(target)
