"""The OpenAI-compatible wire: a Request to a JSON body, a JSON response to a Completion. Pure; no I/O.

The one rule: what a server cannot do is not sent, and what it did not send back is None, never a default that looks
like an answer.
"""

import json
import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from factory.client.reading import READING, read_reading, reading_address, reading_body
from factory.client.usage import Usage
from schemas.chat import Completion, Message, Request, Role, Sampling, Task, TokenAlternative
from schemas.errors import EngineRefused, EngineUnavailable

Body = dict[str, Any]
ROUNDING = 1e-3  # by so much a log-probability may be above nought
ABORTED = "abort"  # vLLM's finish reason for a request that it dropped


class Useless(EngineUnavailable):
    """A reply that is no answer, though tokens went into it: `completion` says how many."""

    def __init__(self, message: str, completion: Completion) -> None:
        super().__init__(message)
        self.completion = completion


class WrongModel(Useless):
    """Another model answered than the one that was probed."""


class Ability(StrEnum):
    """What servers differ in."""

    TOKEN_IDS = "token_ids"
    SEED = "seed"
    SAMPLERS = "samplers"  # top_k, min_p, repetition_penalty
    REPETITION_DETECTION = "repetition_detection"
    CHOICES = "choices"  # an answer held to a list of strings
    JSON_SCHEMA = "json_schema"  # an answer held to a JSON schema
    LOGPROBS = "logprobs"
    LOAD = "load"  # how many requests wait in it, under /metrics


