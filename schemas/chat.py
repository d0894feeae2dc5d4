"""What is said to a model and what comes back: messages, sampling settings, requests, completions.

These types know nothing of HTTP. `factory.engine` turns a Request into an OpenAI-compatible body and a response
into a Completion; nothing else does.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from pydantic import ConfigDict

# Engines write -Infinity for a token that the grammar forbids. Kept as null, pydantic's default, it could not be read back.
_KEPT = ConfigDict(ser_json_inf_nan="strings")


class Role(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one answer is decoded. `temperature == 0` is greedy decoding, where top_p, top_k and min_p have no say."""

    max_tokens: int
    seed: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0  # 0: off
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RepetitionDetection:
    """vLLM's early stop: the last `min_count` copies of a pattern of `min_pattern_size`..`max_pattern_size` tokens."""

    max_pattern_size: int = 64
    min_pattern_size: int = 1
    min_count: int = 6


class Task(StrEnum):
    CHAT = "chat"  # the model writes
    REWARD = "reward"  # the model is a reward model, and grades a whole conversation with one number
    READ = "read"  # the model reads a text that stands in no conversation, and says how probable its tokens were
    SPELL = "spell"  # the server writes token ids as text, and the model does nothing


@dataclass(frozen=True, slots=True)
class Request:
    """One call for one answer. `request_id` names it in the journal: equal ids mean the same question."""

    request_id: str
    messages: tuple[Message, ...]
    sampling: Sampling
    tools: str | None = None  # JSON list of OpenAI tool declarations, passed on as it is
    repetition_detection: RepetitionDetection | None = None
    choices: tuple[str, ...] = ()  # the answer must be one of these (structured output); empty: free text
    json_schema: str | None = None  # the answer must be JSON of this schema (structured output)
    top_logprobs: int = 0  # alternatives to return for each generated token
    want_token_ids: bool = False
    task: Task = Task.CHAT
    token_ids: tuple[int, ...] = ()  # that are to be spelt


@dataclass(frozen=True, slots=True)
class TokenAlternative:
    """A token that could have stood at a position, with its natural-log probability."""

    __pydantic_config__: ClassVar[ConfigDict] = _KEPT
    token: str
    logprob: float


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer as the engine gave it. Token ids are None where the engine does not return them."""

    __pydantic_config__: ClassVar[ConfigDict] = _KEPT
    request_id: str
    text: str
    finish_reason: str
    reasoning: str | None = None
    prompt_token_ids: tuple[int, ...] | None = None
    token_ids: tuple[int, ...] | None = None
    first_token: tuple[TokenAlternative, ...] = ()  # alternatives at the first generated position
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None  # of the prompt's, served from the prefix cache, where the server says so
    seconds: float | None = field(default=None, compare=False)  # of the attempt that came back, sending to whole reply
    reward: float | None = None  # of a reward model
    logprob: float | None = None  # of a text that was read: the sum over `logprob_tokens` tokens, natural log
    logprob_tokens: int | None = None
    faults: tuple[str, ...] = field(default=(), compare=False)  # what the attempts before this one met
