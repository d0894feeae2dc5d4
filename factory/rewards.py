"""Loop detector, n-gram penalty and verifiers as reward functions for RL, in the form that TRL's trainers call.

The rule that must not break: a reward function takes keywords, ignores those that it does not know, and gives one
number for each completion, in order, or None where it has nothing to say. It holds nothing but its parameters, so that it
can be pickled.

A trainer says nothing of how an answer ended, but its token ids keep the end-of-turn token, which the text lacks: an
answer whose last id is none of `end_token_ids` ran into the cap. One that a stop string ended counts as capped, as it
does in TRL's own `clipped_ratio`.
"""

import asyncio
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from typing import Protocol

from factory.judging.verifying import Check, CheckPool
from factory.loops import detect
from factory.rollouts import split_reasoning
from judges.registry import find_verifier
from schemas.chat import Message as ChatMessage
from schemas.chat import Role
from schemas.rows import Constraint, Loop, Prompt, Rollout, Verdict, VerdictStatus

Message = Mapping[str, object]
Conversation = str | Sequence[Message]  # TRL's standard form, and its conversational one

_SEVERITY = (Loop.CLEAN, Loop.SOFT, Loop.HARD)
_WRITTEN = ("reasoning_content", "thinking", "content")  # of a parsed message, in the order of writing


class RewardFunction(Protocol):
    """What `reward_funcs` takes. Its metrics are `rewards/<__name__>/mean` and `/std`."""

    @property
    def __name__(self) -> str: ...

    def __call__(
        self,
        *,
        prompts: Sequence[Conversation],
        completions: Sequence[Conversation],
        completion_ids: Sequence[Sequence[int]] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: object,
    ) -> Sequence[float | None]: ...


class Penalty(RewardFunction, Protocol):
    """One that has something to say of every completion."""

    def __call__(
        self,
        *,
        prompts: Sequence[Conversation],
        completions: Sequence[Conversation],
        completion_ids: Sequence[Sequence[int]] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: object,
    ) -> list[float]: ...


def loop_penalty(end_token_ids: int | Iterable[int], penalty: float = -1.0, soft: float = 0.5) -> Penalty:
    """`penalty` for a hard loop, `soft` times `penalty` for a soft one, 0 for a clean answer.

    `end_token_ids` end a turn: the tokenizer's `eos_token_id`, and all of the generation config's where it has more.
    `penalty` is at most 0. `soft` lies in [0, 1]; make it 0 where prompts may ask for repetition, since what a prompt
    asks for is soft. Raises ValueError for other values, and where the trainer gives no `completion_ids`.

    The penalty does not grow with the loop: how far a loop gets is the cap's doing. Of several assistant turns the
    worst counts; each but the completion's last message ended by itself. The shares of hard and soft loops are logged
    as `loops/hard` and `loops/soft`.

    Loops are mostly capped answers. `mask_truncated_completions=True` takes those out of TRL's loss, so that the
    penalty only moves what their group is compared with: leave it off.
    """
    ends = frozenset([end_token_ids] if isinstance(end_token_ids, int) else end_token_ids)
    if not ends or not all(isinstance(token, int) for token in ends):
        raise ValueError(f"end_token_ids must be one token id or more, not {end_token_ids!r}")
    if not 0 <= soft <= 1:
        raise ValueError(f"soft must lie between 0 and 1, not {soft!r}")
    return _LoopPenalty(ends, _checked(penalty), soft)


def repetition_penalty(ngram: int = 3, penalty: float = -1.0) -> Penalty:
    """(1 - different n-grams / n-grams) * `penalty`, and 0 for an answer that is too short to have one.

    After Yeo et al. (2025), "Demystifying Long Chain-of-Thought Reasoning in LLMs", appendix C.2 (arXiv 2502.03373).
    The n-grams are of token ids, which cut any language and see white space and signs; they include what tools gave
    back. Without `completion_ids` they are of words, as near duplicates are found: Chinese has one for each character.
    Raises ValueError unless `ngram` is at least 1 and `penalty` at most 0.
    """
    if ngram < 1:
        raise ValueError(f"ngram must be at least 1, not {ngram!r}")
    return _RepetitionPenalty(ngram, _checked(penalty))


def verifier_reward(
    verifier: str, passed: float = 1.0, failed: float = 0.0, *, timeout_s: float = 10.0, workers: int = 2
) -> RewardFunction:
    """`passed` or `failed` by a verifier's verdict, None where it has nothing to check or could not tell.

    It reads the dataset's columns `answer`, `constraints` (structs of `id` and `kwargs`), `language` and `tools`, as the export
    format `grpo` has them; what is not there is not checked. A leading <think> block is no part of the answer. Every check runs
    in a process that is killed after `timeout_s` seconds, and such an answer gets None: TRL counts that as 0 in the sum of its
    reward functions. Raises RecipeError for a name that no verifier has.
    """
    find_verifier(verifier)
    return _VerifierReward(verifier, passed, failed, timeout_s, workers)


@dataclass(frozen=True, slots=True)
class _VerifierReward:
    verifier: str
    passed: float
    failed: float
    timeout_s: float
    workers: int

    @property
    def __name__(self) -> str:
        return self.verifier

    def __call__(
        self,
        *,
        prompts: Sequence[Conversation],
        completions: Sequence[Conversation],
        **columns: object,
    ) -> list[float | None]:
        checks = [
            (self.verifier, _prompt(str(number), prompt, cells), _rollout(str(number), completion))
            for number, (prompt, completion, cells) in enumerate(
                zip(prompts, completions, _cells(columns, len(prompts)), strict=True)
            )
        ]
        # In a thread of its own, since a notebook's may run an event loop already.
        with ThreadPoolExecutor(max_workers=1) as thread:
            verdicts = thread.submit(asyncio.run, self._verdicts(checks)).result()
        return [self._reward(verdict) for verdict in verdicts]

    async def _verdicts(self, checks: Sequence[Check]) -> tuple[Verdict, ...]:
        async with CheckPool(self.workers, self.timeout_s) as pool:
            return await pool.run(checks)

    def _reward(self, verdict: Verdict) -> float | None:
        if verdict.status is not VerdictStatus.OK or verdict.score is None:
            return None
        return self.passed if verdict.score else self.failed


