"""The policy's answers: the plan of the requests of a prompt (pure), and the stage that sends a shard of them.

Each answer is a request of its own with a seed of its own: `n=5` would give five answers one fate, and a seed shared by
replicas makes them repeat each other.
"""

import asyncio
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from factory.client.asking import Desk
from factory.engine import Engine
from factory.loops import detect_batch
from schemas.chat import Completion, RepetitionDetection, Request, Sampling
from schemas.recipe import Decoding, Rollouts
from schemas.rows import Loop, LoopRule, Prompt, Rollout
from schemas.tables import TEXT, TOKENS

GREEDY = "greedy"
_ANSWERS = pa.schema({"text": TEXT, "finish_reason": TEXT, "prompt": TEXT, "token_ids": TOKENS})
# A whole block at the start, one that was opened by the chat template, or one that the cap cut off.
_THINK = re.compile(r"\A(\s*<think>.*?</think>\s*|(?:(?!<think>).)*?</think>\s*|\s*<think>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Policy:
    """The model whose answers are wanted, behind its engine."""

    engine: Engine
    model: str
    digest: str


@dataclass(frozen=True, slots=True)
class Planned:
    """One rollout before it is sent: its identity and its request."""

    prompt: Prompt
    slot: str
    request: Request

    @property
    def rollout_id(self) -> str:
        return self.request.request_id


def seed_of(run_seed: int, round_: int, prompt_id: str, slot: str) -> int:
    """53 bits, so that no JSON reader on the way rounds it: 6M of them collide with a chance of 0.2%."""
    digest = hashlib.sha256(f"{run_seed}/{round_}/{prompt_id}/{slot}".encode()).digest()
    return int.from_bytes(digest[:8]) >> 11


def slots(rollouts: Rollouts) -> tuple[tuple[str, Decoding], ...]:
    """Slot names with their decoding, greedy first. What a slot leaves out comes from `rollouts.sampling`."""
    base = rollouts.sampling.model_dump(exclude_none=True)
    named = [] if rollouts.greedy is None else [(GREEDY, rollouts.greedy.model_copy(update={"temperature": 0.0}))]
    named += [(f"t{index}", slot) for index, slot in enumerate(rollouts.slots)]
    return tuple((name, Decoding(**(base | slot.model_dump(exclude_none=True)))) for name, slot in named)


def plan(prompt: Prompt, rollouts: Rollouts, run_seed: int, round_: int) -> tuple[Planned, ...]:
    """The requests of one prompt, one for each slot."""
    planned = []
    for name, decoding in slots(rollouts):
        seed = seed_of(run_seed, round_, prompt.prompt_id, name)
        request = _request(f"{prompt.prompt_id}:{round_}:{name}", prompt, _sampling(decoding, rollouts, seed), rollouts)
        planned.append(Planned(prompt, name, request))
    return tuple(planned)


def _sampling(decoding: Decoding, rollouts: Rollouts, seed: int) -> Sampling:
    settings = {"temperature": 1.0} | decoding.model_dump(exclude_none=True)
    return Sampling(max_tokens=rollouts.max_tokens, seed=seed, stop=tuple(rollouts.stop), **settings)


def _request(request_id: str, prompt: Prompt, sampling: Sampling, rollouts: Rollouts) -> Request:
    detection = rollouts.repetition_detection
    return Request(
        request_id=request_id,
        messages=prompt.messages,
        sampling=sampling,
        tools=prompt.tools,
        repetition_detection=None if detection is None else RepetitionDetection(**detection.model_dump()),
        want_token_ids=True,
    )


async def roll_out(planned: Sequence[Planned], policy: Policy, desk: Desk) -> list[Rollout]:
    """One shard: every planned request is a row, in the order of the plan, whatever came of it.

    Raises EngineRefused and Transient where the engine as a whole is of no use; the journal keeps what was answered.
    """
    await desk.ask_all([(policy.engine, one.request) for one in planned])
    kept, failures = desk.journal.kept, desk.failures
    rows = [_row(one, policy, kept.get(one.rollout_id), failures.get(one.rollout_id)) for one in planned]
    return await asyncio.to_thread(with_loops, rows, [one.prompt for one in planned])


def with_loops(rollouts: Sequence[Rollout], prompts: Sequence[Prompt]) -> list[Rollout]:
    """The rollouts with what the detector saw in their answers. `prompts`: the prompt of each, in the same order."""
    answers = pa.RecordBatch.from_pydict(
        {
            "text": [None if rollout.text is None else rollout.answer for rollout in rollouts],
            "finish_reason": [rollout.finish_reason for rollout in rollouts],
            "prompt": ["\n".join(message.content for message in prompt.messages) for prompt in prompts],
            "token_ids": [rollout.token_ids for rollout in rollouts],
        },
        schema=_ANSWERS,
    )
    found = detect_batch(answers).to_pylist()
    return [_with_loop(rollout, columns) for rollout, columns in zip(rollouts, found, strict=True)]


def _with_loop(rollout: Rollout, columns: dict[str, object]) -> Rollout:
    kind, rule = columns.pop("loop"), columns.pop("loop_rule")
    return replace(
        rollout,
        loop=None if kind is None else Loop(str(kind)),
        loop_rule=None if rule is None else LoopRule(str(rule)),
        **columns,  # type: ignore[arg-type]  # as the schema has them
    )


def split_reasoning(text: str) -> tuple[str | None, str]:
    """A leading <think> block with its tags, and the rest; put together again they are the text."""
    match = _THINK.match(text)
    return (match.group(), text[match.end() :]) if match else (None, text)


def _row(planned: Planned, policy: Policy, completion: Completion | None, failure: str | None) -> Rollout:
    reasoning, text = (None, None) if completion is None else _parts(completion)
    sampling = planned.request.sampling
    return Rollout(
        rollout_id=planned.rollout_id,
        prompt_id=planned.prompt.prompt_id,
        slot=planned.slot,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
        seed=sampling.seed,
        model=policy.model,
        model_digest=policy.digest,
        text=text,
        reasoning=reasoning,
        finish_reason=completion.finish_reason if completion else None,
        prompt_token_ids=completion.prompt_token_ids if completion else None,
        token_ids=completion.token_ids if completion else None,
        error=None if completion else failure or "no answer",
    )


def _parts(completion: Completion) -> tuple[str | None, str]:
    if completion.reasoning:  # the server split it off already, without the tags
        return f"<think>{completion.reasoning}</think>", completion.text
    return split_reasoning(completion.text)
