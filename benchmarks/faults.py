"""What a whole run makes of a server that misbehaves: every fault alone, and all of them together.

    python -m benchmarks.faults            40 prompts, each fault of the list alone, then all of them mixed
    python -m benchmarks.faults --quick    12 prompts, four faults and the mix: under a minute

A run of rollouts, three judges and pairs goes against a server of the tests that says the same to the same question, so that
all its rows can be held against those of a run that nothing disturbed. Of all attempts 20% meet a fault, drawn by the
question and by how often it was asked. Time limits are short here, so that silence costs seconds and not minutes; and a
server that meets every sixth attempt or so with a broken answer is a harder one than anybody has.

A row is wrong where it is there and is not the row of the undisturbed run; a verdict that did not come is a row with a
status and no score (`unscored`). One kind of fault is nobody's to see: a finish reason that no server gives, on an answer
that is right. It is stored as it came, which is counted apart (`renamed`), and such an answer is never chosen. Pairs are
compared where everything before them is what it was. The last line of the output is one JSON object.
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table as Shown

from factory.client.asking import RETRIES
from factory.ledger.identity import Stage
from factory.run import RunFolder
from flows.cli import main as prefactory
from schemas.rows import Dropped, Pair, Prompt, Rollout, Verdict
from tests.fake_engine import FAULTS, Served, in_a_process

SHARE = 0.2
SLOTS = 6
QUICK = ("500", "reset during", "silence", "wrong model")
MIXED, UNDISTURBED = "all mixed", "undisturbed"
UNSEEN = ("timeout", "cut_off", "unreached")  # attempts that met these may never have reached the server
SECONDS = 1.0  # for a whole answer


@dataclass(frozen=True, slots=True)
class Rows:
    """What a run left, by id."""

    prompts: frozenset[str]
    rollouts: Mapping[str, Rollout]
    verdicts: Mapping[tuple[str, str], Verdict]
    pairs: Mapping[str, Pair]
    dropped: Mapping[str, Dropped]
    attempts: int  # as the records count them
    retries: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Ended:
    """One run before a server with one kind of fault."""

    fault: str
    code: int  # the command's exit code
    seconds: float
    prompts: int
    pairs: int
    dropped: int
    rollouts: int
    errors: int  # rollouts that have an error and no text
    wrong_rollouts: int
    renamed: int  # rollouts that are right but for the finish reason, as the server gave it
    unscored: int  # verdicts without the score that they had
    wrong_verdicts: int
    wrong_pairs: int
    attempts: int  # as the server counts them
    attempts_recorded: int  # and the run; one that was given up before the server saw it is in these alone
    dealt: int
    retries: dict[str, int]

    @property
    def accounted(self) -> bool:
        return self.prompts == self.pairs + self.dropped and self.rollouts == self.prompts * SLOTS

    @property
    def fine(self) -> bool:
        return self.code == 0 and self.accounted and not self.wrong and self.counted

    @property
    def wrong(self) -> int:
        return self.wrong_rollouts + self.wrong_verdicts + self.wrong_pairs

    @property
    def counted(self) -> bool:
        """Every attempt that the server saw is in the records, and no others but those that may not have come so far."""
        unseen = sum(times for kind, times in self.retries.items() if kind in UNSEEN)
        return self.attempts <= self.attempts_recorded <= self.attempts + unseen


def recipe_file(folder: Path, url: str, prompts: int) -> Path:
    rows = [{"prompt": f"Write a sentence about number {number}."} for number in range(prompts)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    judges = [{"judge": judge} for judge in ("helpfulness", "correctness", "clarity")]
    document = {
        "name": "faults",
        "prompts": {"sources": [{"path": "prompts.jsonl"}]},
        "policy": {"model": "fake-model", "urls": [url]},
        "rollouts": {"max_tokens": 120},
        "jury": {"judges": judges, "trust": {"canaries": 0, "reasked": 0}},
        "machine": {
            "runs": str(folder / "runs"),
            "shard_size": 16,
            "concurrency": 64,
            "request_timeout": SECONDS,
        },
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def run(recipe: Path) -> int:
    """The command line, in this process."""
    said = io.StringIO()
    before, sys.argv = sys.argv, ["prefactory", "run", str(recipe), "--plain"]
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            prefactory()
    except SystemExit as end:
        if end.code:
            sys.stderr.write(said.getvalue())
        return int(end.code or 0)
    finally:
        sys.argv = before
    return 0


def rows_of(run: RunFolder) -> Rows:
    shards = range(run.shards())
    records = [run.record(stage, shard) for stage in (Stage.ROLLOUTS, Stage.VERDICTS) for shard in shards]
    notes = Counter[str]()
    for record in records:
        for name, value in (record.notes if record else {}).items():
            if name == "attempts" or name.startswith(RETRIES):
                notes[name] += int(value)
    return Rows(
        prompts=frozenset(row.prompt_id for shard in shards for row in run.read_rows(Prompt, shard)),
        rollouts={row.rollout_id: row for shard in shards for row in run.read_rows(Rollout, shard)},
        verdicts={(row.rollout_id, row.judge): row for shard in shards for row in run.read_rows(Verdict, shard)},
        pairs={row.prompt_id: row for shard in shards for row in run.read_rows(Pair, shard)},
        dropped={row.prompt_id: row for shard in shards for row in run.read_rows(Dropped, shard)},
        attempts=notes.pop("attempts", 0),
        retries={name.removeprefix(RETRIES): times for name, times in notes.items()},
    )


def said(row: Rollout) -> Rollout:
    """The row without its finish reason and without what the detector makes of it: an answer that the engine stopped for its
    repetition is a loop, and one that ended for a reason of nobody's is looked at for itself.
    """
    return replace(
        row,
        finish_reason=None,
        loop=None,
        loop_rule=None,
        loop_onset=None,
        loop_onset_token=None,
        loop_period=None,
        loop_repeats=None,
        loop_share=None,
    )


def wrong_rollouts(found: Rows, right: Rows) -> tuple[int, int]:
    """Those that are there and are not the undisturbed run's; and those that are, but for the finish reason."""
    wrong = renamed = 0
    for name, row in found.rollouts.items():
        if row.error is not None or row == right.rollouts[name]:
            continue
        was = right.rollouts[name]
        as_it_was = row.finish_reason == "banana" and said(row) == said(was)
        renamed, wrong = renamed + as_it_was, wrong + (not as_it_was)
    return wrong, renamed


