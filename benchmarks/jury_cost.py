"""What a jury costs by protocol: calls and prefilled tokens of pointwise, listwise and cascade on the same answers.

    python -m benchmarks.jury_cost                      84 prompts, six answers each; a quarter of an hour on two cores
    python -m benchmarks.jury_cost --quick              12 prompts
    python -m benchmarks.jury_cost --cache FOLDER       where answers and replies are kept, so that nobody pays twice
    python -m benchmarks.jury_cost --prompts FILE ...   other prompts
    python -m benchmarks.jury_cost --block-size 128     of the prefix cache: only whole blocks are found in it again

The shipped model behind a real vLLM server answers prompts of `data/prompts` (and of ../shared/prompts where that is) and
grades its answers by the three shipped rubrics. The counters are the server's own; its prefix cache is emptied before each
protocol and every 24 prompts. A reply that is asked for twice is not the same twice, so the cascade stands beside the jury's
first replies and beside its own; then it is replayed on the first with other margins: what a call less costs in pairs. The
last line of the output is one JSON object.

The rule that its reader must not break: the protocols are compared on the same answers, and a part that was cut off is
asked again from its start, since its counters are lost.
"""

import argparse
import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table as Grid

from benchmarks.cascade_replay import Agreement, Replies, after_wave, beside, court_of, curve, moved, replayed
from benchmarks.serving import Counters, Served, served
from factory.client.asking import Desk
from factory.judging.cascade import waves
from factory.judging.hearing import Case, Court, Seat, all_verdicts, cases, hear
from factory.ledger.journal import Journal
from factory.opening import cache_folder
from factory.progress import Silent
from factory.prompts import collect
from factory.rollouts import Policy, plan, roll_out
from factory.serving.models import DEFAULT_MODEL
from factory.store import read_part, write_part, write_text
from factory.wilson import wilson
from schemas.chat import Completion
from schemas.recipe import Cascade, Decoding, JudgeRef, Jury, Machine, Prompts, Rollouts, Source, Trust
from schemas.rows import Prompt, Rollout, VerdictStatus
from schemas.tables import Table

ROOT = Path(__file__).parent.parent
FILES = ("short_answers", "multi_turn", "reasoning", "open_questions", "extraction", "summarising")
SHARED = ROOT.parent / "shared" / "prompts" / "ifeval.jsonl"
SEED = 4
ROLLOUTS = Rollouts(
    max_tokens=160,
    sampling=Decoding(temperature=0.7, top_p=0.95),
    slots=[Decoding(temperature=warmth) for warmth in (0.3, 0.5, 0.7, 0.9, 1.1)],
)
NAMES = ("helpfulness", "correctness", "clarity")
POINTWISE = Jury(judges=[JudgeRef(judge=name) for name in NAMES], trust=Trust(canaries=0, reasked=0))
LISTWISE = [JudgeRef(judge=name, protocol="listwise") for name in NAMES]
JURIES = {
    "pointwise": POINTWISE,
    "listwise": POINTWISE.model_copy(update={"judges": LISTWISE}),
    "cascade": POINTWISE.model_copy(update={"cascade": Cascade()}),
}
PART = 24  # prompts; the cache is emptied between two parts, so that a run that was cut off goes on with the next
MARGINS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0)


@dataclass(frozen=True, slots=True)
class Kept:
    """Where answers, replies and counters lie. What decides them is in the names.

    A unit is what one wave of a protocol asks about PART prompts: it counts when its counters are written.
    """

    root: Path
    prompts: tuple[str, ...]
    block_size: int

    @property
    def answers(self) -> Path:
        words = [*self.prompts, ROLLOUTS.model_dump_json(), str(SEED)]
        return self.root / f"answers-{_digest(words)}.parquet"

    def _own(self, arm: str) -> Path:
        judges = court_of(JURIES[arm]).judges.values()
        words = [
            self.answers.name,
            str(self.block_size),
            JURIES[arm].model_dump_json(),
            *(one.digest for one in judges),
        ]
        return self.root / f"{arm}-{_digest(words)}"

    def journal(self, unit: str) -> Path:
        return self._own(unit.partition("-")[0]) / f"{unit}.jsonl"

    def counters(self, unit: str) -> Path:
        return self.journal(unit).with_suffix(".json")

    def whole(self) -> bool:
        wanted = [self.counters(unit) for arm in JURIES for unit in self.units(arm)]
        return all(path.exists() for path in (self.answers, *wanted))

    def replies(self, arm: str) -> dict[str, Completion]:
        return {asked: one for unit in self.units(arm) for asked, one in Journal(self.journal(unit)).kept.items()}

    def counted(self, arm: str) -> Counters:
        each = [json.loads(self.counters(unit).read_text(encoding="utf-8")) for unit in self.units(arm)]
        return Counters(**{name: sum(one[name] for one in each) for name in each[0]})

    def units(self, arm: str) -> list[str]:
        """In the order in which they are asked."""
        return [unit_of(arm, wave, start) for wave in range(len(waves(JURIES[arm]))) for start in self.parts()]

    def parts(self) -> range:
        """Where the parts begin."""
        return range(0, len(self.prompts), PART)


