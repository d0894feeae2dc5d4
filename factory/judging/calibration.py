"""Judges against gold: answers whose better one is known are put before every judge as if they were rollouts.

A gold file is JSONL or Parquet. Each row has a prompt (`prompt`, `messages` or `instruction`) and either `output_1`,
`output_2` and `better` (1 or 2), or `chosen` and `rejected` (text, or a conversation that ends with the answer).
The marks that people put on a run's own pairs are gold too. The rule that must not break: where the better answer stands says
nothing about it. Rows of the first form keep their order, and of the others a hash of the prompt decides.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from factory.client.asking import Desk
from factory.engine import Engine
from factory.gathering.raw_prompts import Row, read_row
from factory.gathering.sources import rows_of
from factory.judging.gold import Accuracy, counted
from factory.judging.lots import lot
from factory.ledger.marks import standing_marks
from factory.prompts import normalise
from factory.run import RunFolder
from judges.base import Judge
from schemas.chat import Completion
from schemas.errors import SourceError
from schemas.recipe import Source
from schemas.rows import Loop, Prompt, Rollout, VerdictStatus


@dataclass(frozen=True, slots=True)
class GoldPair:
    """Two answers to a prompt; `better` is the index of the better one."""

    prompt: Prompt
    answers: tuple[Rollout, Rollout]
    better: int


def read_gold(path: Path) -> tuple[GoldPair, ...]:
    """Every pair of a file. Raises SourceError with the place."""
    found: dict[str, GoldPair] = {}
    for place, row in rows_of(Source(path=path)):
        pair = _pair(row, place)
        found.setdefault(pair.prompt.prompt_id, pair)
    if not found:
        raise SourceError(f"{path}: holds no gold pairs")
    return tuple(found.values())


def marked_gold(run: RunFolder) -> tuple[GoldPair, ...]:
    """What people say of a round's pairs: the last word on each prompt. Raises SchemaError.

    A pair of which both sides are bad is none, and neither is one with a hard loop, which no judge reads.
    """
    marks = {mark.prompt_id: mark for mark in standing_marks(run).values()}
    found: list[GoldPair] = []
    for shard in range(run.shards()) if marks else ():
        for prompt in (prompt for prompt in run.read_rows(Prompt, shard) if prompt.prompt_id in marks):
            mark, rows = marks[prompt.prompt_id], _answers(run, shard)
            better, worse = rows.get(mark.better or ""), rows.get(mark.worse or "")
            if better and worse and Loop.HARD not in (better.loop, worse.loop):
                found.append(_put_on_a_side(prompt, better, worse))
    return tuple(found)


@lru_cache(maxsize=1)  # the marked prompts of a shard come one after the other
def _answers(run: RunFolder, shard: int) -> Mapping[str, Rollout]:
    rows = run.read_rows(Rollout, shard, without=("prompt_token_ids", "token_ids"))
    return {row.rollout_id: row for row in rows if row.text is not None}


def _put_on_a_side(prompt: Prompt, better: Rollout, worse: Rollout) -> GoldPair:
    place = int(lot(prompt.prompt_id, "side") < 0.5)
    return GoldPair(prompt, (worse, better) if place else (better, worse), place)


def drawn(pairs: Iterable[GoldPair], sample: int | None) -> tuple[GoldPair, ...]:
    """The first pair of each prompt; `sample`: of so many prompts, drawn by a hash."""
    found: dict[str, GoldPair] = {}
    for pair in pairs:
        found.setdefault(pair.prompt.prompt_id, pair)
    if sample is None or sample >= len(found):
        return tuple(found.values())
    names = sorted(found, key=lambda prompt_id: lot(prompt_id, "gold"))[:sample]
    return tuple(found[prompt_id] for prompt_id in names)


def _pair(row: Row, place: str) -> GoldPair:
    asked = (
        row if row.get("prompt") is not None or row.get("messages") is not None else {"prompt": row.get("instruction")}
    )
    prompt = normalise(read_row(dict(asked), place, "prompt", "messages"), "gold")
    if row.get("better") is None:
        first, second = _answer(row, "chosen", place), _answer(row, "rejected", place)
        better = int(lot(prompt.prompt_id, "side") < 0.5)
        texts = (second, first) if better else (first, second)
    else:
        if row["better"] not in (1, 2):
            raise SourceError(f"{place}: better: got {row['better']!r}; write 1 or 2")
        texts, better = (_answer(row, "output_1", place), _answer(row, "output_2", place)), int(str(row["better"])) - 1
    one, two = (an_answer(prompt.prompt_id, slot, text) for slot, text in zip("ab", texts, strict=True))
    return GoldPair(prompt, (one, two), better)


def _answer(row: Row, column: str, place: str) -> str:
    """Text, or the last message of a conversation."""
    value = row.get(column)
    if isinstance(value, list) and value and isinstance(value[-1], Mapping):
        value = value[-1].get("content")
    if not isinstance(value, str):
        raise SourceError(
            f"{place}: {column}: got {str(value)[:60]!r}; write an answer's text "
            "(the columns are output_1, output_2 and better, or chosen and rejected)"
        )
    return value


def an_answer(prompt_id: str, slot: str, text: str) -> Rollout:
    """A finished answer that no policy of ours has made."""
    return Rollout(
        rollout_id=f"{prompt_id}:{slot}",
        prompt_id=prompt_id,
        slot=slot,
        temperature=0.0,
        top_p=1.0,
        min_p=0.0,
        seed=0,
        model="given",
        model_digest="given",
        text=text,
        reasoning=None,
        finish_reason="stop",
        prompt_token_ids=None,
        token_ids=None,
    )


async def ask_about_gold(pairs: Sequence[GoldPair], judges: Sequence[tuple[Judge, Engine]], desk: Desk) -> None:
    """Both answers of every pair before every judge; the replies lie in the desk's journal afterwards."""
    await desk.ask_all(
        [
            (engine, question.request)
            for pair in pairs
            for judge, engine in judges
            for question in judge.ask(pair.prompt, pair.answers)
        ]
    )


def accuracies(
    pairs: Iterable[GoldPair], judges: Sequence[Judge], kept: Mapping[str, Completion]
) -> dict[str, Accuracy]:
    """By judge. A pair counts where both answers were scored."""
    leads: dict[str, list[float]] = {judge.name: [] for judge in judges}
    for pair in pairs:
        for judge in judges:
            said = judge.read(pair.prompt, pair.answers, kept)
            scores = [one.score for one in said if one.status is VerdictStatus.OK and one.score is not None]
            if len(scores) == 2:
                leads[judge.name].append(scores[pair.better] - scores[1 - pair.better])
    return {name: counted(own) for name, own in leads.items()}