def held_against(found: Rows, right: Rows, fault: str, code: int, seconds: float, served: Served) -> Ended:
    """`changed`: prompts with an answer that is not as it was, an error for example; they may be judged otherwise."""
    wrong, renamed = wrong_rollouts(found, right)
    changed = {row.prompt_id for name, row in found.rollouts.items() if row != right.rollouts[name]}
    judged = [(key, row) for key, row in found.verdicts.items() if row.prompt_id not in changed]
    unscored = sum(row.score is None and right.verdicts[key].score is not None for key, row in judged)
    verdicts = sum(row.score is not None and row != right.verdicts[key] for key, row in judged)
    whole = not changed and not unscored  # the pooled spreads go over all prompts
    pairs = sum(row != right.pairs.get(key) for key, row in found.pairs.items()) if whole else 0
    done = served.done()
    return Ended(
        fault=fault,
        code=code,
        seconds=round(seconds, 1),
        prompts=len(found.prompts),
        pairs=len(found.pairs),
        dropped=len(found.dropped),
        rollouts=len(found.rollouts),
        errors=sum(row.error is not None for row in found.rollouts.values()),
        wrong_rollouts=wrong,
        renamed=renamed,
        unscored=unscored,
        wrong_verdicts=verdicts,
        wrong_pairs=pairs,
        attempts=done.asked,
        attempts_recorded=found.attempts,
        dealt=sum(done.dealt.values()),
        retries=dict(found.retries),
    )


def measure(fault: str, names: Sequence[str], prompts: int, right: Rows | None) -> tuple[Ended, Rows]:
    options = ["--faults", *names, "--share", str(SHARE)] if names else []
    with tempfile.TemporaryDirectory(prefix="prefactory-faults-") as scratch, in_a_process(*options) as served:
        began = time.perf_counter()
        code = run(recipe_file(Path(scratch), served.url, prompts))
        seconds = time.perf_counter() - began
        found = rows_of(RunFolder(Path(scratch) / "runs" / "faults"))
        return held_against(found, right or found, fault, code, seconds, served), found


def table(rows: Sequence[Ended]) -> Shown:
    titles = (
        "fault",
        "exit",
        "s",
        "pairs + dropped",
        "rollouts",
        "errors",
        "wrong",
        "renamed",
        "unscored",
        "attempts",
        "dealt",
        "met",
    )
    shown = Shown(*titles, title=f"Whole runs with {SHARE:.0%} of the attempts disturbed")
    for row in rows:
        counted = (
            f"{row.attempts}"
            if row.attempts == row.attempts_recorded
            else f"{row.attempts_recorded}, {row.attempts} seen"
        )
        met = ", ".join(f"{kind} {times}" for kind, times in sorted(row.retries.items()))
        cells = (row.fault, row.code, row.seconds, f"{row.pairs} + {row.dropped} of {row.prompts}", row.rollouts)
        shown.add_row(*map(str, (*cells, row.errors, row.wrong, row.renamed, row.unscored, counted, row.dealt, met)))
    return shown


def figures(rows: Sequence[Ended]) -> dict[str, object]:
    return {
        "share": SHARE,
        "rows": [asdict(row) | {"fine": row.fine} for row in rows],
        "runs": len(rows),
        "ended": sum(row.code == 0 for row in rows),
        "accounted": all(row.accounted for row in rows),
        "wrong": sum(row.wrong for row in rows),
        "unscored": sum(row.unscored for row in rows),
        "errors": sum(row.errors for row in rows),
        "fine": all(row.fine for row in rows),
    }


def main(options: argparse.Namespace) -> None:
    console, prompts = Console(stderr=True), 12 if options.quick else 40
    first, right = measure(UNDISTURBED, (), prompts, None)
    rows = [first]
    alone = QUICK if options.quick else tuple(FAULTS)
    for fault, names in [*((name, (name,)) for name in alone), (MIXED, tuple(FAULTS))]:
        rows.append(measure(fault, names, prompts, right)[0])
        console.print(f"{fault}: {'fine' if rows[-1].fine else 'not fine'} after {rows[-1].seconds} s")
    Console(width=170).print(table(rows))
    print(json.dumps(figures(rows)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults", description="Runs before a misbehaving server."
    )
    parser.add_argument("--quick", action="store_true", help="fewer prompts and faults: under a minute")
    main(parser.parse_args())
