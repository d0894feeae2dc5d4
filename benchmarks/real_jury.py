"""What a real jury of the shipped model is worth: against gold, and against answers that were spoilt on purpose.

    python -m benchmarks.real_jury                 the 100 pairs of LLMBar's Natural set, in ../shared where that is
    python -m benchmarks.real_jury --quick         8 pairs
    python -m benchmarks.real_jury --gold FILE     another file of pairs, as `prefactory judges calibrate` takes it

The three shipped rubrics, asked of the shipped model behind a real vLLM server. First table: how often each judge, and
the jury as a run aggregates it, sets the better answer above the other. Second: how often each sets a sound answer above its
spoilt twin. `prefactory judges calibrate` and `prefactory judges probe` say the same of any recipe's jury. The last line of
the output is one JSON object.

The rule that its reader must not break: a 135M model is no judge. The figures are here so that nobody takes it for one.
"""

import argparse
import asyncio
import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.cascade_replay import court_of
from benchmarks.jury_cost import POINTWISE
from benchmarks.serving import served
from factory.client.asking import Desk
from factory.judging.aggregation import TIE
from factory.judging.calibration import GoldPair, accuracies, read_gold
from factory.judging.canaries import canary_rows, twins
from factory.judging.gold import Accuracy
from factory.judging.spreads import PooledSpread
from factory.jury import Rules, stand
from factory.ledger.journal import Journal
from factory.opening import cache_folder
from factory.serving.models import DEFAULT_MODEL
from factory.wilson import wilson
from judges.base import Judge
from schemas.chat import Completion, Request
from schemas.rows import Canary, CanaryKind, Prompt, Rollout

GOLD = Path(__file__).parent.parent.parent / "shared" / "gold" / "llmbar.jsonl"
SUBSET = "Natural"
WATCHED = 30  # pairs whose better answer gets twins
JURY = "the jury"
Replies = Mapping[str, Completion]


@dataclass(frozen=True, slots=True)
class Beaten:
    """Spoilt twins against their originals. A tie is not beaten."""

    won: int
    tied: int
    asked: int

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.won, self.asked)


def natural_pairs(gold: Path) -> tuple[GoldPair, ...]:
    """The rows of the Natural subset; every row of a file that has no subsets."""
    rows = [json.loads(line) for line in gold.read_text(encoding="utf-8").splitlines()]
    wanted = [row for row in rows if row.get("subset", SUBSET) == SUBSET]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "pairs.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in wanted), encoding="utf-8")
        return read_gold(path)


def questions(pairs: Sequence[GoldPair], watched: Sequence[GoldPair], judges: Sequence[Judge]) -> list[Request]:
    """About both answers of every pair, and about the twins of the better answer of some."""
    answers: list[tuple[Prompt, Sequence[Rollout]]] = [(pair.prompt, pair.answers) for pair in pairs]
    answers += [(pair.prompt, (*twins(pair.answers[pair.better]).values(),)) for pair in watched]
    return [question.request for prompt, own in answers for judge in judges for question in judge.ask(prompt, own)]


async def ask(asked: Sequence[Request], journal: Journal) -> None:
    """What the journal does not have yet."""
    said = Console(stderr=True)
    if any(request.request_id not in journal.kept for request in asked):
        async with served(said) as server:
            desk = Desk(journal, lambda: None, said.print)
            await desk.ask_all([(server.engine, request) for request in asked])


# --- figures ---


def jury_accuracy(pairs: Sequence[GoldPair], judges: Sequence[Judge], kept: Replies) -> Accuracy:
    """Of the scores that a run would give: scaled by each judge's spread over all pairs. Equal scores are half right."""
    heard = [(pair, [one for judge in judges for one in judge.read(pair.prompt, pair.answers, kept)]) for pair in pairs]
    spread, right, counted = PooledSpread(), 0.0, 0
    for pair, verdicts in heard:
        spread.add(pair.answers, verdicts, POINTWISE)
    rules = Rules(POINTWISE, spread.sigmas())
    for pair, verdicts in heard:
        score = stand(pair.answers, verdicts, rules).scores
        better, worse = (score.get(pair.answers[at].rollout_id) for at in (pair.better, 1 - pair.better))
        if better is not None and worse is not None:
            right += 0.5 if abs(better - worse) <= TIE else float(better > worse)
            counted += 1
    return Accuracy(right, counted)


