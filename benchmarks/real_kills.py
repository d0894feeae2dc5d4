"""Runs of the shipped model, each with a vLLM of its own that starts and dies with it, killed while it starts, writes, judges.

The rule that its reader must not break: a model that samples need not say the same again. So the undisturbed run is compared
in its greedy answers alone; of every answer that lay on the disk at a kill, the very text must stand in the finished tables.
Greedy answers are the same again where the engine takes one after the other and each prompt anew: what else is in a batch, or
in its cache, moves the last bits of its numbers, and with them now and then a word. The factory sends several at once all the
same.
"""

import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.engine_cpu import PROMPTS
from benchmarks.kill_points import Event
from benchmarks.killed_run import Life, Point, Scene, live, rows_of
from factory.ledger.journal import Journal
from factory.opening import cache_folder
from factory.rollouts import GREEDY
from factory.run import RunFolder
from factory.serving.models import DEFAULT_MODEL
from schemas.rows import Rollout
from schemas.tables import Table

CONCURRENCY = 8
COUNT, SLOTS = 8, 2  # prompts, and answers of each beside the greedy one
Texts = Mapping[str, str | None]  # of answers, by their ids


@dataclass(frozen=True, slots=True)
class Kept:
    """What the finished tables say of an answer that lay on the disk at a kill, and of the greedy ones."""

    prompts: int
    unaccounted: int  # prompts that are not in exactly one row
    answers: int  # that lay on the disk at a kill
    changed: int  # of those
    greedy: int
    otherwise: int  # of those, not as in the undisturbed run

    @property
    def lost(self) -> int:
        return self.unaccounted + self.changed + self.otherwise

    def text(self) -> str:
        return (
            f"{self.prompts} prompts, {self.unaccounted} not in exactly one row; {self.answers} answers lay on the disk at "
            f"a kill, {self.changed} of them changed; {self.greedy} greedy answers, {self.otherwise} not as undisturbed"
        )


@dataclass(frozen=True, slots=True)
class RealLife:
    """What a real run went through, how often it had to ask each question, and what is left of it."""

    life: Life
    wanted: Counter[str]
    kept: Kept


def write_recipe(folder: Path) -> Path:
    lines = (PROMPTS / "short_answers.jsonl").read_text(encoding="utf-8").splitlines()[:COUNT]
    (folder / "prompts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    document = {
        "name": "killed",
        "prompts": {"sources": [{"path": "prompts.jsonl"}]},
        "policy": {"model": DEFAULT_MODEL},
        "rollouts": {"max_tokens": 24, "slots": [{}] * SLOTS},
        "jury": {"judges": [{"judge": "clarity"}], "trust": {"canaries": 0, "reasked": 0}},
        "pairing": {"margin": 0.0, "agreement": 0.0, "allow_unfinished": True},
        "machine": {
            "runs": str(folder / "runs"),
            "shard_size": 4,
            "concurrency": CONCURRENCY,
            "max_num_seqs": 1,
            "max_model_len": 1024,
            "engine_args": ["--no-enable-prefix-caching"],
        },
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def drawn(chance: random.Random) -> Iterator[Point]:
    """While vLLM starts, or soon after; while answers come; while judges answer."""
    yield Point(Event.SERVER, 1, chance.uniform(0.1, 20))
    yield Point(Event.ANSWER, chance.randint(1, CONCURRENCY), chance.uniform(0, 0.3))
    yield Point(Event.VERDICT, chance.randint(1, CONCURRENCY), chance.uniform(0, 0.3))


def on_disk(root: Path) -> dict[str, str | None]:
    """The text of every rollout in a journal or in a finished part."""
    run = RunFolder(root)
    journals = [Journal(path) for path in root.glob("round=0/_journal/rollouts-*.jsonl")]
    found: dict[str, str | None] = {name: one.text for journal in journals for name, one in journal.kept.items()}
    done = [shard for shard in range(run.shards()) if run.record("rollouts", shard)]
    return found | {row.rollout_id: row.text for shard in done for row in run.read_rows(Rollout, shard)}


def accounted(rows: Mapping[str, Sequence[object]], before: Texts, greedy: Texts) -> Kept:
    """`rows` of a finished run; `before`: what lay on the disk at its kills; `greedy`: of a run in which nothing happened."""
    prompts = _ids(rows[Table.PROMPTS])
    ended = Counter(_ids(rows[Table.PAIRS]) + _ids(rows[Table.DROPPED]))
    texts = texts_of(rows)
    return Kept(
        prompts=len(prompts),
        unaccounted=sum(ended[name] != prompts.count(name) for name in {*prompts, *ended}),
        answers=len(before),
        changed=sum(name not in texts or texts[name] != text for name, text in before.items()),
        greedy=len(greedy),
        otherwise=sum(name not in texts or texts[name] != text for name, text in greedy.items()),
    )


def _ids(rows: Sequence[object]) -> list[str]:
    return [str(getattr(row, "prompt_id")) for row in rows]  # noqa: B009  # of three kinds of rows


def texts_of(rows: Mapping[str, Sequence[object]]) -> dict[str, str | None]:
    return {row.rollout_id: row.text for row in rows[Table.ROLLOUTS] if isinstance(row, Rollout)}


def greedy_of(texts: Texts) -> dict[str, str | None]:
    return {name: text for name, text in texts.items() if name.endswith(f":{GREEDY}")}


def real_runs(count: int, seed: int) -> list[RealLife]:
    """So many runs that are killed, after one that is not."""
    with tempfile.TemporaryDirectory(prefix="kills-") as scratch:
        scene = _scene(Path(scratch) / "undisturbed")
        life = live(scene, ())
        assert life.code == 0, life.said
        greedy = greedy_of(texts_of(rows_of(scene.root / "runs" / "killed")))
        return [_killed(Path(scratch) / str(number), random.Random(seed + number), greedy) for number in range(count)]


def _killed(folder: Path, chance: random.Random, greedy: Texts) -> RealLife:
    scene, before = _scene(folder), dict[str, str | None]()
    root = scene.root / "runs" / "killed"

    def look() -> None:
        for name, text in on_disk(root).items():
            before.setdefault(name, text)  # as it was first

    life = live(scene, drawn(chance), look)
    assert life.code == 0, life.said
    wanted = Counter(dict.fromkeys(life.counts(), 1))
    return RealLife(life, wanted, accounted(rows_of(root), before, greedy))


def _scene(folder: Path) -> Scene:
    """Bytecode lies where a user's own runs have it: to compile all of vLLM anew is no part of what is looked at."""
    folder.mkdir()
    asked = folder / "note.asked"
    return Scene(folder, write_recipe(folder), ("--plain",), asked, cache_folder() / "bytecode")
