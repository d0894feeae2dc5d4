"""The words of the pairs on a page, and all answers to one prompt with what every judge made of them.

The rule that must not break: only the parts of the shards that are shown are read, and joins are by id.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from factory.browsing.loop_spans import Span, spans
from factory.ledger.part_queries import Ask, tables_over
from factory.looking.sql import literal
from factory.run import RunFolder
from schemas.rows import Loop, LoopEvidence, LoopRule
from schemas.tables import Table

_LOOP = "loop, loop_rule, loop_onset, loop_onset_token, loop_period, loop_repeats, loop_share"
_PAIRS = f"""
SELECT p.prompt_id, messages, chosen, rejected, chosen_score, rejected_score, margin, agreement, rejected_trimmed, {_LOOP}
FROM (FROM pairs WHERE prompt_id IN ({{ids}})) p
LEFT JOIN (SELECT rollout_id, {_LOOP} FROM rollouts) r ON r.rollout_id = p.rejected_id
"""
_ANSWERS = f"""
SELECT r.rollout_id, slot, temperature, coalesce(reasoning, '') || coalesce(text, ''), finish_reason, len(token_ids), error,
       tier, score, spread, eligible, note, {_LOOP}
FROM (FROM rollouts WHERE prompt_id = {{id}}) r LEFT JOIN (FROM scorecards WHERE prompt_id = {{id}}) s USING (rollout_id)
ORDER BY slot <> 'greedy', slot, rollout_id
"""
_VERDICTS = "SELECT rollout_id, judge, status, score, mass, reply FROM verdicts WHERE prompt_id = {id} ORDER BY judge"
_CONFIRMED = """
SELECT judge, chosen_first, status, preference, reply FROM confirmations WHERE prompt_id = {id} AND chosen_id = {chosen}
AND rejected_id = {rejected} ORDER BY judge, chosen_first DESC
"""


@dataclass(frozen=True, slots=True)
class Key:
    """Where a pair lies, and which two answers it is of."""

    number: int
    round: int
    shard: int
    prompt_id: str
    chosen_id: str
    rejected_id: str


@dataclass(frozen=True, slots=True)
class Words:
    """Of one pair."""

    turns: tuple[tuple[str, str], ...]  # role, content
    chosen: tuple[Span, ...]
    rejected: tuple[Span, ...]
    chosen_score: float | None
    rejected_score: float | None
    margin: float | None
    agreement: float | None
    trimmed: bool
    loop: LoopEvidence


@dataclass(frozen=True, slots=True)
class Opinion:
    judge: str
    status: str
    score: float | None
    mass: float | None
    reply: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """One of the answers to a prompt, with what was made of it."""

    rollout_id: str
    slot: str
    temperature: float
    text: tuple[Span, ...]
    finish_reason: str | None
    tokens: int | None
    error: str | None
    tier: int | None
    score: float | None
    spread: float | None
    eligible: bool | None
    note: str | None
    loop: LoopEvidence
    opinions: tuple[Opinion, ...]


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The final two side by side, in one of both orders."""

    judge: str
    chosen_first: bool
    status: str
    preference: float | None
    reply: str | None


def words(root: Path, keys: Sequence[Key]) -> dict[int, Words]:
    """By the number of the pair; one that has gone meanwhile is not in it. Raises SchemaError."""
    by_round: defaultdict[int, list[Key]] = defaultdict(list)
    for key in keys:
        by_round[key.round].append(key)
    found: dict[int, Words] = {}
    for round_, own in by_round.items():
        with tables_over(root, _parts(RunFolder(root, round_), own, Table.PAIRS, Table.ROLLOUTS)) as ask:
            rows = ask(_PAIRS.format(ids=", ".join(literal(key.prompt_id) for key in own)))
            by_id = {str(row[0]): _words(row) for row in rows}
            found |= {key.number: by_id[key.prompt_id] for key in own if key.prompt_id in by_id}
    return found


def answers(root: Path, key: Key) -> tuple[tuple[Answer, ...], tuple[Confirmed, ...]]:
    """All answers to the pair's prompt, greedy first. Raises SchemaError."""
    tables = (Table.ROLLOUTS, Table.SCORECARDS, Table.VERDICTS, Table.CONFIRMATIONS)
    with tables_over(root, _parts(RunFolder(root, key.round), [key], *tables)) as ask:
        own = {"id": literal(key.prompt_id), "chosen": literal(key.chosen_id), "rejected": literal(key.rejected_id)}
        opinions = _opinions(ask, own["id"])
        found = [_answer(row, opinions) for row in ask(_ANSWERS.format(**own))]
        return tuple(found), tuple(Confirmed(*row) for row in ask(_CONFIRMED.format(**own)))  # type: ignore[arg-type]  # as selected


def _parts(run: RunFolder, keys: Sequence[Key], *tables: Table) -> dict[Table, list[Path]]:
    shards = sorted({key.shard for key in keys})
    paths = {table: [run.part_path(table, shard) for shard in shards] for table in tables}
    return {table: [path for path in own if path.exists()] for table, own in paths.items()}


def _words(row: Sequence[object]) -> Words:
    _, messages, chosen, rejected, chosen_score, rejected_score, margin, agreement, trimmed, *loop = row
    assert isinstance(messages, list), "a list of messages, as the table has it"
    found = _evidence(loop)
    return Words(
        turns=tuple((str(turn["role"]), str(turn["content"])) for turn in messages),
        chosen=spans(str(chosen), LoopEvidence()),
        rejected=spans(str(rejected), found),
        chosen_score=chosen_score,  # type: ignore[arg-type]  # as selected
        rejected_score=rejected_score,  # type: ignore[arg-type]
        margin=margin,  # type: ignore[arg-type]
        agreement=agreement,  # type: ignore[arg-type]
        trimmed=bool(trimmed),
        loop=found,
    )


def _evidence(columns: Sequence[object]) -> LoopEvidence:
    loop, rule, *rest = columns
    kind = Loop.CLEAN if loop is None else Loop(str(loop))
    return LoopEvidence(kind, None if rule is None else LoopRule(str(rule)), *rest)  # type: ignore[arg-type]  # as selected


def _opinions(ask: Ask, prompt_id: str) -> dict[str, list[Opinion]]:
    found: defaultdict[str, list[Opinion]] = defaultdict(list)
    for rollout_id, *opinion in ask(_VERDICTS.format(id=prompt_id)):
        found[str(rollout_id)].append(Opinion(*opinion))  # type: ignore[arg-type]  # as selected
    return found


def _answer(row: Sequence[object], opinions: dict[str, list[Opinion]]) -> Answer:
    rollout_id, slot, temperature, text, finish, tokens, error, tier, score, spread, eligible, note, *loop = row
    found = _evidence(loop)
    return Answer(
        str(rollout_id), str(slot), float(str(temperature)), spans(str(text), found), finish, tokens, error,  # type: ignore[arg-type]
        tier, score, spread, eligible, note, found, tuple(opinions.get(str(rollout_id), ())),  # type: ignore[arg-type]
    )  # fmt: skip
