"""What a run came to, counted from its tables. Every number that a person reads of a run is made here.

Rates are hard loops over rollouts that have a text, greedy and sampled apart, with Wilson's interval (Wilson, JASA 22,
1927); they mean nothing without the token cap that they were seen at, so that stands beside them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from factory import store
from schemas.rows import DropReason

HINTS: Mapping[DropReason, str] = {
    DropReason.UNFINISHED: "answers ran into the cap: raise `rollouts.max_tokens`, take prompts with shorter answers, "
    "or set `pairing.allow_unfinished: true`",
    DropReason.BELOW_MARGIN: "the jury sees no clear winner: lower `pairing.margin`, or use better judges",
    DropReason.BELOW_AGREEMENT: "the judges disagree: lower `pairing.agreement`, or use better judges",
    DropReason.BELOW_FLOOR: "even the best answer is poor: lower `pairing.floor`, or take easier prompts",
    DropReason.NO_QUORUM: "too few judges could be read: see `SELECT judge, status, count(*) FROM verdicts GROUP BY ALL`",
    DropReason.PROMPT_TOO_LONG: "raise `machine.max_model_len`, or take shorter prompts",
    DropReason.ENGINE_ERROR: "see `SELECT error, count(*) FROM rollouts GROUP BY ALL`",
    DropReason.ALL_LOOPS: "every answer loops: raise the temperature, or pair these prompts with another model's answers",
}

_SLOTS = """
SELECT if(slot = 'greedy', 'greedy', 'sampled') AS decoding, count(text) AS answers,
       count(*) FILTER (loop = 'hard') AS hard, count(*) FILTER (loop = 'soft') AS soft,
       count(*) FILTER (text IS NOT NULL AND finish_reason NOT IN ('stop', 'tool_calls')) AS unfinished,
       count(error) AS errors, coalesce(sum(len(token_ids)), 0)::BIGINT AS tokens
FROM rollouts GROUP BY ALL ORDER BY decoding
"""
_LOOPS = """
SELECT count(*) FILTER (finish_reason = 'repetition') AS stopped,
       count(*) FILTER (finish_reason = 'repetition' AND loop = 'hard') AS confirmed,
       count(*) FILTER (finish_reason <> 'repetition' AND loop = 'hard') AS only_detector,
       coalesce(sum(len(token_ids)) FILTER (finish_reason = 'repetition'), 0)::BIGINT AS stopped_tokens
FROM rollouts
"""
_RULES = "SELECT loop, loop_rule, count(*) FROM rollouts WHERE loop_rule IS NOT NULL GROUP BY ALL ORDER BY 1, 3 DESC, 2"
_JUDGES = """
SELECT judge, count(*) FILTER (status = 'ok') AS ok, count(*) FILTER (status LIKE 'skipped%') AS skipped,
       count(*) FILTER (status = 'abstained') AS abstained,
       count(*) FILTER (status NOT IN ('ok', 'abstained') AND status NOT LIKE 'skipped%') AS failed,
       avg(score) AS mean, stddev_pop(score) AS sd, avg(mass) AS mass
FROM verdicts GROUP BY ALL ORDER BY judge
"""


@dataclass(frozen=True, slots=True)
class SlotFigures:
    decoding: str
    answers: int
    hard: int
    soft: int
    unfinished: int
    errors: int
    tokens: int

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95% interval of the hard-loop rate."""
        return wilson(self.hard, self.answers)


@dataclass(frozen=True, slots=True)
class LoopFigures:
    """The engine's `repetition_detection` against the detector, which reads every answer afterwards."""

    stopped: int  # by the engine
    confirmed: int  # of those, hard to the detector; the others were asked for, or are too short a repetition
    only_detector: int  # hard, and the engine let them go on
    stopped_tokens: int  # of the answers that the engine stopped
    rules: tuple[tuple[str, str, int], ...]  # (hard or soft, rule, answers)

    def saved(self, max_tokens: int) -> int:
        """Tokens that stopping early saved, as if each of those answers had gone on to the cap: at most so many."""
        return self.stopped * max_tokens - self.stopped_tokens


