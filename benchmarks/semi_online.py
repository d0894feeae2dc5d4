"""Does the recipe do what it is for? Rounds on the shipped model, beside trainings that leave one of its parts out.

    python -m benchmarks.semi_online                    three rounds of recipes/semi_online.yaml, and four trainings beside them
    python -m benchmarks.semi_online --quick            at toy length, under twenty minutes: it shows that it runs, no more
    python -m benchmarks.semi_online --folder FOLDER    where the runs are made, and gone on with (runs/benchmark-semi_online)
    python -m benchmarks.semi_online --rounds 1         so many rounds; the figures go to files of their own
    python -m benchmarks.semi_online --beside SFT       of the four trainings only these; with no name, none

The held-out prompts are those of data/evaluation, fixed beforehand and never trained on. Beside the rounds stand, each trained
from the base on the answers and verdicts of round 0:

- `plain DPO`: log-ratios summed, not divided by the length of the answer;
- `SFT`: cross-entropy on the chosen answers, the control;
- `untrimmed`: rejected loops in their whole length;
- `loops left out`: no pair is made by a loop, as if loops were not forced to be rejected. A judge never reads a loop, so that
  nobody can say where the jury would have put them. Fewer pairs are left, so that the guard against few is let down.

Everything is done by the commands that a user has, each of which goes on where it was stopped, so that this does too. The
figures go to benchmarks/results/semi_online.json (quick ones to the folder), and the plot beside them. The last line of the
output is one JSON object.

The rule that its reader must not break: a rate means something only beside its cap and its interval, and a checkpoint that a
gate held back is in the table like any other.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import packages_distributions, version
from pathlib import Path

import yaml
from rich.console import Console

from benchmarks.semi_online_table import Document, kinds_table, loops_table, plot, price_table, row_of

HERE = Path(__file__).parent
ROOT = HERE.parent
RECIPE = ROOT / "recipes" / "semi_online.yaml"
RESULTS = HERE / "results"
RUN = "rounds"
EVERY_PERIOD, NEXT_TO_NONE = 10**6, 1e-9
VERSIONED = ("vllm", "torch", "transformers", "trl", "peft", "accelerate")

SMALL_STEPS: Document = {"batch_size": 1, "gradient_accumulation": 4}  # half the memory at the same pace, on a CPU
TOY: Document = {
    "prompts": {"sample": 20},
    "rollouts": {"max_tokens": 96},
    "train": {"max_steps": 2, "epochs": None, "warmup": 0, "guards": {"min_pairs": 4}},
    # Sixteen prompts say nothing, so that no gate is asked.
    "evaluation": {
        "sample": 16,
        "max_tokens": [64, 160],
        "judged": False,
        "bounds": dict.fromkeys(("loops", "sampled_loops", "accuracy", "win_rate", "perplexity", "distinct")),
    },
    "semi_online": {"rounds": 2, "on_tripped": "stop"},
}


@dataclass(frozen=True, slots=True)
class Beside:
    """A training beside the rounds. `pairs`: what its pairs are made by instead, if by anything else."""

    name: str
    train: Mapping[str, object]
    pairs: Mapping[str, object] | None = None


BESIDE = (
    Beside("plain DPO", {"loss": "sigmoid"}),
    Beside("SFT", {"loss": "sft"}),
    Beside("untrimmed", {}, {"keep_periods": EVERY_PERIOD}),
    Beside("loops left out", {"guards": {"min_pairs": 4}}, {"loop_share": NEXT_TO_NONE}),
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A row of the table: its name here, and where it lies. `promoted` is None for what no gate was asked about."""

    name: str
    folder: str
    digest: str
    promoted: bool | None = None


def merged(document: Mapping[str, object], changes: Mapping[str, object]) -> Document:
    """`changes` into `document`, section by section."""
    found = dict(document)
    for name, value in changes.items():
        before = found.get(name)
        if isinstance(value, Mapping):
            found[name] = merged(before if isinstance(before, Mapping) else {}, value)
        else:
            found[name] = value
    return found