def beaten(rows: Sequence[Canary]) -> dict[tuple[str, CanaryKind], Beaten]:
    """By judge and kind."""
    found = {}
    for judge, kind in product(dict.fromkeys(row.judge for row in rows), CanaryKind):
        own = [row for row in rows if row.judge == judge and row.kind is kind]
        leads = [row.original - row.twin for row in own if row.original is not None and row.twin is not None]
        won, tied = sum(lead > TIE for lead in leads), sum(abs(lead) <= TIE for lead in leads)
        found[judge, kind] = Beaten(won, tied, len(leads))
    return found


def accuracy_table(found: Mapping[str, Accuracy]) -> Table:
    shown = Table(title="Against gold; a tie is half right", title_justify="left")
    shown.add_column("judge")
    for title in ("pairs", "right", "accuracy (95%)"):
        shown.add_column(title, justify="right")
    for name, one in found.items():
        low, high = one.interval
        shown.add_row(name, str(one.pairs), f"{one.right:g}", f"{one.rate:.3f} ({low:.3f}-{high:.3f})")
    return shown


def canary_table(found: Mapping[tuple[str, CanaryKind], Beaten]) -> Table:
    shown = Table(title="Spoilt twins that are set below the original (95%)", title_justify="left")
    shown.add_column("twin")
    judges = list(dict.fromkeys(judge for judge, _ in found))
    for judge in judges:
        shown.add_column(judge, justify="right")
    for kind in CanaryKind:
        cells = [found[judge, kind] for judge in judges]
        shown.add_row(kind.value, *(f"{one.won} of {one.asked} ({_percents(one.interval)})" for one in cells))
    return shown


def _percents(interval: tuple[float, float]) -> str:
    return "-".join(f"{bound:.0%}" for bound in interval)


def document(
    found: Mapping[str, Accuracy], canaries: Mapping[tuple[str, CanaryKind], Beaten], watched: int
) -> dict[str, object]:
    accuracy = {
        name: {
            "pairs": one.pairs,
            "right": one.right,
            "accuracy": round(one.rate, 3),
            "interval": _rounded(one.interval),
        }
        for name, one in found.items()
    }
    twins_beaten = {
        judge: {
            kind.value: {"won": one.won, "tied": one.tied, "of": one.asked, "interval": _rounded(one.interval)}
            for (name, kind), one in canaries.items()
            if name == judge
        }
        for judge in dict.fromkeys(judge for judge, _ in canaries)
    }
    return {"model": DEFAULT_MODEL, "accuracy": accuracy, "watched": watched, "canaries": twins_beaten}


def _rounded(interval: tuple[float, float]) -> list[float]:
    return [round(bound, 3) for bound in interval]


async def main(options: argparse.Namespace) -> None:
    if not options.gold.exists():
        print(json.dumps({"skipped": "no gold pairs here: name a file with --gold"}))
        return
    pairs = natural_pairs(options.gold)[: 8 if options.quick else None]
    watched, judges = pairs[: 2 if options.quick else WATCHED], list(court_of(POINTWISE).judges.values())
    words = [
        hashlib.sha256(options.gold.read_bytes()).hexdigest(),
        *(judge.digest for judge in judges),
        str(len(pairs)),
    ]
    digest = hashlib.sha256(" ".join(words).encode()).hexdigest()
    journal = Journal(options.cache / f"{digest[:16]}.jsonl")
    await ask(questions(pairs, watched, judges), journal)
    found = accuracies(pairs, judges, journal.kept) | {JURY: jury_accuracy(pairs, judges, journal.kept)}
    rows = [
        row for pair in watched for row in canary_rows(pair.prompt, pair.answers[pair.better], judges, journal.kept)
    ]
    canaries, console = beaten(rows), Console(width=140)
    console.print(accuracy_table(found))
    console.print(canary_table(canaries))
    print(json.dumps(document(found, canaries, len(watched))))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_jury", description="What a real jury is worth.")
    parser.add_argument("--quick", action="store_true", help="8 pairs")
    parser.add_argument("--gold", type=Path, default=GOLD, metavar="FILE", help="pairs whose better answer is known")
    parser.add_argument("--cache", type=Path, default=cache_folder() / "real_jury", metavar="FOLDER")
    asyncio.run(main(parser.parse_args()))
