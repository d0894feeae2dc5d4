"""Evaluates one checkpoint: asks it the held-out prompts, and keeps its answers in a run folder of its own.

    <RUN>/evaluation/<digest>/            a run up to its verdicts: recipe.yaml, prompts, rollouts, verdicts, spent.json …
    <RUN>/evaluation/<digest>/measured/   rollouts-256.parquet, checks-256.parquet …: the answers as each cap leaves them

Each prompt is answered once for each slot, at the largest cap. What a smaller cap would have left of an answer is its first
token ids, which the server spells: a seeded answer does not know its cap. The rule that must not break: whatever was paid for
is kept in the folder's journals and parts, so that the same call goes on from a kill, and the second one sends nothing.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from factory import shards, store
from factory.client.asking import Desk
from factory.client.breaker import Breaker
from factory.client.gate import Gate
from factory.client.protocol import Ability
from factory.client.spending import Spending
from factory.engine import Engine
from factory.evaluation.comparing import Scores, scores
from factory.evaluation.figures import Passage, Take
from factory.evaluation.recipe import evaluation_recipe, passages_of
from factory.judging.hearing import Court, Seat
from factory.judging.verifying import CheckPool
from factory.keys import key_names
from factory.ledger.identity import Stage
from factory.opening import Opened, cache_folder, open_run
from factory.progress import Progress
from factory.prompts import collect
from factory.rollouts import Policy, split_reasoning, with_loops
from factory.run import RunFolder, run_folder
from factory.serving.engines import EngineRoom, digest_of, refuse_what_is_ignored
from factory.work import Work
from judges.registry import find_verifier
from schemas.chat import Completion, Message, Request, Role, Sampling, Task
from schemas.errors import DriftError, EngineRefused
from schemas.evaluation import Evaluation
from schemas.recipe import JudgeRef, ModelRef, Recipe
from schemas.rows import Prompt, Rollout, Verdict
from schemas.tables import Table

SPELLING, PROSE = "spelling", "prose"  # journals


@dataclass(frozen=True, slots=True)
class Subject:
    """A checkpoint to be evaluated. `digest` knows it; `recipe` is its evaluation's own."""

    checkpoint: ModelRef
    digest: str
    settings: Evaluation
    recipe: Recipe

    @property
    def folder(self) -> RunFolder:
        return RunFolder(run_folder(self.recipe))

    def gate(self) -> Gate:
        """The recipe's budget holds for the evaluation of each checkpoint. Raises SchemaError."""
        return Gate(self.recipe.budget, Spending(self.folder.spent_path))


@dataclass(frozen=True, slots=True)
class Evaluated:
    """All that a checkpoint said. `takes` by rising cap; `scores` at the last one, None where nothing is judged."""

    checkpoint: str
    digest: str
    root: Path
    prompts: tuple[Prompt, ...]
    takes: tuple[Take, ...]
    scores: Scores | None
    passages: tuple[Passage, ...]
    sent: int


def subject_of(recipe: Recipe, checkpoint: ModelRef, folder: Path, progress: Progress) -> Subject:
    """`recipe`: the run's. `folder`: where evaluations lie. Raises ModelError, RecipeError."""
    digest = digest_of(checkpoint, cache_folder(), progress)
    known = hashlib.sha256(digest.encode()).hexdigest() if checkpoint.urls else digest
    return Subject(checkpoint, digest, recipe.evaluation, evaluation_recipe(recipe, checkpoint, known, folder))


async def evaluate(subject: Subject, gate: Gate, progress: Progress) -> Evaluated:
    """The caller holds the folder's lock. Raises Fixable, Transient or Halted; what is finished stays."""
    try:
        opened = open_run(subject.recipe, progress)
    except DriftError as error:
        raise DriftError(f"{error}; of an evaluation: name another folder with --out") from error
    recipe, settings = subject.recipe, subject.settings
    verifiers = [find_verifier(name) for name in settings.verifiers]
    shards.write_prompts(opened.work, lambda: collect(recipe.prompts, recipe.seed, progress, verifiers))
    room = EngineRoom(opened.work.run, recipe.machine, cache_folder(), progress, key_names(recipe), gate)
    async with gate.at_work(), room, shards.check_pool() as checks:
        asking = _Asking(subject, opened, room, gate, progress)
        await asking.answer()
        passages = await asking.read_prose()
        takes = tuple([await asking.take(cap, checks) for cap in settings.max_tokens])
        judged = await asking.judge(checks) if settings.judged else None
        return Evaluated(
            checkpoint=subject.checkpoint.model,
            digest=subject.digest,
            root=opened.work.run.root,
            prompts=tuple(asking.rows(Prompt)),
            takes=takes,
            scores=judged,
            passages=passages,
            sent=room.sent,
        )