@dataclass(frozen=True, slots=True)
class Wire:
    """How one server is spoken to: the name it serves the model under, and what it can do."""

    model: str
    abilities: frozenset[Ability] = frozenset(Ability)
    rewards: bool = False  # a reward model: it grades conversations, and writes nothing
    answers_as: str | None = None  # the model's name in its replies; None: there was none

    def address(self, url: str, request: Request) -> str:
        """Where a request goes. vLLM's classification endpoint lies beside `/v1`, not under it."""
        if request.task is Task.REWARD:
            return f"{url.removesuffix('/v1')}/classify"
        if request.task in READING:
            return reading_address(url, request)
        return f"{url}/chat/completions"

    def body(self, request: Request) -> Body:
        """The request's JSON body. Only fields that this server understands are in it."""
        if request.task is Task.REWARD:
            messages = [_message(message) for message in request.messages]
            return {"model": self.model, "messages": messages, "use_activation": False}
        if request.task in READING:
            return reading_body(self.model, request)
        sampling = request.sampling
        body: Body = {
            "model": self.model,
            "messages": [_message(message) for message in request.messages],
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if request.tools:
            # The declared tools belong into the prompt, but the answer is wanted as the model wrote it, markers and
            # all: a server-side parser would take the call out of the text.
            body |= {"tools": json.loads(request.tools), "tool_choice": "none", "skip_special_tokens": False}
        for ability, fields in _extras(request).items():
            if ability in self.abilities:
                body |= fields
        return body


def _message(message: Message) -> Body:
    return {"role": message.role.value, "content": message.content}


def _extras(request: Request) -> dict[Ability, Body]:
    """The fields beyond the common core, by the ability that they need."""
    sampling, extras = request.sampling, dict[Ability, Body]()
    extras[Ability.SEED] = {"seed": sampling.seed}
    samplers: Body = {}
    if sampling.top_k > 0:
        samplers["top_k"] = sampling.top_k
    if sampling.min_p > 0:
        samplers["min_p"] = sampling.min_p
    if sampling.repetition_penalty != 1.0:
        samplers["repetition_penalty"] = sampling.repetition_penalty
    extras[Ability.SAMPLERS] = samplers
    if request.want_token_ids:
        extras[Ability.TOKEN_IDS] = {"return_token_ids": True}
    if detection := request.repetition_detection:
        extras[Ability.REPETITION_DETECTION] = {
            "repetition_detection": {
                "max_pattern_size": detection.max_pattern_size,
                "min_pattern_size": detection.min_pattern_size,
                "min_count": detection.min_count,
            }
        }
    if request.choices:
        extras[Ability.CHOICES] = {"structured_outputs": {"choice": list(request.choices)}}
    if request.json_schema:
        schema = {"name": "reply", "schema": json.loads(request.json_schema), "strict": True}
        extras[Ability.JSON_SCHEMA] = {"response_format": {"type": "json_schema", "json_schema": schema}}
    if request.top_logprobs:
        extras[Ability.LOGPROBS] = {"logprobs": True, "top_logprobs": request.top_logprobs}
    return extras


class _Reply(BaseModel):
    model_config = ConfigDict(extra="ignore")


def _at_most_certain(logprob: float) -> float:
    """Minus infinity is a probability of nought; what is no number, or above certainty, is none."""
    if math.isnan(logprob) or logprob > ROUNDING:
        raise ValueError(f"{logprob} is no log-probability")
    return logprob


class _Alternative(_Reply):
    token: str
    logprob: Annotated[float, AfterValidator(_at_most_certain)]


class _Position(_Alternative):
    top_logprobs: list[_Alternative] = []


class _Logprobs(_Reply):
    content: list[_Position] | None = None


class _Said(_Reply):
    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class _Choice(_Reply):
    message: _Said
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None
    token_ids: list[int] | None = None


_NOTHING = _Choice(message=_Said())


class _Response(_Reply):
    choices: list[_Choice]
    model: str | None = None
    usage: Usage | None = None
    prompt_token_ids: list[int] | None = None


class _Class(_Reply):
    probs: list[float]


class _Classified(_Reply):
    data: list[_Class]
    model: str | None = None
    usage: Usage | None = None


def canary(wire: Wire) -> Request:
    """The smallest question that a healthy server answers."""
    words = (Message(Role.USER, "Write one short sentence about rain."),)
    sampling = Sampling(max_tokens=1, seed=0)
    if wire.rewards:
        return Request("canary", (*words, Message(Role.ASSISTANT, "Rain falls softly.")), sampling, task=Task.REWARD)
    return Request("canary", words, sampling)


def read_reply(request: Request, content: bytes, answers_as: str | None = None) -> Completion:
    """What a server said to a request. Raises EngineUnavailable where the body is no such reply.

    `answers_as`: the name that the model's replies bear; WrongModel where this one bears another.
    """
    if request.task is Task.REWARD:
        return _read_reward(request.request_id, content, answers_as)
    if request.task in READING:
        completion, model = read_reading(request, content)
        return _of_model(completion, model, answers_as)
    return read_completion(request.request_id, content, answers_as)


def _of_model(completion: Completion, model: str | None, answers_as: str | None) -> Completion:
    if answers_as is not None and model not in (answers_as, None):
        raise WrongModel(f"the model {model!r} answered instead of {answers_as!r}", completion)
    return completion


def name_in(content: bytes) -> str | None:
    """The model's name in a reply that `read_reply` has read."""
    return _Named.model_validate_json(content).model


def is_doubtful(request: Request, completion: Completion, wire: Wire) -> bool:
    """No text, though the server spent tokens on one, or was held to one of several. One token may be the end alone."""
    if completion.text or completion.reasoning or completion.reward is not None:
        return False
    held = bool(request.choices) and "" not in request.choices and Ability.CHOICES in wire.abilities
    return held or (completion.completion_tokens or 0) > 1


class _Named(_Reply):
    model: str | None = None


def _read_reward(request_id: str, content: bytes, answers_as: str | None) -> Completion:
    """The one number of a reward model's head. Raises EngineRefused where the head has several: that is a classifier."""
    try:
        response = _Classified.model_validate_json(content)
    except ValidationError as error:
        raise EngineUnavailable(f"the engine's reply is no classification: {_first_problem(error)}") from error
    usage = response.usage or Usage()
    took = Completion(request_id, "", "stop", prompt_tokens=usage.prompt_tokens)
    _of_model(took, response.model, answers_as)
    numbers = response.data[0].probs if response.data else []
    if len(numbers) != 1:
        raise EngineRefused(
            f"the model answers with {len(numbers)} numbers, and a reward model gives one; name a model with one label"
        )
    if not math.isfinite(numbers[0]):
        raise Useless(f"the engine's reply is no classification: {numbers[0]} is no reward", took)
    return replace(took, reward=numbers[0])


def read_completion(request_id: str, content: bytes, answers_as: str | None = None) -> Completion:
    """The first choice of a chat completion. Raises EngineUnavailable where the body is none."""
    try:
        response = _Response.model_validate_json(content)
    except ValidationError as error:
        raise EngineUnavailable(f"the engine's reply is no chat completion: {_first_problem(error)}") from error
    choice, usage = response.choices[0] if response.choices else _NOTHING, response.usage or Usage()
    refused = choice.message.refusal is not None  # OpenAI's own servers end a refusal with "stop"
    completion = Completion(
        request_id=request_id,
        text=choice.message.content or choice.message.refusal or "",
        finish_reason="refusal" if refused else choice.finish_reason or "",
        reasoning=choice.message.reasoning or choice.message.reasoning_content,
        prompt_token_ids=_tuple(response.prompt_token_ids),
        token_ids=_tuple(choice.token_ids),
        first_token=_first_token(choice.logprobs),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else None,
    )
    if choice is _NOTHING:
        raise Useless("the engine's reply is no chat completion: it has no choices", completion)
    if choice.finish_reason == ABORTED:
        raise Useless("the engine dropped the request before the answer was whole", completion)
    return _of_model(completion, response.model, answers_as)


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in problem["loc"])
    return f"{place or 'body'}: {problem['msg']}"


def _tuple(ids: list[int] | None) -> tuple[int, ...] | None:
    return None if ids is None else tuple(ids)


def _first_token(logprobs: _Logprobs | None) -> tuple[TokenAlternative, ...]:
    if logprobs is None or not logprobs.content:
        return ()
    first = logprobs.content[0]
    listed = [TokenAlternative(entry.token, entry.logprob) for entry in first.top_logprobs]
    if all(entry.token != first.token for entry in listed):
        listed.append(TokenAlternative(first.token, first.logprob))
    return tuple(listed)
