"""What a report shows of one run, counted by DuckDB and small whatever the run's size.

The rule that must not break: nothing here grows with the prompts. Rates, histograms and medians are aggregated where the rows
lie; the few texts that are shown are cut there too.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from factory.client.spending import read_spent
from factory.looking import queries
from factory.looking.figures import Figures, figures
from factory.looking.round_figures import RoundFigures, round_figures
from factory.run import RunFolder
from factory.wilson import wilson
from schemas.manifest import RunManifest, Spent

SHOWN = 1500  # characters of a text in an example
MARGIN_BIN, MARGIN_ENDS = 0.25, (-6.0, 12.0)  # pooled SDs; what lies beyond is counted at the ends
LENGTH_BINS = 3  # a doubling


class Cut(StrEnum):
    """By what loop rates are told apart."""

    SLOT = "slot"
    TEMPERATURE = "temperature"
    SOURCE = "source"
    ROUND = "round"


class Side(StrEnum):
    CHOSEN = "chosen"
    REJECTED = "rejected"


class Unit(StrEnum):
    TOKENS = "tokens"
    CHARACTERS = "characters"


@dataclass(frozen=True, slots=True)
class Rate:
    """Hits among trials, with Wilson's interval."""

    name: str
    hits: int
    trials: int

    @property
    def value(self) -> float:
        return self.hits / self.trials

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.hits, self.trials)


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure of `trust`: its value with its interval, where it has one."""

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, slots=True)
class JudgeReport:
    """A judge, and what the run found out about it (`factory.judging.trust` says what each figure means)."""

    judge: str
    ok: int
    failed: int
    mean: float | None
    trust: Mapping[str, Measured]

    def value(self, figure: str) -> float | None:
        found = self.trust.get(figure)
        return None if found is None else found.value


@dataclass(frozen=True, slots=True)
class Bin:
    """`count` pairs of a group: bin `place` begins at `place` * MARGIN_BIN, or at 2 ** (`place` / LENGTH_BINS)."""

    group: str
    place: int
    count: int


@dataclass(frozen=True, slots=True)
class Lengths:
    """Of both sides of the pairs: a histogram, and medians by cause (`all` among them)."""

    unit: Unit
    bins: tuple[Bin, ...]
    medians: Mapping[tuple[str, Side], float]


@dataclass(frozen=True, slots=True)
class StageCost:
    stage: str
    who: str
    requests: int
    read: int | None
    written: int | None
    money: float | None


@dataclass(frozen=True, slots=True)
class Example:
    """One pair, its texts cut to what a page can show."""

    cause: str
    asked: str
    chosen: str
    rejected: str
    margin: float | None
    loop_rule: str | None


@dataclass(frozen=True, slots=True)
class RunReport:
    """All that is shown of one run. `trust_round`: the last round whose jury was measured."""

    name: str
    root: Path
    manifest: RunManifest
    max_tokens: int
    figures: Figures
    loops: Mapping[Cut, tuple[Rate, ...]]
    trust_round: int | None
    jury: Mapping[str, Measured]
    judges: tuple[JudgeReport, ...]
    margins: tuple[Bin, ...]
    median_margins: Mapping[str, float]
    lengths: Lengths
    stages: tuple[StageCost, ...]
    spent: Spent
    rounds: tuple[RoundFigures, ...]
    examples: tuple[Example, ...]

    def rate(self, decoding: str) -> Rate | None:
        """Hard loops of the `greedy` or the `sampled` answers."""
        for slot in self.figures.slots:
            if slot.decoding == decoding and slot.answers:
                return Rate(decoding, slot.hard, slot.answers)
        return None


Ask = Callable[[str], queries.Answer]

# A row for each kind of answer: a small cube, from which every rate is summed. No text is read: `loop` is there where one is.
CUBE = """
SELECT r.round, r.slot, r.temperature, coalesce(p.source, 'unknown') AS source,
       count(*) FILTER (r.loop = 'hard'), count(r.loop)
