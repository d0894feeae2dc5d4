"""A synthetic run folder of any size, as a finished run leaves it up to the verdicts: parts, records, fingerprints.

Texts come from a pool of answers whose loops the detector itself has found, with a part of their own at the end that makes
each another text; scores are drawn around a mark of the answer's. The rule that its reader must not break: every part is
written through RunFolder and every record through Work.close, so that whatever reads a run takes this one for a run.
"""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from factory.judging.canaries import least_lot
from factory.judging.candidates import candidates, skipped_verdicts
from factory.ledger.identity import Stage
from factory.loops import detect
from factory.opening import Opened, open_run
from factory.progress import Silent
from factory.recipes.recipe_file import read_recipe
from factory.rollouts import seed_of, slots
from factory.run import RunFolder, run_folder
from factory.shards import LOT
from factory.work import Work, now
from schemas.chat import Message, Role
from schemas.manifest import PartFile
from schemas.recipe import Recipe
from schemas.rows import LoopEvidence, Prompt, Rollout, Verdict, VerdictStatus
from schemas.tables import Table

_WORDS = """
rain falls on old roofs while some quiet people walk home under grey clouds and others wait near a small red door until
morning light shows every stone river bridge tree field hill road lamp window garden wall boat bird cat therefore because
between number answer question first second third result total price energy water history system
"""
WORDS = tuple(_WORDS.split())
POOL, LOOPING = 4000, 0.06  # answers that texts are made from, and the share of them that are loops
MEAN_WORDS, CAP = 220, 512  # of an answer: about 1,200 characters and 300 tokens
TOKENS_A_WORD = 1.35


