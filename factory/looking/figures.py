"""What a run came to, counted from its tables. Every number that a person reads of a run is made here.

Rates are hard loops over rollouts that have a text, greedy and sampled apart, with Wilson's interval (Wilson, JASA 22,
1927); they mean nothing without the token cap that they were seen at, so that stands beside them.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from factory.looking import queries
from factory.wilson import wilson
from schemas.rows import DropReason, Loop

HINTS: Mapping[DropReason, str] = {
    DropReason.UNFINISHED: "answers ran into the cap: raise `rollouts.max_tokens`, take prompts with shorter answers, "
    "or set `pairing.allow_unfinished: true`",
    DropReason.BELOW_MARGIN: "the jury sees no clear winner: lower `pairing.margin`, or use better judges",
    DropReason.BELOW_AGREEMENT: "the judges disagree: lower `pairing.agreement`, or use better judges",
    DropReason.BELOW_FLOOR: "even the best answer is poor: lower `pairing.floor`, or take easier prompts",
    DropReason.NO_QUORUM: "too few judges could be read: see `SELECT judge, status, count(*) FROM verdicts GROUP BY ALL`",
    DropReason.PROMPT_TOO_LONG: "raise `machine.max_model_len`, or take shorter prompts",
    DropReason.ENGINE_ERROR: "see `SELECT error, count(*) FROM rollouts GROUP BY ALL`",
    DropReason.MARKED_FLIPPED: "people call the other answer better: `pairing.marks: flip` exchanges the sides where it can",
    DropReason.ALL_LOOPS: "every answer loops: raise the temperature, or pair these prompts with another model's answers",
}

_TALLY = (
    "SELECT count(*) FROM prompts",
    "SELECT cause, count(*) FROM pairs GROUP BY ALL ORDER BY 2 DESC, 1",
    "SELECT reason, count(*) FROM dropped GROUP BY ALL ORDER BY 2 DESC, 1",
)
# One scan of the largest table for all that is said of it; an engine may give any number of finish reasons.
_ROLLOUTS = """
SELECT if(slot = 'greedy', 'greedy', 'sampled') AS decoding,
       CASE WHEN finish_reason = 'repetition' THEN 'repetition' WHEN finish_reason IN ('stop', 'tool_calls') THEN 'ended'
            WHEN finish_reason IS NOT NULL THEN 'cut' END AS ending,
       loop, loop_rule, count(*), count(text), count(error), coalesce(sum(len(token_ids)), 0)::BIGINT
FROM rollouts GROUP BY ALL
"""
_JUDGES = """
SELECT judge, count(*) FILTER (status = 'ok') AS ok, count(*) FILTER (status LIKE 'skipped%') AS skipped,
       count(*) FILTER (status = 'abstained') AS abstained,
       count(*) FILTER (status NOT IN ('ok', 'abstained') AND status NOT LIKE 'skipped%') AS failed,
       avg(score) AS mean, stddev_pop(score) AS sd, avg(mass) AS mass
FROM verdicts GROUP BY ALL ORDER BY judge
"""
_TRUST = "SELECT figure, judge, value, low, high, n FROM trust WHERE value IS NOT NULL"


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the prompts: `causes` of the pairs, `dropped` by reason; both sum up to `prompts` in the end."""

    prompts: int
    causes: Mapping[str, int]
    dropped: Mapping[str, int]

    @property
    def pairs(self) -> int:
        return sum(self.causes.values())

    @property
    def drops(self) -> int:
        return sum(self.dropped.values())


@dataclass(frozen=True, slots=True)
class _Kind:
    """Rollouts that are alike in all that figures tell apart."""

    decoding: str
    ending: str | None  # `repetition`, `ended`, `cut`
    loop: str | None
    rule: str | None
    rows: int
    answers: int
    errors: int
    tokens: int


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
    """What the jury is worth by the run's own measure (`factory.judging.trust`); None where it could not be measured."""

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
class Figures(Tally):
    """All of it."""

    slots: tuple[SlotFigures, ...]
    loops: LoopFigures
    judges: tuple[JudgeFigures, ...]
    trust: TrustFigures | None = None  # None: the run has not come so far


def tally(root: Path, round_: int | None = None) -> Tally:
    """Of one round, or of all. Raises Fixable where the tables cannot be read."""
    return _tally(queries.ask_all(root, _TALLY, round_))


def figures(root: Path, round_: int | None = None) -> Figures:
    """Of one round, or of all. Raises Fixable where the tables cannot be read."""
    *counted, rollouts, judges, trust = queries.ask_all(root, (*_TALLY, _ROLLOUTS, _JUDGES, _TRUST), round_)
    what, kinds = _tally(counted), [_Kind(*row) for row in rollouts.rows]  # type: ignore[arg-type]  # as selected
    return Figures(
        prompts=what.prompts,
        causes=what.causes,
        dropped=what.dropped,
        slots=tuple(_slot(name, [one for one in kinds if one.decoding == name]) for name in _decodings(kinds)),
        loops=_loops(kinds),
        judges=tuple(JudgeFigures(*row) for row in judges.rows),  # type: ignore[arg-type]  # as selected
        trust=_trust(trust.rows),
    )


def _tally(answers: Sequence[queries.Answer]) -> Tally:
    prompts, causes, dropped = answers
    return Tally(int(str(prompts.rows[0][0])), _counts(causes), _counts(dropped))


def _counts(answer: queries.Answer) -> dict[str, int]:
    return {str(name): int(str(count)) for name, count in answer.rows}


def _decodings(kinds: Iterable[_Kind]) -> list[str]:
    return sorted({one.decoding for one in kinds})


def _slot(decoding: str, kinds: Sequence[_Kind]) -> SlotFigures:
    return SlotFigures(
        decoding=decoding,
        answers=sum(one.answers for one in kinds),
        hard=sum(one.rows for one in kinds if one.loop == Loop.HARD),
        soft=sum(one.rows for one in kinds if one.loop == Loop.SOFT),
        unfinished=sum(one.answers for one in kinds if one.ending in ("cut", "repetition")),
        errors=sum(one.errors for one in kinds),
        tokens=sum(one.tokens for one in kinds),
    )


def _loops(kinds: Sequence[_Kind]) -> LoopFigures:
    stopped = [one for one in kinds if one.ending == "repetition"]
    let_go = (one for one in kinds if one.ending in ("ended", "cut"))
    rules: Counter[tuple[str, str]] = Counter()
    for one in kinds:
        if one.loop and one.rule:
            rules[one.loop, one.rule] += one.rows
    ordered = sorted(rules.items(), key=lambda item: (item[0][0], -item[1], item[0][1]))
    return LoopFigures(
        stopped=sum(one.rows for one in stopped),
        confirmed=sum(one.rows for one in stopped if one.loop == Loop.HARD),
        only_detector=sum(one.rows for one in let_go if one.loop == Loop.HARD),
        stopped_tokens=sum(one.tokens for one in stopped),
        rules=tuple((kind, rule, count) for (kind, rule), count in ordered),
    )


def _trust(rows: Sequence[tuple[object, ...]]) -> TrustFigures | None:
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
