"""What a part still tells of answers that were paid for, where its record is lost or its shard must be redone.

The rule that must not break: only rows that the part's own page checksums vouch for become answers again, and a row made from
them is the row that was there.
"""

from factory.ledger.journal import Journal
from factory.work import Work
from schemas.chat import Completion
from schemas.errors import SchemaError
from schemas.rows import Rollout

_OPEN, _CLOSE = "<think>", "</think>"


def salvage_rollouts(work: Work, shard: int, journal: Journal) -> int:
    """The policy's answers of a shard back into its journal, so that none is asked for again. Returns how many."""
    try:
        rows = work.run.read_rows(Rollout, shard)
    except SchemaError:
        return 0
    answers = [answer for row in rows if (answer := completion_of(row)) is not None]
    for answer in answers:
        if answer.request_id not in journal.kept:
            journal.append(answer)
    if answers:
        work.progress.say(f"rollouts of shard {shard}: {len(answers)} answers are taken from the part that lies there")
    return len(answers)


def completion_of(row: Rollout) -> Completion | None:
    """The answer that a row was made from; None where there was none."""
    if row.text is None or row.finish_reason is None:
        return None
    thought = row.reasoning or ""
    inner = thought.removeprefix(_OPEN).removesuffix(_CLOSE)
    split_off = bool(inner) and thought == f"{_OPEN}{inner}{_CLOSE}"  # as a server does it; else it stands in the text
    return Completion(
        request_id=row.rollout_id,
        text=row.text if split_off else row.answer,
        finish_reason=row.finish_reason,
        reasoning=inner if split_off else None,
        prompt_token_ids=row.prompt_token_ids,
        token_ids=row.token_ids,
    )
