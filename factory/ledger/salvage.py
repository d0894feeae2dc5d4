"""Records of paid shards that are lost, written anew over the parts that lie there.

The rule that must not break: a record is written anew only where every part of its shard says itself that it was made from what
is wanted now, and only over rows that the parts' own page checksums vouch for. Where a journal has answers of the shard,
nothing is lost: it is made from that.
"""

from collections.abc import Mapping, Sequence

from factory.judging.hearing import answer_counts, cases
from factory.ledger.identity import Stage
from factory.work import Work, now
from schemas.errors import SchemaError
from schemas.manifest import UNCOUNTED, StageRecord
from schemas.rows import Canary, Prompt, Reasked, Rollout, Row, Verdict
from schemas.tables import Table

PARTS: Mapping[Stage, tuple[Table, ...]] = {
    Stage.ROLLOUTS: (Table.ROLLOUTS,),
    Stage.VERDICTS: (Table.VERDICTS, Table.CANARIES, Table.REASKED),
}


def salvage(work: Work) -> None:
    """Every record that can be written anew, before an engine is started for its shard."""
    for stage in PARTS:
        for shard in work.shards():
            salvaged(work, stage, shard)


def salvaged(work: Work, stage: Stage, shard: int) -> StageRecord | None:
    """The record of a shard where there was none and its parts vouch for one; else None."""
    if stage not in PARTS or work.found(stage, shard) is not None or not _vouched_for(work, stage, shard):
        return None
    try:
        rows, notes = _rows_and_notes(work, stage, shard)
    except SchemaError:
        return None
    began = now()
    outputs = [work.write_part(stage, table, shard, own) for table, own in rows.items()]
    work.progress.say(
        f"{stage} of shard {shard}: the record was lost, and is written anew over the parts that lie there"
    )
    return work.close(stage, shard, began, outputs, notes=notes | {UNCOUNTED: 1.0})


def _vouched_for(work: Work, stage: Stage, shard: int) -> bool:
    run = work.run
    if not all(run.part_path(table, shard).is_file() for table in PARTS[stage]) or run.journalled(stage, shard):
        return False
    wanted = work.wanted(stage, shard)
    return wanted is not None and all(run.made_from(table, shard) == wanted for table in PARTS[stage])


def _rows_and_notes(work: Work, stage: Stage, shard: int) -> tuple[dict[Table, Sequence[Row]], dict[str, float]]:
    """Raises SchemaError where a part cannot be read."""
    run = work.run
    if stage is Stage.ROLLOUTS:
        rollouts = run.read_rows(Rollout, shard)
        return {Table.ROLLOUTS: rollouts}, answer_counts(cases(run.read_rows(Prompt, shard), rollouts))
    return {
        Table.VERDICTS: run.read_rows(Verdict, shard),
        Table.CANARIES: run.read_rows(Canary, shard),
        Table.REASKED: run.read_rows(Reasked, shard),
    }, {}