@dataclass(frozen=True, slots=True)
class _Asking:
    """An evaluation at work."""

    subject: Subject
    opened: Opened
    room: EngineRoom
    gate: Gate
    progress: Progress

    @property
    def work(self) -> Work:
        return self.opened.work

    def rows(self, row_type: type[store.R]) -> list[store.R]:
        return [row for shard in self.work.shards() for row in self.work.run.read_rows(row_type, shard)]

    async def _engine(self, model: ModelRef) -> Engine:
        return await self.gate.unless_closed(self.room.engine(model))

    async def answer(self) -> None:
        """Every prompt in every slot, at the largest cap."""
        if not (pending := self.work.pending(Stage.ROLLOUTS)):
            return
        engine = await self._engine(self.subject.checkpoint)
        refuse_what_is_ignored(self.work.recipe.rollouts, engine)
        caps = self.subject.settings.max_tokens
        if len(caps) > 1 and Ability.TOKEN_IDS not in engine.wire.abilities:
            raise EngineRefused(
                f"{self.subject.checkpoint.model}: the server gives no token ids, so that no answer can be cut at "
                f"{caps[0]} tokens; name one cap in evaluation.max_tokens"
            )
        policy = Policy(engine, self.subject.checkpoint.model, self.subject.digest)
        prompts = self.work.record(Stage.PROMPTS, 0).outputs
        slots = 1 + self.subject.settings.samples
        self.progress.begin(Stage.ROLLOUTS, slots * sum(prompts[shard].rows for shard in pending))
        for shard in pending:
            await shards.write_rollouts(self.work, shard, policy)

    async def _asked(self, journal: str, made_from: str, requests: Sequence[Request]) -> dict[str, Completion]:
        """What came back to each request that is not a generation; a server is started only where one is missing."""
        desk = Desk(
            self.work.run.journal(journal, 0, hashlib.sha256(made_from.encode()).hexdigest()),
            lambda: self.progress.advance(journal),
            self.progress.say,
        )
        if missing := [one for one in requests if one.request_id not in desk.journal.kept]:
            engine = await self._engine(self.subject.checkpoint)
            self.progress.begin(journal, len(missing))
            await desk.ask_all([(engine, one) for one in missing])
        for reason in dict.fromkeys(desk.failures.values()):
            self.progress.say(f"warning: {journal}: {reason}")
        return desk.journal.kept

    async def read_prose(self) -> tuple[Passage, ...]:
        """The passages that the server says the probabilities of; a warning where it does not."""
        passages = passages_of(self.subject.settings)
        requests = {hashlib.sha256(text.encode()).hexdigest()[:16]: text for text in passages}
        asked = [_reading(name, text) for name, text in requests.items()]
        try:
            kept = await self._asked(PROSE, self.subject.digest, asked)
        except (
            EngineRefused
        ) as error:  # an address that it does not have; what it refuses of all, it refused of answers
            self.progress.say(f"warning: {PROSE}: {error}")
            kept = {}
        found = [
            Passage(name, reply.logprob, reply.logprob_tokens, len(text.encode()))
            for name, text in requests.items()
            if (reply := kept.get(name)) and reply.logprob is not None and reply.logprob_tokens
        ]
        if len(found) < len(requests):
            self.progress.say(
                f"warning: perplexity over {len(found)} of {len(requests)} passages: the server says no more"
            )
        return tuple(found)

    async def take(self, cap: int, checks: CheckPool) -> Take:
        """The answers as a cap leaves them, checked; both are written for a person to look at."""
        prompts = {prompt.prompt_id: prompt for prompt in self.rows(Prompt)}
        rollouts, name = self.rows(Rollout), f"{cap}.parquet"
        if cap < self.subject.settings.max_tokens[-1]:
            rollouts = await self._cut(rollouts, cap, prompts)
            store.write_part(self.work.run.measured_path(f"rollouts-{name}"), Table.ROLLOUTS, rollouts)
        told = await checks.run(
            [
                (verifier, prompts[one.prompt_id], one)
                for one in rollouts
                for verifier in self.subject.settings.verifiers
                if one.text is not None
            ]
        )
        store.write_part(self.work.run.measured_path(f"checks-{name}"), Table.VERDICTS, told)
        return Take(cap, tuple(rollouts), told)

    async def _cut(self, rollouts: Sequence[Rollout], cap: int, prompts: dict[str, Prompt]) -> list[Rollout]:
        longer = {f"{one.rollout_id}@{cap}": one for one in rollouts if len(one.token_ids or ()) > cap}
        asked = [_spelling(name, (one.token_ids or ())[:cap]) for name, one in longer.items()]
        digests = [
            part.sha256 for shard in self.work.shards() for part in self.work.record(Stage.ROLLOUTS, shard).outputs
        ]
        kept = await self._asked(SPELLING, "\n".join(digests), asked)
        if lacking := [name for name in longer if name not in kept]:
            raise EngineRefused(
                f"{self.subject.checkpoint.model}: the server did not spell the token ids of {len(lacking)} answers "
                f"(/detokenize), so that they cannot be cut at {cap} tokens; name one cap in evaluation.max_tokens"
            )
        spelt = {one.rollout_id: kept[name].text for name, one in longer.items()}
        cut = [cut_at(one, cap, spelt[one.rollout_id]) if one.rollout_id in spelt else one for one in rollouts]
        return with_loops(cut, [prompts[one.prompt_id] for one in cut])

    async def judge(self, checks: CheckPool) -> Scores:
        """Every judge on every answer at the largest cap, one local model after the other."""
        pending, breakers = self.work.pending(Stage.VERDICTS), dict[str, Breaker]()
        if pending:
            foreseen = sum(int(self.work.record(Stage.ROLLOUTS, shard).notes["to_judge"]) for shard in pending)
            self.progress.begin(Stage.VERDICTS, foreseen * len(self.opened.judges))
        for panel in self._panels():
            if pending:
                seats = await self._seats(panel, breakers)
                for shard in pending:
                    await shards.hear_judges(self.work, shard, seats, self._court(breakers))
        await self._hear_again(pending, breakers)
        for shard in pending:
            await shards.write_verdicts(self.work, shard, self._court(breakers), checks)
        return scores(self.rows(Rollout), self.rows(Verdict))

    async def _hear_again(self, pending: Sequence[int], breakers: dict[str, Breaker]) -> None:
        """What could not be read or did not come; a server is started again only for judges that are asked."""
        wanted = {shard: await shards.asked_again(self.work, shard, self._court(breakers)) for shard in pending}
        for panel in self._panels():
            if short := [shard for shard in pending if wanted[shard] & {seat.seat for seat in panel}]:
                seats = await self._seats(panel, breakers)
                for shard in short:
                    await shards.hear_judges_again(self.work, shard, seats, self._court(breakers))

    def _panels(self) -> list[list[JudgeRef]]:
        """The seats of each model; those of the checkpoint itself first, whose server may be up."""
        found: dict[str, list[JudgeRef]] = {}
        for seat in self.work.recipe.jury.judges:
            found.setdefault(_model(seat).model_dump_json(), []).append(seat)
        return sorted(found.values(), key=lambda panel: _model(panel[0]) != self.subject.checkpoint)

    async def _seats(self, panel: Sequence[JudgeRef], breakers: dict[str, Breaker]) -> list[Seat]:
        engine = await self._engine(_model(panel[0]))
        return [Seat(self.opened.judges[one.seat], engine, breakers.setdefault(one.seat, Breaker())) for one in panel]

    def _court(self, breakers: dict[str, Breaker]) -> Court:
        recipe = self.work.recipe
        stopped = {name: breaker.failed for name, breaker in breakers.items() if breaker.tripped}
        return Court(self.opened.judges, recipe.jury, recipe.pairing, lots=shards.lots(self.work), stopped=stopped)


def _model(seat: JudgeRef) -> ModelRef:
    assert seat.model is not None, "evaluation_recipe names each seat's"
    return seat.model


def _reading(name: str, text: str) -> Request:
    return Request(name, (Message(Role.USER, text),), Sampling(max_tokens=1, seed=0), task=Task.READ)


def _spelling(name: str, ids: Sequence[int]) -> Request:
    return Request(name, (), Sampling(max_tokens=0, seed=0), task=Task.SPELL, token_ids=tuple(ids))


def cut_at(rollout: Rollout, cap: int, spelt: str) -> Rollout:
    """The answer as a cap would have left it. `spelt`: its first `cap` token ids as text.

    Half a character at the end is left out, as the engine itself does.
    """
    reasoning, text = split_reasoning(spelt if rollout.answer.startswith(spelt) else spelt.rstrip("\ufffd"))
    ids = (rollout.token_ids or ())[:cap]
    return replace(rollout, text=text, reasoning=reasoning, token_ids=ids, finish_reason="length")
