"""A run while it goes on: what is done, how fast, and what came of it so far, read from what lies on disk.

The rule that must not break: looking costs the run nothing. Nothing is locked, nothing is asked of a server, no text is read,
and a record that was read once is not read again. So what is seen is a little old, and of unfinished shards only what is kept.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from factory.client.spending import read_spent
from factory.ledger.identity import Stage
from factory.ledger.lock import owner_of
from factory.looking.between import UnderWay, evaluations, rounds_to_come, trainings
from factory.looking.figures import Tally, tally
from factory.looking.report_figures import Rate
from factory.recipes.recipe_file import stored_recipe
from factory.rollouts import slots
from factory.run import RunFolder
from schemas.errors import FactoryError, Fixable, SchemaError
from schemas.manifest import Live, ServerNow, Spent, StageRecord
from schemas.price import money_text
from schemas.recipe import Recipe

OLD = 10.0  # seconds after which what a process said of its servers is no longer so
WINDOW = 60.0  # seconds over which a speed is measured
WATCHED = (Stage.ROLLOUTS, Stage.VERDICTS, Stage.PAIRS)
_NOTHING = Tally(0, {}, {})


@dataclass(frozen=True, slots=True)
class Done:
    """Of a stage: answers, judgements or prompts. `total` may yet change: what is judged follows from the answers."""

    stage: Stage
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Speed:
    """A second."""

    requests: float
    read: float
    written: float
    steps: float  # of the stages that servers answer


@dataclass(frozen=True, slots=True)
class Pulse:
    """`servers`: empty where nobody is at work. `speed`: None before two looks; `loops`: None before the first shard."""

    round: int
    stages: tuple[Done, ...]
    spent: Spent
    speed: Speed | None
    loops: Rate | None
    outcome: Tally
    servers: tuple[ServerNow, ...]
    cost: float | None = None  # so far; None where nothing of it has a price
    doing: tuple[str, ...] = ()  # beside the stages, a line each
    to_come: bool = False  # further rounds

    @property
    def finished(self) -> bool:
        return not self.to_come and all(one.total and one.done >= one.total for one in self.stages)

    @property
    def seconds_left(self) -> float | None:
        """At the speed of the last minute; None where nothing moves."""
        left = sum(one.total - one.done for one in self.stages if one.stage is not Stage.PAIRS)
        return left / self.speed.steps if self.speed and self.speed.steps > 0 else None


@dataclass(frozen=True, slots=True)
class _Moment:
    at: float
    spent: Spent
    steps: int


@dataclass
class Watch:
    """Looks at the last round of a run, again and again."""

    root: Path
    clock: Callable[[], float] = time.time
    _records: dict[tuple[int, Stage, int], StageRecord] = field(default_factory=dict)
    _moments: deque[_Moment] = field(default_factory=deque)
    _outcome: tuple[int, Tally] = (0, _NOTHING)
    _recipe: Recipe | None = None
    _inner: dict[Path, "Watch"] = field(default_factory=dict)

    def look(self) -> Pulse:
        """Raises Fixable where the folder is no run."""
        run = self._last_round()
        prompts = self._prompts(run)
        stages = (self._answers(run, prompts), self._judgements(run, prompts), self._paired(run, prompts))
        spent = read_spent(run.spent_path)
        steps = sum(one.done for one in stages if one.stage is not Stage.PAIRS)
        return Pulse(
            round=run.round,
            stages=stages,
            spent=spent,
            speed=self._speed(_Moment(self.clock(), spent, steps)),
            loops=self._loops(run, prompts),
            outcome=self._tally(run, prompts),
            servers=tuple(self._servers(run)),
            cost=spent.money if run.known().prices else None,
            doing=tuple(self._doing(run)),
            to_come=rounds_to_come(run, self._asked()),
        )

    def _doing(self, run: RunFolder) -> Iterator[str]:
        """Training, and checkpoints that are asked."""
        now = self.clock()
        for training in trainings(run):
            yield training.line(now)
        for folder in evaluations(run, now, OLD):
            inner = self._inner.setdefault(folder.root, Watch(folder.root, self.clock))
            with suppress(FactoryError):  # it is only just begun
                answers = inner.look().stages[0]
                since = owner.since.timestamp() if (owner := owner_of(folder.root)) else now
                yield UnderWay(f"evaluating {folder.root.name}", "answers", answers.done, answers.total, since).line(
                    now
                )

    def _last_round(self) -> RunFolder:
        run = RunFolder(self.root)
        run.known()
        begun = [each for each in run.rounds() if each.manifest_path.exists()]
        return begun[-1] if begun else run

    def _prompts(self, run: RunFolder) -> list[int]:
        """How many, by shard."""
        record = self._record(run, Stage.PROMPTS, 0)
        return [] if record is None else [part.rows for part in record.outputs]

    def _record(self, run: RunFolder, stage: Stage, shard: int) -> StageRecord | None:
        key = (run.round, stage, shard)
        if key not in self._records:
            try:
                record = run.record(stage, shard)
            except SchemaError:
                return None
            if record is None:
                return None
            self._records[key] = record
        return self._records[key]

    def _asked(self) -> Recipe:
        if self._recipe is None:
            self._recipe = stored_recipe(RunFolder(self.root).recipe_path)
        return self._recipe

    def _planned(self, prompts: int) -> int:
        return prompts * len(slots(self._asked().rollouts))

    def _answers(self, run: RunFolder, prompts: Sequence[int]) -> Done:
        planned = [self._planned(count) for count in prompts]
        return Done(Stage.ROLLOUTS, sum(self._kept(run, Stage.ROLLOUTS, planned)), sum(planned))

    def _judgements(self, run: RunFolder, prompts: Sequence[int]) -> Done:
        """Every planned answer is foreseen to be judged until its shard says how many are."""
        records = [self._record(run, Stage.ROLLOUTS, shard) for shard in range(len(prompts))]
        judges = len(self._asked().jury.judges)
        foreseen = [
            judges * (self._planned(count) if record is None else int(record.notes["to_judge"]))
            for record, count in zip(records, prompts, strict=True)
        ]
        return Done(Stage.VERDICTS, sum(self._kept(run, Stage.VERDICTS, foreseen)), sum(foreseen))

    def _kept(self, run: RunFolder, stage: Stage, foreseen: Sequence[int]) -> list[int]:
        """Of each shard: all where it is finished, else what its journal has."""
        return [
            count if self._record(run, stage, shard) is not None else min(count, run.journalled(stage, shard))
            for shard, count in enumerate(foreseen)
        ]

    def _paired(self, run: RunFolder, prompts: Sequence[int]) -> Done:
        done = (count for shard, count in enumerate(prompts) if self._record(run, Stage.PAIRS, shard) is not None)
        return Done(Stage.PAIRS, sum(done), sum(prompts))

    def _loops(self, run: RunFolder, prompts: Sequence[int]) -> Rate | None:
        records = [self._record(run, Stage.ROLLOUTS, shard) for shard in range(len(prompts))]
        found = [record for record in records if record is not None]
        answers = sum(record.outputs[0].rows for record in found)
        return Rate("so far", sum(int(record.notes["hard_loops"]) for record in found), answers) if answers else None

    def _tally(self, run: RunFolder, prompts: Sequence[int]) -> Tally:
        """Counted again only where there are more shards than before."""
        paired = sum(self._record(run, Stage.PAIRS, shard) is not None for shard in range(len(prompts)))
        if paired != self._outcome[0]:
            try:
                self._outcome = (paired, tally(self.root, run.round))
            except Fixable:  # a part was replaced under the question
                return self._outcome[1]
        return self._outcome[1]

    def _speed(self, now: _Moment) -> Speed | None:
        self._moments.append(now)
        while len(self._moments) > 2 and now.at - self._moments[1].at >= WINDOW:
            self._moments.popleft()
        first = self._moments[0]
        if (seconds := now.at - first.at) <= 0:
            return None
        return Speed(
            requests=(now.spent.requests - first.spent.requests) / seconds,
            read=(now.spent.prompt_tokens - first.spent.prompt_tokens) / seconds,
            written=(now.spent.completion_tokens - first.spent.completion_tokens) / seconds,
            steps=(now.steps - first.steps) / seconds,
        )

    def _servers(self, run: RunFolder) -> Sequence[ServerNow]:
        try:
            live = Live.model_validate_json(run.live_path.read_bytes())
        except (OSError, ValidationError):
            return ()
        return live.servers if self.clock() - live.at <= OLD else ()


def lines_of(pulse: Pulse) -> list[str]:
    """The whole of it, one thing a line."""
    return [
        line
        for line in (_stages(pulse), *pulse.doing, _speed_line(pulse), _server_line(pulse), _outcome_line(pulse))
        if line
    ]


def _stages(pulse: Pulse) -> str:
    said = ", ".join(f"{one.stage} {one.done:,} of {one.total:,}" for one in pulse.stages)
    return f"round {pulse.round}: {said}" + ("" if pulse.finished else _left(pulse.seconds_left))


def _left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"; about {seconds:.0f} s left" if seconds < 120 else f"; about {seconds / 60:,.0f} min left"


def _speed_line(pulse: Pulse) -> str:
    said = f"{pulse.spent.requests:,} requests and {pulse.spent.tokens:,} tokens so far"
    if pulse.cost is not None:
        said += f", at a cost of {money_text(pulse.cost)}"
    if pulse.speed is not None and pulse.speed.requests > 0:
        one = pulse.speed
        said += f"; {one.written:,.0f} tokens/s written, {one.read:,.0f} read, {one.requests:,.1f} requests/s"
    return said


def _server_line(pulse: Pulse) -> str:
    each = (
        f"{one.url} {one.in_flight} of {one.places}" + ("" if one.state == "serves" else f" ({one.state})")
        for one in pulse.servers
    )
    return f"in flight: {', '.join(each)}" if pulse.servers else ""


def _outcome_line(pulse: Pulse) -> str:
    said = []
    if pulse.loops is not None:
        low, high = pulse.loops.interval
        said.append(f"hard loops {pulse.loops.value:.1%} ({low:.1%} to {high:.1%}) of {pulse.loops.trials:,} answers")
    if pulse.outcome.prompts:
        said.append(f"{pulse.outcome.pairs:,} pairs")
        said.append(_dropped(pulse.outcome.dropped))
    return "; ".join(part for part in said if part)


def _dropped(dropped: Mapping[str, int]) -> str:
    each = ", ".join(f"{reason} {count:,}" for reason, count in dropped.items())
    return f"{sum(dropped.values()):,} dropped: {each}" if dropped else "none dropped"
