"""The loop detector and an n-gram penalty as reward functions for RL, in the form that TRL's trainers call.

The rule that must not break: a reward function takes keywords, ignores those that it does not know, and gives one
number for each completion, in order. It holds nothing but its parameters, so that it can be pickled.

A trainer says nothing of how an answer ended, but its token ids keep the end-of-turn token, which the text lacks: an
answer whose last id is none of `end_token_ids` ran into the cap. One that a stop string ended counts as capped, as it
does in TRL's own `clipped_ratio`.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from factory.loops import detect
from schemas.rows import Loop

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
    ) -> list[float]: ...


def loop_penalty(end_token_ids: int | Iterable[int], penalty: float = -1.0, soft: float = 0.5) -> RewardFunction:
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


def repetition_penalty(ngram: int = 3, penalty: float = -1.0) -> RewardFunction:
    """(1 - different n-grams / n-grams) * `penalty`, and 0 for an answer that is too short to have one.

    After Yeo et al. (2025), "Demystifying Long Chain-of-Thought Reasoning in LLMs", appendix C.2 (arXiv 2502.03373).
    The n-grams are of token ids, which cut any language and see white space and signs; they include what tools gave
    back. Without `completion_ids` they are of words, as near duplicates are found: Chinese has one for each character.
    Raises ValueError unless `ngram` is at least 1 and `penalty` at most 0.
    """
    if ngram < 1:
        raise ValueError(f"ngram must be at least 1, not {ngram!r}")
    return _RepetitionPenalty(ngram, _checked(penalty))


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
    from factory.dedupe import words  # seconds to import, and trainers give token ids

    return words("\n".join(text for text, _ in _turns(completion, "stop")))


def _repeated_share(answer: Sequence[Hashable], size: int) -> float:
    count = len(answer) - size + 1
    return 1 - len({tuple(answer[start : start + size]) for start in range(count)}) / count if count > 0 else 0.0