def settings(*, quick: bool, rounds: int | None = None) -> Document:
    """The shipped recipe with what is changed in it here. `rounds`: None for its own number."""
    document = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    own = {
        "name": RUN,
        "export": {"formats": ["trl-tokens"]},
        "train": SMALL_STEPS,
        # The gates ask every held-out prompt, so that the table at the end is made of the same answers.
        "evaluation": {"sample": None},
    }
    whole = merged(merged(document, own), TOY if quick else {})
    return whole if rounds is None else merged(whole, {"semi_online": {"rounds": rounds}})


def recipe_of(folder: Path, *, quick: bool, rounds: int | None = None) -> Document:
    """`settings` with the paths made absolute, for runs below `folder`."""
    document = merged(settings(quick=quick, rounds=rounds), {"machine": {"runs": str(folder)}})
    prompts = document["prompts"]
    assert isinstance(prompts, dict)
    for source in prompts["sources"]:
        source["path"] = str((RECIPE.parent / source["path"]).resolve())
    prompts["decontaminate"]["paths"] = [
        str((RECIPE.parent / path).resolve()) for path in prompts["decontaminate"]["paths"]
    ]
    return document


def made_by() -> Document:
    """What else decides the figures, beside the recipe."""
    packages = packages_distributions()  # vLLM's CPU build is called otherwise
    found = {name: version(packages[name][0]) for name in VERSIONED if name in packages}
    return {"versions": found, "cpus": os.cpu_count(), "machine": platform.machine()}


