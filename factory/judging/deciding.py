"""The stages that decide: from stored verdicts to scorecards, pairs and drops, one shard at a time.

None of them needs a model but the confirmation, and each can be called again at any moment. The rule that must not break:
what is decided depends on the stored rows, the recipe and the marks that it heeds alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from factory.engine import Engine
from factory.judging.aggregation import Weights
from factory.judging.confirming import Contest, confirm, confirmation_rows, confirmed, contest, open_contests
from factory.judging.hearing import Case, by_prompt
from factory.judging.heeding import Marks, heed, vouched_for
from factory.judging.loop_share import EVERY, LoopCount, may_use_loop
from factory.judging.spreads import PooledSpread
from factory.jury import Rules, scorecards, stand
from factory.ledger.identity import Stage
from factory.pairing import pair_prompt
from factory.shards import Free, desk_of
from factory.work import Work, now
from judges.pairwise import PairwiseJudge
from schemas.manifest import UNASKED, StageRecord
from schemas.rows import Confirmation, Dropped, Pair, Scorecard, Verdict, VerdictStatus
from schemas.tables import Table

_BOUND = "loop_bound"


@dataclass(frozen=True, slots=True)
class Bench:
    """What every decision of a run rests on besides its rows."""

    weights: Weights = field(default_factory=dict)
    confirming: Mapping[str, PairwiseJudge] = field(default_factory=dict)
    marks: Marks = field(default_factory=dict)  # of people, where the recipe heeds them


def write_spreads(work: Work) -> StageRecord:
    """Every judge's within-prompt spread over the whole run, one shard in memory at a time; kept in the record's notes."""
    if record := work.finished(Stage.SPREADS, 0):
        return record
    began, spread = now(), PooledSpread()
    for shard in work.shards():
        verdicts = by_prompt(work.run.read_rows(Verdict, shard))
        for case in work.read_case(shard):
            spread.add(case.rollouts, verdicts.get(case.prompt.prompt_id, ()), work.recipe.jury)
    return work.close(Stage.SPREADS, 0, began, [], notes=dict(spread.sigmas()))


def pooled_sigmas(work: Work) -> dict[str, float]:
    """By judge, as `write_spreads` found them."""
    return {judge: float(sigma) for judge, sigma in work.record(Stage.SPREADS, 0).notes.items()}


def write_balance(work: Work, bench: Bench) -> StageRecord:
    """Which forced loops make pairs. Reads the run once more where the recipe caps their share."""
    if record := work.finished(Stage.BALANCE, 0):
        return record
    began, bound = now(), EVERY
    if (share := work.recipe.pairing.loop_share) is not None:
        count = LoopCount()
        for shard in work.shards():
            for _, _, decided in _decided(work, shard, bench, EVERY):
                count.add(decided)
        bound = count.bound(share)
    return work.close(Stage.BALANCE, 0, began, [], notes={_BOUND: bound})


def _bound(work: Work) -> float:
    return float(work.record(Stage.BALANCE, 0).notes[_BOUND])


def contests(work: Work, shard: int, bench: Bench) -> list[Contest]:
    """The pairs of a shard that opinion makes."""
    found = [
        contest(case.prompt, case.rollouts, decided) for case, _, decided in _decided(work, shard, bench, _bound(work))
    ]
    return [one for one in found if one is not None]


def unconfirmed(work: Work, shard: int) -> bool:
    """Whether there is anything left to ask about the pairs of a shard."""
    record = work.finished(Stage.CONFIRMATIONS, shard)
    return record is None or float(record.notes[UNASKED]) > 0


async def ask_to_confirm(work: Work, shard: int, bench: Bench, engines: Mapping[str, Engine], free: Free) -> int:
    """Show the pairs of a shard to the judges that have an engine here. Returns the requests sent."""
    desk = desk_of(work, Stage.CONFIRMATIONS, shard, free=free)
    found = open_contests(contests(work, shard, bench), bench.confirming, _stored(work, shard))
    await confirm(found, bench.confirming, engines, desk)
    return desk.sent


def write_confirmations(work: Work, shard: int, bench: Bench, *, asked: bool) -> StageRecord:
    """`asked`: whether the judges were asked just now; else only what is stored can confirm a pair."""
    record = work.finished(Stage.CONFIRMATIONS, shard)
    if record is not None and not (asked and record.notes[UNASKED]):
        return record
    began = now()
    kept = desk_of(work, Stage.CONFIRMATIONS, shard).journal.kept
    rows = confirmation_rows(contests(work, shard, bench), bench.confirming, _stored(work, shard), kept, asked=asked)
    part = work.run.write_part(Table.CONFIRMATIONS, shard, rows)
    left = sum(row.status is VerdictStatus.NOT_ASKED for row in rows)
    return work.close(Stage.CONFIRMATIONS, shard, began, [part], requests=len(kept), notes={UNASKED: left})


def _stored(work: Work, shard: int) -> list[Confirmation]:
    """Whatever was asked before, for this pairing or another."""
    path = work.run.part_path(Table.CONFIRMATIONS, shard)
    return work.run.read_rows(Confirmation, shard) if path.exists() else []


def write_pairs(work: Work, shard: int, bench: Bench) -> StageRecord:
    """Scorecards, pairs and drops of a shard: exactly one pair or drop for each prompt."""
    if record := work.finished(Stage.PAIRS, shard):
        return record
    began = now()
    rows = by_prompt(work.run.read_rows(Confirmation, shard)) if work.recipe.jury.confirm else {}
    cards: list[Scorecard] = []
    decided: list[Pair | Dropped] = []
    for case, own, one in _decided(work, shard, bench, _bound(work)):
        cards.extend(own)
        if isinstance(one, Pair) and work.recipe.jury.confirm and not vouched_for(one, bench.marks):
            decided.append(confirmed(one, rows.get(case.prompt.prompt_id, ()), bench.weights))
        else:
            decided.append(one)
    outputs = [
        work.run.write_part(Table.SCORECARDS, shard, cards),
        work.run.write_part(Table.PAIRS, shard, [row for row in decided if isinstance(row, Pair)]),
        work.run.write_part(Table.DROPPED, shard, [row for row in decided if isinstance(row, Dropped)]),
    ]
    return work.close(Stage.PAIRS, shard, began, outputs)


def _decided(
    work: Work, shard: int, bench: Bench, bound: float
) -> Iterator[tuple[Case, Sequence[Scorecard], Pair | Dropped]]:
    """Every prompt of a shard with its scorecards and what becomes of it, not confirmed yet."""
    recipe = work.recipe
    verdicts = by_prompt(work.run.read_rows(Verdict, shard))
    rules = Rules(recipe.jury, pooled_sigmas(work), recipe.pairing, bench.weights)
    for case in work.read_case_to_pair(shard):
        prompt_id = case.prompt.prompt_id
        known = stand(case.rollouts, verdicts.get(prompt_id, ()), rules)
        decided = pair_prompt(case.prompt, known, rules, may_use_loop=may_use_loop(prompt_id, bound))
        yield case, scorecards(known, rules), heed(decided, case.rollouts, recipe.pairing, bench.marks)
