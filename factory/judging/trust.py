"""What the jury of a run is worth, measured on the run itself, without gold. Kept as the table `trust`.

| figure                   | of        | value                                                                          |
|--------------------------|-----------|--------------------------------------------------------------------------------|
| alpha_raw, alpha_centred | the jury  | Krippendorff's alpha of the scores, and of the scores less their prompt's mean |
| n_eff                    | the jury  | independent judges that the jury is worth                                      |
| judges                   | the jury  | judges that scored anything                                                    |
| injections               | the jury  | share of the judged answers that speak to their judge; none can be chosen      |
| tau                      | a judge   | mean Kendall tau-b with the mean of the others, within a prompt                |
| same_without             | a judge   | share of prompts with the same best and worst when it is left out              |
| length_slope             | a judge   | pooled SDs that an answer gains with each doubling of its length               |
| greedy_best              | a judge   | share of prompts whose best answer is the greedy one                           |
| mass                     | a judge   | mean probability that it puts on grades                                        |
| canary.KIND, canaries    | a judge   | share of planted twins that it sets below the original                         |
| flips                    | a judge   | share of its orderings that another asking turns or levels                     |
| calls, prompt_tokens, …  | a judge   | what it cost                                                                   |

The rule that must not break: what cannot be known from the run is NULL with n = 0 or absent, never a default.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from factory.judging.aggregation import TIE, Block, aggregate, centred
from factory.judging.agreement import Alpha, Correlations, effective_judges, on_grid, tau_b
from factory.judging.candidates import candidates
from factory.judging.deciding import pooled_sigmas
from factory.judging.hearing import Case, by_prompt
from factory.jury import blocks, comparable
from factory.ledger.identity import Stage
from factory.shards import COST
from factory.wilson import wilson
from factory.work import Work, now
from judges.injections import looks_injected
from schemas.manifest import UNCOUNTED, StageRecord
from schemas.recipe import Jury
from schemas.rows import Canary, Reasked, TrustFigure, Verdict, VerdictStatus
from schemas.tables import Table


@dataclass(slots=True)
class Share:
    """Hits among trials."""

    hits: int = 0
    trials: int = 0

    def add(self, hit: bool) -> None:
        self.hits += hit
        self.trials += 1

    def row(self, figure: str, judge: str | None) -> TrustFigure:
        if not self.trials:
            return TrustFigure(figure, judge)
        low, high = wilson(self.hits, self.trials)
        return TrustFigure(figure, judge, self.hits / self.trials, low, high, self.trials)


@dataclass(slots=True)
class Mean:
    total: int = 0
    n: int = 0

    def add(self, value: float) -> None:
        self.total += on_grid(value)
        self.n += 1

    def row(self, figure: str, judge: str) -> TrustFigure:
        return TrustFigure(figure, judge, self.total / on_grid(1.0) / self.n if self.n else None, n=self.n)


@dataclass(slots=True)
class Watch:
    """Everything that is counted, one prompt at a time."""

    jury: Jury
    sigmas: Mapping[str, float]
    raw: Alpha = field(default_factory=Alpha)
    within: Alpha = field(default_factory=Alpha)
    pairs: Correlations = field(default_factory=Correlations)
    tau: dict[str, Mean] = field(default_factory=lambda: defaultdict(Mean))
    mass: dict[str, Mean] = field(default_factory=lambda: defaultdict(Mean))
    greedy: dict[str, Share] = field(default_factory=lambda: defaultdict(Share))
    same: dict[str, Share] = field(default_factory=lambda: defaultdict(Share))
    slope: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0, 0]))  # Σdz, Σd², n
    injections: Share = field(default_factory=Share)
    canaries: dict[tuple[str, str], Share] = field(default_factory=lambda: defaultdict(Share))
    flips: dict[str, Share] = field(default_factory=lambda: defaultdict(Share))

    def add_prompt(self, case: Case, verdicts: Sequence[Verdict]) -> None:
        judged = candidates(case.rollouts).judged
        whole = blocks(judged, verdicts, self.jury.seats)
        for rollout in judged:
            self.injections.add(looks_injected(rollout.text or ""))
        for verdict in verdicts:
            if verdict.judge in self.jury.seats and verdict.mass is not None:
                self.mass[verdict.judge].add(verdict.mass)
        if len(judged) < 2 or not whole:
            return
        apart = {judge: centred(block) for judge, block in whole.items()}
        for rollout in judged:
            own = rollout.rollout_id
            self.raw.add([block[own] for block in whole.values() if own in block])
            self.within.add([block[own] for block in apart.values() if own in block])
        self.pairs.add(apart)
        self._add_lengths(case, apart)
        self._add_best(case, whole)
        self._add_others({judge: block for judge, block in comparable(whole).items() if judge in self.sigmas})

    def _add_lengths(self, case: Case, apart: Mapping[str, Block]) -> None:
        length = {one.rollout_id: math.log2(1 + len(one.text or "")) for one in case.rollouts}
        for judge, block in apart.items():
            sigma = self.sigmas.get(judge)
            if sigma is None:
                continue
            middle = math.fsum(length[own] for own in block) / len(block)
            sums = self.slope[judge]
            for own, score in block.items():
                d = length[own] - middle
                sums[0] += on_grid(d * score / sigma)
                sums[1] += on_grid(d * d)
                sums[2] += 1

    def _add_best(self, case: Case, whole: Mapping[str, Block]) -> None:
        slots = {one.rollout_id: one.slot for one in case.rollouts}
        for judge, block in whole.items():
            if "greedy" in (slots[own] for own in block):
                top = max(block.values())
                best = [own for own, score in block.items() if score >= top - TIE]
                if len(best) == 1:
                    self.greedy[judge].add(slots[best[0]] == "greedy")

    def _add_others(self, shared: Mapping[str, Block]) -> None:
        """Each judge against the mean of the others, and what the pair is without it."""
        if len(shared) < 2 or len(next(iter(shared.values()))) < 2:
            return
        ids = sorted(next(iter(shared.values())))
        whole = _ends(aggregate("scaled", shared, self.sigmas, {}))
        for judge, block in shared.items():
            rest = aggregate("scaled", {name: own for name, own in shared.items() if name != judge}, self.sigmas, {})
            tau = tau_b([block[own] for own in ids], [rest[own] for own in ids])
            if tau is not None:
                self.tau[judge].add(tau)
            self.same[judge].add(_ends(rest) == whole)

    def add_canary(self, row: Canary) -> None:
        if row.status is VerdictStatus.OK and row.original is not None and row.twin is not None:
            won = row.original > row.twin + TIE
            self.canaries[row.judge, row.kind].add(won)
            self.canaries[row.judge, ""].add(won)

    def add_reasked(self, rows: Sequence[Reasked]) -> None:
        """All rows of one prompt and judge."""
        known = [(row.judge, row.first, row.second) for row in rows if row.first is not None and row.second is not None]
        for (judge, a, c), (_, b, d) in combinations(known, 2):
            if abs(a - b) > TIE:
                self.flips[judge].add((a - b) * (c - d) <= 0)

    def rows(self) -> Iterator[TrustFigure]:
        seats = self.jury.seats
        heard = [seat for seat in seats if seat in self.sigmas]
        yield TrustFigure("alpha_raw", value=self.raw.value(), n=self.raw.n)
        yield TrustFigure("alpha_centred", value=self.within.value(), n=self.within.n)
        r = self.pairs.mean()
        yield TrustFigure("n_eff", value=None if r is None else effective_judges(len(heard), r), n=len(heard))
        yield TrustFigure("judges", value=float(len(heard)), n=len(seats))
        yield self.injections.row("injections", None)
        for seat in seats:
            yield self.tau[seat].row("tau", seat)
            yield self.same[seat].row("same_without", seat)
            slope = self.slope[seat]
            yield TrustFigure("length_slope", seat, slope[0] / slope[1] if slope[1] else None, n=slope[2])
            yield self.greedy[seat].row("greedy_best", seat)
            yield self.mass[seat].row("mass", seat)
            yield self.canaries[seat, ""].row("canaries", seat)
            for kind in sorted(kind for judge, kind in self.canaries if judge == seat and kind):
                yield self.canaries[seat, kind].row(f"canary.{kind}", seat)
            yield self.flips[seat].row("flips", seat)


def _ends(score: Mapping[str, float]) -> tuple[str, str]:
    ordered = sorted(score, key=lambda own: (score[own], own))
    return ordered[0], ordered[-1]


def cost_rows(records: Sequence[StageRecord]) -> list[TrustFigure]:
    """What each judge cost over the run, if it is known. Tokens and seconds only where the server said them."""
    if any(UNCOUNTED in record.notes for record in records):
        return []
    found: dict[tuple[str, str], float] = defaultdict(float)
    for record in records:
        for name, value in record.notes.items():
            if name.startswith(COST):
                judge, figure = name.removeprefix(COST).rsplit(".", 1)
                found[judge, figure] += float(value)
    calls = {judge: round(value) for (judge, figure), value in found.items() if figure == "calls"}
    return [
        TrustFigure(figure, judge, round(value, 3), n=calls.get(judge, 0))
        for (judge, figure), value in sorted(found.items())
    ]


def write_trust(work: Work) -> StageRecord:
    """One shard in memory at a time."""
    if record := work.finished(Stage.TRUST, 0):
        return record
    began = now()
    watch = Watch(work.recipe.jury, pooled_sigmas(work))
    for shard in work.shards():
        verdicts = by_prompt(work.run.read_rows(Verdict, shard))
        for case in work.read_case(shard):
            watch.add_prompt(case, verdicts.get(case.prompt.prompt_id, ()))
        for canary in work.run.read_rows(Canary, shard):
            watch.add_canary(canary)
        again: dict[tuple[str, str], list[Reasked]] = defaultdict(list)
        for row in work.run.read_rows(Reasked, shard):
            again[row.prompt_id, row.judge].append(row)
        for rows in again.values():
            watch.add_reasked(rows)
    figures = [*watch.rows(), *cost_rows([work.record(Stage.VERDICTS, shard) for shard in work.shards()])]
    part = work.run.write_part(Table.TRUST, 0, figures)
    return work.close(Stage.TRUST, 0, began, [part])