@dataclass(frozen=True, slots=True)
class Stand:
    """Where everything is done, and how it is said."""

    folder: Path
    recipe: Document
    console: Console

    @property
    def run(self) -> Path:
        return self.folder / RUN

    def written(self, name: str, document: Document) -> Path:
        path = self.folder / f"{name.replace(' ', '-')}.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        return path

    def command(self, *words: object, may_end: Sequence[int] = (0,)) -> str:
        """What it printed. Ends the benchmark where it ends in another way; its progress goes to the terminal.

        A command that ends with 2 and has said nothing was refused, and came to no outcome that could be told.
        """
        line = [sys.executable, "-m", "flows.cli", *map(str, words)]
        self.console.print("$ prefactory", *map(str, words), markup=False, highlight=False)
        ended = subprocess.run(line, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        if ended.returncode not in may_end or (ended.returncode and not ended.stdout.strip()):
            sys.exit(f"prefactory {words[0]} ended with {ended.returncode}; the reason stands above")
        return ended.stdout

    def rounds(self) -> tuple[Document, list[Checkpoint]]:
        """The story of the rounds, and a checkpoint for each: the promoted one, or the last that was held back."""
        path = self.written(RUN, self.recipe)
        story: Document = json.loads(self.command("semi-online", path, "--plain", "--json", may_end=(0, 2)))
        found = []
        made = story["rounds"]
        assert isinstance(made, list)
        for one in made:
            last = one["attempts"][-1]
            if last["candidate"] is not None:
                folder, promoted = str(self.run / last["folder"]), one["promoted"] is not None
                found.append(Checkpoint(f"round {one['round']}", folder, last["candidate"], promoted))
        return story, found

    def beside(self, one: Beside) -> Checkpoint | None:
        """Train on round 0 in another way. None where a guard of the trainer stopped it, which says why by itself."""
        run = self.run if one.pairs is None else self._paired_anew(one)
        changed = merged(self.recipe, {"train": one.train})
        name = one.name.replace(" ", "-").lower()
        words = ("train", run, "--recipe", self.written(name, changed), "--name", name, "--json")
        made = json.loads(self.command(*words, may_end=(0, 2)))
        if made["status"] == "tripped":
            return None
        return Checkpoint(one.name, str(Path(made["folder"]) / "checkpoint"), made["digest"])

    def _paired_anew(self, one: Beside) -> Path:
        """A copy of round 0 with other pairs: they need no model."""
        name = one.name.replace(" ", "-")
        run = self.folder / name
        if not run.exists():
            building = self.folder / f".{name}.copying"
            shutil.rmtree(building, ignore_errors=True)
            shutil.copytree(self.run, building, ignore=_all_but_round_0)
            building.rename(run)
        path = self.written(name, merged(self.recipe, {"name": name, "pairing": one.pairs, "semi_online": None}))
        self.command("pair", path)
        self.command("export", path)
        return run

    def evaluated(self, checkpoints: Sequence[Checkpoint]) -> Document:
        """All of them against the base. Each that was asked before is not asked again."""
        path = self.written(RUN, self.recipe)
        folders = [one.folder for one in checkpoints]
        policy = self.recipe["policy"]
        assert isinstance(policy, dict)
        found: Document = json.loads(self.command("evaluate", path, policy["model"], *folders, "--json"))
        return found


def _all_but_round_0(folder: str, names: list[str]) -> list[str]:
    """What of a run has no part in round 0's verdicts."""
    own = ("train", "evaluation", "export", "semi_online.json", "catalog.duckdb", ".lock", "logs")
    if Path(folder).name != RUN:
        return []
    return [name for name in names if name in own or (name.startswith("round=") and name != "round=0")]


def without_twins(checkpoints: Sequence[Checkpoint]) -> tuple[list[Checkpoint], dict[str, str]]:
    """Those whose weights differ, and for each other one whom it equals: where nothing looped there is nothing to trim."""
    first: dict[str, Checkpoint] = {}
    for one in checkpoints:
        first.setdefault(one.digest, one)
    twins = {one.name: first[one.digest].name for one in checkpoints if first[one.digest] is not one}
    return list(first.values()), twins


def rows_of(checkpoints: Sequence[Checkpoint], report: Mapping[str, object]) -> list[Document]:
    figures, against = report["figures"], report["against"]
    assert isinstance(figures, list)
    assert isinstance(against, list)
    base = row_of("base", None, figures[0], None)
    return [base] + [
        row_of(one.name, one.promoted, own, other)
        for one, own, other in zip(checkpoints, figures[1:], against, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Found:
    rows: list[Document]
    twins: dict[str, str]  # trainings that came to the weights of another
    stopped: list[str]  # trainings that a guard stopped
    story: Document


def measure(stand: Stand, wanted: Sequence[str]) -> Found:
    story, rounds = stand.rounds()
    beside = {one.name: stand.beside(one) for one in BESIDE if one.name in wanted}
    kept, twins = without_twins([*rounds, *(one for one in beside.values() if one is not None)])
    rows = rows_of(kept, stand.evaluated(kept))
    return Found(rows, twins, [name for name, one in beside.items() if one is None], story)


def show(found: Found) -> None:
    console = Console(width=160)
    console.print(loops_table(found.rows))
    console.print(kinds_table(found.rows))
    console.print(price_table(found.rows))
    for name, other in found.twins.items():
        print(f"{name}: the same weights as {other}")
    for name in found.stopped:
        print(f"{name}: a guard stopped its training")
    for row in found.rows:
        tripped = row["tripped"]
        assert isinstance(tripped, list)
        for why in tripped:
            print(f"{row['checkpoint']}: this gate does not hold against the base: {why['bound']}: {why['why']}")


def main(options: argparse.Namespace) -> None:
    began = time.monotonic()
    name = "semi_online" if options.rounds is None else f"semi_online-rounds-{options.rounds}"
    default = ROOT / "runs" / f"benchmark-{name}{'-quick' if options.quick else ''}"
    folder = (options.folder or default).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    stand = Stand(folder, recipe_of(folder, quick=options.quick, rounds=options.rounds), Console(stderr=True))
    found = measure(stand, options.beside)
    results = folder if options.quick else RESULTS
    results.mkdir(exist_ok=True)
    whole = asdict(found) | {
        "quick": options.quick,
        "recipe": settings(quick=options.quick, rounds=options.rounds),
        "made_by": made_by(),
        "seconds_of_this_start": round(time.monotonic() - began),
    }
    (results / f"{name}.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    plot(found.rows, results / f"{name}.png")
    show(found)
    print(json.dumps({key: value for key, value in whole.items() if key not in ("story", "recipe")}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.semi_online", description="What each part is worth.")
    parser.add_argument("--quick", action="store_true", help="toy length, under twenty minutes")
    parser.add_argument("--folder", type=Path, help="where the runs are made, and gone on with")
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="other than the recipe's; their figures have files of their own"
    )
    names = [one.name for one in BESIDE]
    parser.add_argument(
        "--beside", nargs="*", choices=names, default=names, metavar="NAME", help=f"of {', '.join(names)}; all of them"
    )
    main(parser.parse_args())
