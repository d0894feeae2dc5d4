"""Stored verdicts of judges that compared two answers, read as what each judge says of each pair.

The verdicts are a CSV file with the columns `id, judge, strategy, order, winner`: `winner` is 1 or 2 in the numbering of the
gold file whatever the judge was shown, or empty where the reply could not be read, and `order` is `given` or `swapped`,
which answer it was shown first. The gold file is JSONL with `id` and `better` (1 or 2).

A judge's score of an answer is its share of the judge's two votes, by the rule of the pairwise protocol: named in both
orders 1 to 0, named in one each a tie. A pair with an order that could not be read is not scored by that judge. Over all
styles together it is the mean over those with a score, which must be more than half of them.

The rule that must not break: nothing that makes or weighs a vote has seen which answer is better.
"""

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from factory.judging.aggregation import Block, centred
from factory.judging.agreement import Correlations, effective_judges
from factory.judging.calibration import an_answer
from factory.judging.spreads import PooledSpread
from factory.jury import blocks
from judges.pairwise import winner
from schemas.errors import SourceError
from schemas.recipe import JudgeRef, Jury
from schemas.rows import Confirmation, Verdict, VerdictStatus

COLUMNS = ("id", "judge", "strategy", "order", "winner")
ALL_STYLES = "all styles"
ANSWERS = ("1", "2")
Sides = Mapping[tuple[str, str], float]  # (judge, pair) -> the share of the judge's votes that name answer 1


@dataclass(frozen=True, slots=True)
class Case:
    """A pair: each judge's block over its answers, and the better one."""

    blocks: Mapping[str, Block]
    better: str
    worse: str


@dataclass(frozen=True, slots=True)
class Style:
    """All pairs as judges saw them in one wording."""

    name: str
    judges: tuple[str, ...]
    cases: tuple[Case, ...]
    sigmas: Mapping[str, float]

    def n_eff(self) -> float | None:
        """Independent judges that these are worth (`factory.judging.agreement`)."""
        pairs = Correlations()
        for case in self.cases:
            pairs.add({judge: centred(block) for judge, block in case.blocks.items()})
        r = pairs.mean()
        return None if r is None else effective_judges(len(self.judges), r)


def read_better(path: Path) -> dict[str, str]:
    """The better answer of each pair. Raises SourceError with the line."""
    found: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        row = json.loads(line)
        if str(row.get("better")) not in ANSWERS or "id" not in row:
            raise SourceError(f"{path}:{number}: better: got {row.get('better')!r}; write id, and better as 1 or 2")
        found[str(row["id"])] = str(row["better"])
    return found


def read_styles(verdicts: Path, gold: Path) -> list[Style]:
    """Every style of the file in its order, and where there are several, all together. Raises SourceError."""
    better = read_better(gold)
    rows = list(_confirmations(verdicts, better))
    judges = tuple(dict.fromkeys(row.judge for _, row in rows))
    sides = {style: _sides(row for own, row in rows if own == style) for style in dict.fromkeys(own for own, _ in rows)}
    if len(sides) > 1:
        sides[ALL_STYLES] = _together(list(sides.values()))
    return [_style(name, judges, own, better) for name, own in sides.items()]


def _confirmations(path: Path, better: Mapping[str, str]) -> Iterable[tuple[str, Confirmation]]:
    """Each verdict with its style, as the row that a look at a pair in one order leaves; answer 1 stands for the chosen one."""
    seen = set()
    with path.open(encoding="utf-8", newline="") as lines:
        for number, row in enumerate(csv.DictReader(lines), start=2):
            key = tuple(row.get(column) or "" for column in COLUMNS)
            pair, judge, style, order, named = key
            if pair not in better or order not in ("given", "swapped") or named not in ("", *ANSWERS):
                raise SourceError(f"{path}:{number}: {','.join(key)}: not a verdict on a pair of the gold file")
            if key[:4] in seen:
                raise SourceError(f"{path}:{number}: {','.join(key[:4])}: stands there twice")
            seen.add(key[:4])
            status = VerdictStatus.OK if named else VerdictStatus.UNREADABLE
            preference = float(named == "1") if named else None
            yield style, Confirmation(pair, *ANSWERS, judge, order == "given", status, preference)


def _sides(rows: Iterable[Confirmation]) -> Sides:
    looks: dict[tuple[str, str], list[Confirmation]] = defaultdict(list)
    for row in rows:
        looks[row.judge, row.prompt_id].append(row)
    said = {key: winner(own) for key, own in looks.items()}
    return {key: side for key, side in said.items() if side is not None}


def _together(styles: Sequence[Sides]) -> Sides:
    votes: dict[tuple[str, str], list[float]] = defaultdict(list)
    for sides in styles:
        for key, side in sides.items():
            votes[key].append(side)
    return {key: fmean(own) for key, own in votes.items() if 2 * len(own) > len(styles)}


def _style(name: str, judges: tuple[str, ...], sides: Sides, better: Mapping[str, str]) -> Style:
    jury = Jury(judges=[JudgeRef(judge=judge) for judge in judges])
    spread, cases = PooledSpread(), []
    for pair, best in better.items():
        rollouts = [an_answer(pair, number, f"answer {number}") for number in ANSWERS]
        verdicts = [
            Verdict(pair, f"{pair}:{number}", judge, VerdictStatus.OK, score=side if number == "1" else 1 - side)
            for judge in judges
            if (side := sides.get((judge, pair))) is not None
            for number in ANSWERS
        ]
        spread.add(rollouts, verdicts, jury)
        own = blocks(rollouts, verdicts, jury.seats)
        by_number = {judge: {number: block[f"{pair}:{number}"] for number in ANSWERS} for judge, block in own.items()}
        cases.append(Case(by_number, best, ANSWERS[1 - ANSWERS.index(best)]))
    return Style(name, judges, tuple(cases), spread.sigmas())
