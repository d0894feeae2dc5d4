"""Takes out of a run folder what `factory.ledger.verify` found wrong, so that the next run makes it anew.

The rule that must not break: nothing that was paid for is deleted. Records and parts of the stages that engines answer are put
aside, readable or not; where only the record is lost and the parts vouch for it, it is written anew. What depends on a shard
stays: its record names the checksums that it was made from, so it counts again where the shard comes out the same. Where every
shard of such a stage was made from something else, that is another recipe and no damage: nothing is taken out.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from factory.ledger.found import Fault, Kind
from factory.ledger.identity import Stage
from factory.ledger.kept import promotes
from factory.ledger.origin import identity_anew
from factory.ledger.salvage import salvaged
from factory.ledger.verify import TABLES
from factory.run import RunFolder
from factory.work import Work
from schemas.errors import DriftError
from schemas.training import RESULT

_ASKED = (Stage.ROLLOUTS, Stage.VERDICTS, Stage.CONFIRMATIONS)
_PAID = frozenset({Stage.PROMPTS, *_ASKED})  # prompts: sources may be gone


def repair(work: Work, faults: Sequence[Fault], at: datetime) -> list[str]:
    """What was done, a line each. `work` is of no use afterwards: it knows what is gone. Raises DriftError, OSError."""
    _refuse_drift(work, faults)
    done = []
    for fault in faults:
        if fault.kind is Kind.IDENTITY:
            identity_anew(work)
            done.append(f"{fault.file}: its identity is written anew")
    for stage, shard in dict.fromkeys((fault.stage, fault.shard) for fault in faults if fault.kind in _REDONE):
        own = [fault for fault in faults if (fault.stage, fault.shard) == (stage, shard)]
        done.append(_take_out(work, Stage(stage), shard, own, at))
    for fault in faults:
        if fault.kind in _PUT_ASIDE:
            done.append(_put_aside(work.run, fault, at))
    return done


def _refuse_drift(work: Work, faults: Sequence[Fault]) -> None:
    """Raises DriftError before anything is touched."""
    for fault in faults:
        if fault.kind is Kind.RECIPE:
            raise DriftError(f"{work.run.root / fault.file}: {fault.why}")
    for stage in (Stage.ROLLOUTS, Stage.VERDICTS):  # of the same parts, by other fields
        drifted = {
            fault.shard
            for fault in faults
            if (fault.kind, fault.stage) == (Kind.ORIGIN, stage)
            and (record := work.found(stage, fault.shard)) is not None
            and record.inputs == work.inputs(stage, fault.shard)
        }
        if drifted and drifted.issuperset(shard for shard in work.shards() if work.found(stage, shard)):
            raise DriftError(
                f"{work.run.root}: all its {stage} were made from something else than what lies there: another recipe or "
                "other prompts, and no damage. Nothing is taken out; put back what they were made from, or give the "
                "recipe another `name`"
            )


def _put_aside(run: RunFolder, fault: Fault, at: datetime) -> str:
    """A checkpoint with what says that it is finished, so that the same training is gone on with."""
    path, said = run.root / fault.file, f"{fault.file}: put aside"
    if fault.kind is Kind.CHECKPOINT:
        if promotes(run, fault.file):
            run.put_aside(run.story_path, at)
            said += f", and {run.story_path.name} with it: the rounds are gone through again from what lies there"
        run.put_aside(path.with_name(RESULT), at)
        said += "; the command that trained it makes it anew"
    run.put_aside(path, at)
    return said


_PUT_ASIDE = frozenset({Kind.STRANGER, Kind.CHECKPOINT, Kind.KEPT})
_REDONE = frozenset({Kind.RECORD, Kind.ORIGIN, Kind.PART, Kind.ROWS})


def _take_out(work: Work, stage: Stage, shard: int, faults: Sequence[Fault], at: datetime) -> str:
    if salvaged(work, stage, shard):
        return f"{stage} of shard {shard}: its record is written anew over its parts"
    for path in _files(work.run, stage, shard, faults):
        if stage in _PAID:
            work.run.put_aside(path, at)
        else:
            path.unlink(missing_ok=True)
    return f"{stage} of shard {shard}: taken out{' and put aside' if stage in _PAID else ''}"


def _files(run: RunFolder, stage: Stage, shard: int, faults: Sequence[Fault]) -> Iterator[Path]:
    """The record first: without it the parts do not count. Of the prompts only the parts at fault: the others are made
    again as they are, and say into how many shards they were cut.
    """
    yield run.record_path(stage, shard)
    if stage is Stage.PROMPTS:
        yield from (run.root / fault.file for fault in faults if fault.kind is Kind.PART)
        return
    yield from (run.part_path(table, shard) for table in TABLES.get(stage, ()))