FROM rollouts r LEFT JOIN prompts p ON p.prompt_id = r.prompt_id AND p.round = r.round GROUP BY ALL ORDER BY ALL
"""
_TRUST = """
SELECT round, figure, judge, value, low, high, n FROM trust
WHERE value IS NOT NULL AND round = (SELECT max(round) FROM trust) ORDER BY ALL
"""
_JUDGES = """
SELECT judge, sum(ok)::BIGINT, sum(failed)::BIGINT, sum(mean * ok) / nullif(sum(ok), 0)
FROM judge_stats GROUP BY judge ORDER BY judge
"""
_MARGINS = f"""
SELECT cause, floor(greatest({MARGIN_ENDS[0]}, least({MARGIN_ENDS[1]}, margin)) / {MARGIN_BIN})::INTEGER, count(*)
FROM pairs WHERE margin IS NOT NULL GROUP BY ALL ORDER BY ALL
"""
_MEDIAN_MARGINS = "SELECT cause, median(margin) FROM pairs WHERE margin IS NOT NULL GROUP BY ALL ORDER BY ALL"
_WITHOUT_IDS = "SELECT count(*) FILTER (chosen_token_ids IS NULL OR rejected_token_ids IS NULL) FROM pairs"
_SIZES = {
    Unit.TOKENS: ("len(chosen_token_ids)", "len(rejected_token_ids)"),
    Unit.CHARACTERS: ("length(chosen)", "length(rejected)"),
}
_SIDES = """
WITH sides AS (
    SELECT 'chosen' AS side, cause, {chosen} AS size FROM pairs UNION ALL SELECT 'rejected', cause, {rejected} FROM pairs
)
"""
_LENGTHS = """
SELECT side, floor(log2(greatest(size, 1)) * {bins})::INTEGER, count(*) FROM sides GROUP BY ALL ORDER BY ALL
"""
_MEDIANS = """
SELECT coalesce(cause, 'all'), side, median(size) FROM sides GROUP BY GROUPING SETS ((cause, side), (side)) ORDER BY ALL
"""
_COST = """
SELECT stage, who, sum(requests)::BIGINT, sum(prompt_tokens)::BIGINT, sum(completion_tokens)::BIGINT, sum(money)
FROM cost GROUP BY stage, who ORDER BY min(round), stage, who
"""
# Chosen by narrow columns first: to join the texts would hold those of the whole run in memory.
_EXAMPLES = f"""
WITH each AS (
    SELECT DISTINCT ON (cause) round, prompt_id, rejected_id FROM pairs
    ORDER BY cause, abs(least(length(chosen), length(rejected)) - 200), prompt_id
)
SELECT cause, left(messages[-1].content, {SHOWN}), left(chosen, {SHOWN}), left(rejected, {SHOWN}), margin, r.loop_rule
FROM each JOIN pairs USING (round, prompt_id, rejected_id)
LEFT JOIN rollouts r ON r.round = each.round AND r.rollout_id = each.rejected_id
ORDER BY cause
"""


def margins_of(ask: Ask) -> tuple[Bin, ...]:
    return tuple(Bin(*row) for row in ask(_MARGINS).rows)  # type: ignore[arg-type]  # as selected


def run_report(root: Path) -> RunReport:
    """Raises Fixable where the folder is no run, or its tables cannot be read."""
    run = RunFolder(root)
    manifest = run.known()
    with queries.session(root) as ask:
        trust = ask(_TRUST).rows
        lengths = lengths_of(ask)
        return RunReport(
            name=manifest.name,
            root=root,
            manifest=manifest,
            max_tokens=int(manifest.identity["rollouts.max_tokens"]),
            figures=figures(root),
            loops=rates(ask(CUBE).rows),
            trust_round=int(str(trust[0][0])) if trust else None,
            jury=_of_judge(trust, None),
            judges=tuple(_judge(row, trust) for row in ask(_JUDGES).rows),
            margins=margins_of(ask),
            median_margins={str(cause): float(str(value)) for cause, value in ask(_MEDIAN_MARGINS).rows},
            lengths=lengths,
            stages=tuple(StageCost(*row) for row in ask(_COST).rows),  # type: ignore[arg-type]  # as selected
            spent=read_spent(run.spent_path),
            rounds=tuple(round_figures(run)),
            examples=tuple(Example(*row) for row in ask(_EXAMPLES).rows),  # type: ignore[arg-type]  # as selected
        )


def rates(cube: Iterable[Sequence[object]]) -> dict[Cut, tuple[Rate, ...]]:
    """Hard loops by each cut, from rows of (round, slot, temperature, source, hard loops, answers).

    In the order of the rows, sources with the most answers first. What has no answers is left out.
    """
    hits: dict[Cut, Counter[str]] = {cut: Counter() for cut in Cut}
    trials: dict[Cut, Counter[str]] = {cut: Counter() for cut in Cut}
    for round_, slot, temperature, source, hard, answers in cube:
        names = {Cut.SLOT: slot, Cut.TEMPERATURE: f"{temperature:g}", Cut.SOURCE: source, Cut.ROUND: round_}
        for cut, name in names.items():
            hits[cut][str(name)] += int(str(hard))
            trials[cut][str(name)] += int(str(answers))
    return {
        cut: tuple(Rate(name, hits[cut][name], trials[cut][name]) for name in _named(cut, trials[cut])) for cut in Cut
    }


def _named(cut: Cut, trials: Counter[str]) -> list[str]:
    names = [name for name, count in trials.items() if count]
    match cut:
        case Cut.SOURCE:
            return sorted(names, key=lambda name: (-trials[name], name))
        case Cut.TEMPERATURE | Cut.ROUND:
            return sorted(names, key=float)
        case Cut.SLOT:
            return sorted(names, key=lambda name: (name != "greedy", len(name), name))


def _of_judge(trust: Sequence[Sequence[object]], judge: str | None) -> dict[str, Measured]:
    return {
        str(figure): Measured(value, low, high, n)  # type: ignore[arg-type]  # as selected
        for _, figure, whose, value, low, high, n in trust
        if whose == judge
    }


def _judge(row: Sequence[object], trust: Sequence[Sequence[object]]) -> JudgeReport:
    judge, ok, failed, mean = row
    return JudgeReport(str(judge), ok, failed, mean, _of_judge(trust, str(judge)))  # type: ignore[arg-type]  # as selected


def lengths_of(ask: Ask) -> Lengths:
    """In tokens where every pair has them: what a trainer sees."""
    unit = Unit.CHARACTERS if ask(_WITHOUT_IDS).rows[0][0] else Unit.TOKENS
    chosen, rejected = _SIZES[unit]
    sides = _SIDES.format(chosen=chosen, rejected=rejected)
    bins = ask(sides + _LENGTHS.format(bins=LENGTH_BINS)).rows
    medians = ask(sides + _MEDIANS).rows
    return Lengths(
        unit=unit,
        bins=tuple(Bin(*row) for row in bins),  # type: ignore[arg-type]  # as selected
        medians={(str(cause), Side(str(side))): float(str(value)) for cause, side, value in medians},
    )