@dataclass(frozen=True, slots=True)
class _LoopPenalty:
    end_token_ids: frozenset[int]
    penalty: float
    soft: float

    __name__ = "loop_penalty"

    def __call__(
        self,
        *,
        prompts: Sequence[Conversation],
        completions: Sequence[Conversation],
        completion_ids: Sequence[Sequence[int]] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: object,
    ) -> list[float]:
        if completion_ids is None:
            raise ValueError("loop_penalty needs completion_ids: they tell whether an answer ended by itself")
        kinds = [
            _worst_loop(prompt, completion, "stop" if self.end_token_ids.intersection(ids[-1:]) else "length")
            for prompt, completion, ids in zip(prompts, completions, completion_ids, strict=True)
        ]
        if log_metric is not None and kinds:
            log_metric("loops/hard", kinds.count(Loop.HARD) / len(kinds))
            log_metric("loops/soft", kinds.count(Loop.SOFT) / len(kinds))
        rewards = {Loop.CLEAN: 0.0, Loop.SOFT: self.soft * self.penalty, Loop.HARD: self.penalty}
        return [rewards[kind] for kind in kinds]


@dataclass(frozen=True, slots=True)
class _RepetitionPenalty:
    ngram: int
    penalty: float

    __name__ = "repetition_penalty"

    def __call__(
        self,
        *,
        completions: Sequence[Conversation],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns: object,
    ) -> list[float]:
        answers = [_words(completion) for completion in completions] if completion_ids is None else completion_ids
        return [self.penalty * _repeated_share(answer, self.ngram) or 0.0 for answer in answers]  # never -0.0


def _checked(penalty: float) -> float:
    if not -math.inf < penalty <= 0:
        raise ValueError(f"penalty must be a finite number of at most 0, not {penalty!r}")
    return penalty


def _worst_loop(prompt: Conversation, completion: Conversation, finish_reason: str) -> Loop:
    asked = prompt if isinstance(prompt, str) else "\n".join(_content(message.get("content")) for message in prompt)
    kinds = (detect(text, finish, prompt=asked).kind for text, finish in _turns(completion, finish_reason))
    return max(kinds, key=_SEVERITY.index, default=Loop.CLEAN)


def _turns(completion: Conversation, finish_reason: str) -> list[tuple[str, str]]:
    """What the policy wrote in each of its turns, with how the turn ended."""
    if isinstance(completion, str):
        return [(completion, finish_reason)]
    last = len(completion) - 1
    return [
        ("".join(_content(message.get(field)) for field in _WRITTEN), finish_reason if place == last else "stop")
        for place, message in enumerate(completion)
        if message.get("role", "assistant") == "assistant"
    ]


def _content(content: object) -> str:
    """Text, or the texts among the parts that a message with images is made of."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(_content(part.get("text")) for part in parts if isinstance(part, Mapping))


def _words(completion: Conversation) -> list[str]:
    from factory.gathering.dedupe import words  # seconds to import, and trainers give token ids

    return words("\n".join(text for text, _ in _turns(completion, "stop")))


def _repeated_share(answer: Sequence[Hashable], size: int) -> float:
    count = len(answer) - size + 1
    return 1 - len({tuple(answer[start : start + size]) for start in range(count)}) / count if count > 0 else 0.0


def _cells(columns: Mapping[str, object], rows: int) -> list[dict[str, object]]:
    """What a verifier may want of each row."""
    wanted = {name: columns.get(name) for name in ("answer", "constraints", "language", "tools")}
    lists = {name: value if isinstance(value, Sequence) else list(repeat(None, rows)) for name, value in wanted.items()}
    return [{name: values[row] for name, values in lists.items()} for row in range(rows)]


def _prompt(prompt_id: str, prompt: Conversation, cells: Mapping[str, object]) -> Prompt:
    asked: Sequence[Message] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    constraints = cells["constraints"]
    return Prompt(
        prompt_id=prompt_id,
        source="",
        messages=tuple(ChatMessage(Role(str(message["role"])), _content(message.get("content"))) for message in asked),
        tools=_text(cells["tools"]),
        answer=_text(cells["answer"]),
        constraints=tuple(map(_constraint, constraints)) if isinstance(constraints, Sequence) else (),
        language=_text(cells["language"]),
    )


def _text(cell: object) -> str | None:
    return None if cell is None else str(cell)


def _constraint(cell: Mapping[str, object]) -> Constraint:
    return Constraint(str(cell["id"]), str(cell["kwargs"]))


def _rollout(prompt_id: str, completion: Conversation) -> Rollout:
    """The last turn of the policy, as far as a verifier looks at it."""
    text = completion if isinstance(completion, str) else _last_words(completion)
    return Rollout(
        rollout_id=prompt_id, prompt_id=prompt_id, slot="", temperature=0.0, top_p=1.0, min_p=0.0, seed=0, model="",
        model_digest="", text=split_reasoning(text)[1], reasoning=None, finish_reason=None, prompt_token_ids=None,
        token_ids=None,
    )  # fmt: skip


def _last_words(completion: Sequence[Message]) -> str:
    said = [message for message in completion if message.get("role", "assistant") == "assistant"]
    return _content(said[-1].get("content")) if said else ""