@dataclass(frozen=True, slots=True)
class JudgeFigures:
    judge: str
    ok: int
    skipped: int
    abstained: int
    failed: int
    mean: float | None
    sd: float | None
    mass: float | None


@dataclass(frozen=True, slots=True)
class TrustFigures:
    """What the jury is worth by the run's own measure (`factory.trust`); None where it could not be measured."""

    judges: int
    n_eff: float | None
    alpha: float | None  # Krippendorff's, of scores less their prompt's mean
    flips: float | None  # share of re-asked comparisons that came out the other way
    planted: Mapping[str, tuple[float, float, float, int]]  # judge -> rate of spoilt answers beaten, its interval, n

    @property
    def coins(self) -> tuple[str, ...]:
        """The judges that planted answers cannot tell from a coin."""
        return tuple(judge for judge, (_, low, _, _) in self.planted.items() if low <= 0.5)


@dataclass(frozen=True, slots=True)
class Figures:
    """`dropped` by reason, `causes` of the pairs; prompts == pairs + dropped once the run is finished."""

    prompts: int
    slots: tuple[SlotFigures, ...]
    loops: LoopFigures
    judges: tuple[JudgeFigures, ...]
    causes: Mapping[str, int]
    dropped: Mapping[str, int]
    trust: TrustFigures | None = None  # None: the run has not come so far

    @property
    def pairs(self) -> int:
        return sum(self.causes.values())

    @property
    def drops(self) -> int:
        return sum(self.dropped.values())


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """95% score interval of a proportion; (0, 1) where nothing was tried."""
    if trials == 0:
        return 0.0, 1.0
    from scipy.stats import binomtest  # half a second to import, and not every command shows a rate

    found = binomtest(hits, trials).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def figures(root: Path) -> Figures:
    """Raises Fixable where the tables cannot be read."""
    (prompts,) = _column(root, "SELECT count(*) FROM prompts")
    return Figures(
        prompts=prompts,
        slots=tuple(SlotFigures(*row) for row in store.query(root, _SLOTS).rows),  # type: ignore[arg-type]  # as selected
        loops=_loops(root),
        judges=tuple(JudgeFigures(*row) for row in store.query(root, _JUDGES).rows),  # type: ignore[arg-type]  # as selected
        causes=_counts(root, "SELECT cause, count(*) FROM pairs GROUP BY ALL ORDER BY 2 DESC, 1"),
        dropped=_counts(root, "SELECT reason, count(*) FROM dropped GROUP BY ALL ORDER BY 2 DESC, 1"),
        trust=_trust(root),
    )


def _trust(root: Path) -> TrustFigures | None:
    rows = store.query(root, "SELECT figure, judge, value, low, high, n FROM trust WHERE value IS NOT NULL").rows
    if not rows:
        return None
    found = {(str(figure), judge): (value, low, high, n) for figure, judge, value, low, high, n in rows}
    whole = {figure: float(str(values[0])) for (figure, judge), values in found.items() if judge is None}
    flips = [(float(str(value)), int(str(n))) for (figure, _), (value, _, _, n) in found.items() if figure == "flips"]
    compared = sum(n for _, n in flips)
    return TrustFigures(
        judges=round(whole.get("judges", 0)),
        n_eff=whole.get("n_eff"),
        alpha=whole.get("alpha_centred"),
        flips=sum(rate * n for rate, n in flips) / compared if compared else None,
        planted={
            str(judge): (float(str(value)), float(str(low)), float(str(high)), int(str(n)))
            for (figure, judge), (value, low, high, n) in sorted(found.items(), key=str)
            if figure == "canaries"
        },
    )


def _loops(root: Path) -> LoopFigures:
    (counted,) = store.query(root, _LOOPS).rows
    stopped, confirmed, only_detector, tokens = (int(str(count)) for count in counted)
    rules = tuple((str(kind), str(rule), int(str(count))) for kind, rule, count in store.query(root, _RULES).rows)
    return LoopFigures(stopped, confirmed, only_detector, tokens, rules)


def _column(root: Path, sql: str) -> list[int]:
    return [int(str(row[0])) for row in store.query(root, sql).rows]


def _counts(root: Path, sql: str) -> dict[str, int]:
    return {str(name): int(str(count)) for name, count in store.query(root, sql).rows}