@dataclass(frozen=True, slots=True)
class Pooled:
    """An answer as it is written again and again, with other last words."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    evidence: LoopEvidence


def pool(draw: random.Random, size: int) -> list[Pooled]:
    return [_loop(draw) if draw.random() < LOOPING else _answer(draw) for _ in range(size)]


def _sentence(draw: random.Random, words: int) -> str:
    return " ".join(draw.choices(WORDS, k=words)).capitalize() + "."


def _answer(draw: random.Random) -> Pooled:
    words = max(8, min(CAP, round(draw.gammavariate(2.2, MEAN_WORDS / 2.2))))
    text = " ".join(_sentence(draw, min(17, words - start)) for start in range(0, words, 17))
    ids = tuple(draw.randrange(50_000) for _ in range(round(words * TOKENS_A_WORD)))
    return Pooled(text, ids, "stop" if draw.random() < 0.97 else "length", LoopEvidence())


def _loop(draw: random.Random) -> Pooled:
    unit, start = _sentence(draw, 9) + " ", _sentence(draw, 30) + " "
    text = start + unit * 40
    ids = tuple(draw.randrange(50_000) for _ in range(40)) + tuple(range(12)) * 40
    return Pooled(text, ids, "length", detect(text, "length", token_ids=ids))


def recipe_file(folder: Path, prompts: int, shard_size: int, url: str) -> Path:
    """The recipe, and the source that its prompts are said to come from."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "prompts.jsonl").open("w", encoding="utf-8") as file:
        for number in range(prompts):
            file.write(f'{{"prompt": "Question {number}"}}\n')
    document = {
        "name": "scale",
        "prompts": {"sources": [{"path": "prompts.jsonl"}]},
        "policy": {"model": "synthetic", "urls": [url]},
        "jury": {"judges": [{"judge": name} for name in ("helpfulness", "correctness", "clarity")]},
        "machine": {"runs": str(folder / "runs"), "shard_size": shard_size, "request_timeout": 5},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path


def write_folder(path: Path, prompts: int) -> Iterator[int]:
    """The run of the recipe at `path`, shard by shard; yields the prompts that are written so far."""
    recipe = read_recipe(path)
    with RunFolder(run_folder(recipe)).locked():
        opened = open_run(recipe, Silent())
        draw = random.Random(recipe.seed)
        answers, size = pool(draw, POOL), recipe.machine.shard_size
        shards = [range(start, min(prompts, start + size)) for start in range(0, prompts, size)]
        _write_prompts(opened.work, shards)
        for shard, numbers in enumerate(shards):
            _write_shard(opened, shard, [_prompt(number) for number in numbers], answers, draw)
            yield numbers.stop


def _prompt(number: int) -> Prompt:
    prompt_id = hashlib.sha256(f"scale {number}".encode()).hexdigest()[:32]
    draw = random.Random(number)
    asked = f"Question {number}: {_sentence(draw, 12 + number % 40)}"
    return Prompt(prompt_id, "prompts", (Message(Role.USER, asked),), language="en")


def _write_prompts(work: Work, shards: list[range]) -> None:
    began, outputs = now(), list[PartFile]()
    ids: list[str] = []
    for shard, numbers in enumerate(shards):
        rows = [_prompt(number) for number in numbers]
        ids += [row.prompt_id for row in rows]
        outputs.append(work.run.write_part(Table.PROMPTS, shard, rows))
    lots = {f"{LOT}{purpose}": least_lot(ids, purpose) for purpose in ("canaries", "reasked")}
    work.close(Stage.PROMPTS, 0, began, outputs, notes=lots)


def _write_shard(opened: Opened, shard: int, prompts: list[Prompt], answers: list[Pooled], draw: random.Random) -> None:
    work, began = opened.work, now()
    rows = [row for prompt in prompts for row in _rollouts(work.recipe, prompt, answers, draw)]
    part = work.run.write_part(Table.ROLLOUTS, shard, rows)
    judged = len(rows) - sum(row.loop == "hard" for row in rows)
    work.close(Stage.ROLLOUTS, shard, began, [part], requests=len(rows), notes={"hard_loops": 0, "to_judge": judged})
    by_id: dict[str, list[Rollout]] = {}
    for row in rows:
        by_id.setdefault(row.prompt_id, []).append(row)
    verdicts = [one for own in by_id.values() for one in _verdicts(work.recipe.jury.seats, own, draw)]
    outputs = [
        work.run.write_part(Table.VERDICTS, shard, verdicts),
        work.run.write_part(Table.CANARIES, shard, []),
        work.run.write_part(Table.REASKED, shard, []),
    ]
    work.close(Stage.VERDICTS, shard, began, outputs, requests=len(verdicts))


def _rollouts(recipe: Recipe, prompt: Prompt, answers: list[Pooled], draw: random.Random) -> Iterator[Rollout]:
    asked = tuple(draw.randrange(50_000) for _ in range(60))
    for slot, decoding in slots(recipe.rollouts):
        one = answers[draw.randrange(len(answers))]
        own = "" if one.evidence.rule else f" {draw.getrandbits(60):x}"
        found = one.evidence
        yield Rollout(
            rollout_id=f"{prompt.prompt_id}:0:{slot}",
            prompt_id=prompt.prompt_id,
            slot=slot,
            temperature=decoding.temperature or 0.0,
            top_p=1.0,
            min_p=0.0,
            seed=seed_of(recipe.seed, 0, prompt.prompt_id, slot),
            model=recipe.policy.model,
            model_digest="remote:synthetic",
            text=one.text + own,
            reasoning=None,
            finish_reason=one.finish_reason,
            prompt_token_ids=asked,
            token_ids=one.token_ids,
            loop=found.kind,
            loop_rule=found.rule,
            loop_onset=found.onset,
            loop_onset_token=found.onset_token,
            loop_period=found.period,
            loop_repeats=found.repeats,
            loop_share=found.share,
        )


def _verdicts(seats: tuple[str, ...], rollouts: list[Rollout], draw: random.Random) -> Iterator[Verdict]:
    judged = candidates(rollouts).judged
    for rollout in judged:
        mark = draw.uniform(2.0, 8.0)
        for seat in seats:
            score = min(9.0, max(1.0, draw.gauss(mark, 0.8)))
            yield Verdict(
                rollout.prompt_id, rollout.rollout_id, seat, VerdictStatus.OK, score, 0.5, 0.9, "7", 400, 1, calls=1
            )
    yield from skipped_verdicts(rollouts, seats)