def unit_of(arm: str, wave: int, start: int) -> str:
    return f"{arm}-{wave}-{start:04}"


def _digest(words: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


# --- asking ---


def some_prompts(files: Sequence[Path], count: int) -> tuple[Prompt, ...]:
    """The same number from each file, where it has so many."""
    return collect(Prompts(sources=[Source(path=path) for path in files], sample=count), SEED, Silent()).prompts


def default_files() -> list[Path]:
    files = [ROOT / "data" / "prompts" / f"{name}.jsonl" for name in FILES]
    return [*files, SHARED] if SHARED.exists() else files


async def ask_everything(prompts: Sequence[Prompt], kept: Kept, console: Console) -> None:
    """What is not in the folder yet."""
    async with served(console, Machine(engine_args=["--block-size", str(kept.block_size)])) as server:
        if not kept.answers.exists():
            console.print("answering")
            write_part(kept.answers, Table.ROLLOUTS, await answers(prompts, server, kept))
        found = cases(prompts, read_part(kept.answers, Rollout))
        for arm in JURIES:
            console.print(f"judging: {arm}")
            await judge(found, arm, server, kept)


async def answers(prompts: Sequence[Prompt], server: Served, kept: Kept) -> list[Rollout]:
    planned = [one for prompt in prompts for one in plan(prompt, ROLLOUTS, SEED, 0)]
    desk = Desk(Journal(kept.root / "answers.jsonl"), lambda: None)
    return await roll_out(planned, Policy(server.engine, DEFAULT_MODEL, "shipped"), desk)


async def judge(found: Sequence[Case], arm: str, server: Served, kept: Kept) -> None:
    """Wave by wave, as a run hears its jury."""
    court, replies = court_of(JURIES[arm]), dict[str, Completion]()
    for number, wave in enumerate(waves(court.jury)):
        seats = [Seat(court.judges[seat], server.engine) for seat in wave]
        for start in kept.parts():
            unit = unit_of(arm, number, start)
            if not kept.counters(unit).exists():
                counted = await hear_unit(
                    found[start : start + PART], seats, court, server, kept.journal(unit), replies
                )
                write_text(kept.counters(unit), json.dumps(asdict(counted)))
            replies |= Journal(kept.journal(unit)).kept
        court = after_wave(court, wave, found, replies)


async def hear_unit(
    found: Sequence[Case], seats: Sequence[Seat], court: Court, server: Served, path: Path, replies: Replies
) -> Counters:
    """`replies`: of the earlier waves, which say whom a cascade still asks about."""
    path.unlink(missing_ok=True)
    journal = Journal(path)
    journal.kept |= replies
    await server.reset()
    before = await server.counters()
    await hear(found, seats, court, Desk(journal, lambda: None))
    return (await server.counters()).since(before)


# --- figures ---


def arm_figures(found: Sequence[Case], arm: str, kept: Kept) -> dict[str, float]:
    """A prompt's mean of everything; `readable`: the share of the judged answers that have a score."""
    counted, replies = kept.counted(arm), kept.replies(arm)
    court = replayed(JURIES[arm], found, replies)
    verdicts = [verdict for case in found for verdict in all_verdicts(case, court, replies)]
    asked = [one for one in verdicts if not one.status.startswith("skipped") and one.status != VerdictStatus.NOT_ASKED]
    each = {
        "calls": counted.calls,
        "prompt_tokens": counted.prompt_tokens,
        "prefilled": counted.prefilled,
        "generated": counted.completion_tokens,
    }
    figures = {name: round(value / len(found), 2) for name, value in each.items()}
    return figures | {"readable": round(sum(one.status == VerdictStatus.OK for one in asked) / max(1, len(asked)), 3)}


def arms_table(figures: dict[str, dict[str, float]]) -> Grid:
    shown = Grid(title="A jury of three, by protocol; means of a prompt", title_justify="left")
    shown.add_column("protocol")
    for title in ("calls", "of pointwise", "prompt tokens", "prefilled", "of listwise", "generated", "readable"):
        shown.add_column(title, justify="right")
    for arm, own in figures.items():
        calls_share = own["calls"] / figures["pointwise"]["calls"]
        prefill_share = own["prefilled"] / figures["listwise"]["prefilled"]
        numbers = (f"{own['prompt_tokens']:.0f}", f"{own['prefilled']:.0f}", f"{prefill_share:.2f}")
        rest = (f"{own['generated']:.1f}", f"{own['readable']:.1%}")
        shown.add_row(arm, f"{own['calls']:.2f}", f"{calls_share:.0%}", *numbers, *rest)
    return shown


def agreement_table(rows: Sequence[tuple[str, Agreement]], title: str) -> Grid:
    shown = Grid(title=f"{title}: the same outcome as the pointwise jury", title_justify="left")
    shown.add_column("")
    for title in ("calls", "of all prompts (95%)", "of those with a pair (95%)"):
        shown.add_column(title, justify="right")
    for name, one in rows:
        all_of = _share(one.same, one.prompts)
        shown.add_row(name, f"{one.calls / max(1, one.full_calls):.1%}", all_of, _share(one.same_pairs, one.pairs))
    return shown


def _share(hits: int, trials: int) -> str:
    low, high = wilson(hits, trials)
    return f"{hits} of {trials} = {hits / max(1, trials):.1%} ({low:.1%}-{high:.1%})"


def answer_figures(found: Sequence[Case]) -> dict[str, float]:
    """What was judged: how many answers of a prompt, and how long they are."""
    judged = [rollout for case in found for rollout in case.judged]
    tokens = [len(rollout.token_ids) for rollout in judged if rollout.token_ids is not None]
    return {
        "prompts": len(found),
        "judged": round(len(judged) / len(found), 2),
        "answer_tokens": round(sum(tokens) / max(1, len(tokens)), 1),
    }


async def main(options: argparse.Namespace) -> None:
    said, console = Console(stderr=True), Console(width=140)
    prompts = some_prompts(options.prompts or default_files(), 12 if options.quick else options.count)
    kept = Kept(options.cache, tuple(prompt.prompt_id for prompt in prompts), options.block_size)
    if not kept.whole():
        await ask_everything(prompts, kept, said)
    found = cases(prompts, read_part(kept.answers, Rollout))
    made_of, arms = answer_figures(found), {arm: arm_figures(found, arm, kept) for arm in JURIES}
    console.print(
        f"{made_of['prompts']} prompts, {made_of['judged']} judged answers each, {made_of['answer_tokens']} tokens long"
    )
    console.print(arms_table(arms))
    first, second = kept.replies("pointwise"), kept.replies("cascade")
    heard, noise = beside(POINTWISE, JURIES["cascade"], found, first, second), moved(POINTWISE, found, first, second)
    console.print(agreement_table(list(heard.items()), f"As they were heard; margin {Cascade().margin:g}"))
    console.print(f"A grade that is asked for again moves by {noise:.2f} of its judge's within-prompt SD")
    others = curve(POINTWISE, [Cascade(margin=margin) for margin in MARGINS], found, first)
    replay = {f"{margin:g}": one for margin, one in zip(MARGINS, others, strict=True)}
    console.print(agreement_table(list(replay.items()), "The cascade by its margin, replayed on the pointwise replies"))
    document = {"model": DEFAULT_MODEL, "answers": made_of, "arms": arms, "moved": round(noise, 3)}
    document |= {"heard": {name: one.figures() for name, one in heard.items()}}
    document |= {"replayed": {name: one.figures() for name, one in replay.items()}}
    print(json.dumps(document))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.jury_cost", description="What a jury costs by protocol."
    )
    parser.add_argument("--quick", action="store_true", help="12 prompts")
    parser.add_argument("--count", type=int, default=84, metavar="N", help="so many prompts, alike from each file")
    parser.add_argument("--prompts", type=Path, nargs="+", metavar="FILE", help="in the place of the shipped ones")
    parser.add_argument("--cache", type=Path, default=cache_folder() / "jury_cost", metavar="FOLDER")
    blocks = "tokens in a block of the prefix cache; multiples of 32 on a CPU, where vLLM takes 128 unasked"
    parser.add_argument("--block-size", type=int, default=32, metavar="N", help=blocks)
    asyncio.run(main(parser.parse_args()))
