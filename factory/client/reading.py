"""What is asked of a server besides answers: how probable a text is to its model, and how token ids are spelt. Pure; no I/O.

The rule that must not break: a server that does not say it leaves None, never a figure that looks like one. The fields are
vLLM's; others answer with an error or without them.
"""

import math
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from factory.client.usage import Usage
from schemas.chat import Completion, Request, Task
from schemas.errors import EngineUnavailable

READING = frozenset({Task.READ, Task.SPELL})


class _Reply(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Probability(_Reply):
    logprob: float


class _Choice(_Reply):
    prompt_logprobs: list[dict[str, _Probability] | None] | None = None
    prompt_token_ids: list[int] | None = None


class _Read(_Reply):
    choices: list[_Choice]
    model: str | None = None
    usage: Usage | None = None


class _Spelt(_Reply):
    prompt: str


def reading_address(url: str, request: Request) -> str:
    """Spelling lies beside `/v1`, not under it."""
    return f"{url.removesuffix('/v1')}/detokenize" if request.task is Task.SPELL else f"{url}/completions"


def reading_body(model: str, request: Request) -> dict[str, Any]:
    """The text of a request that is read is its one message, and goes out without a chat template."""
    if request.task is Task.SPELL:
        return {"model": model, "tokens": list(request.token_ids)}
    (message,) = request.messages
    return {
        "model": model,
        "prompt": message.content,
        "max_tokens": 1,
        "temperature": 0.0,
        "prompt_logprobs": 0,
        "return_token_ids": True,
    }


def read_reading(request: Request, content: bytes) -> tuple[Completion, str | None]:
    """What came back, and the name of the model in it. Raises EngineUnavailable where the body is no such reply."""
    try:
        if request.task is Task.SPELL:
            text = _Spelt.model_validate_json(content).prompt
            return Completion(request.request_id, text, "stop", prompt_tokens=0, completion_tokens=0), None
        read = _Read.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise EngineUnavailable(f"the engine's reply is no completion: {first['msg']}") from error
    usage = read.usage or Usage()
    logprobs = _logprobs(read.choices[0]) if read.choices else None
    completion = Completion(
        request.request_id,
        "",
        "stop",
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        logprob=None if logprobs is None else math.fsum(logprobs),
        logprob_tokens=None if logprobs is None else len(logprobs),
    )
    return completion, read.model


def _logprobs(choice: _Choice) -> list[float] | None:
    """Of each token but the first, which stands behind nothing. None where they are not all there."""
    listed, ids = choice.prompt_logprobs, choice.prompt_token_ids
    if not listed or (ids is not None and len(ids) != len(listed)):
        return None
    found: list[float] = []
    for place, likely in enumerate(listed[1:], start=1):
        own = None if likely is None else likely.get(str(ids[place])) if ids else _only(likely)
        if own is None or not math.isfinite(own.logprob):
            return None
        found.append(own.logprob)
    return found or None


def _only(likely: dict[str, _Probability]) -> _Probability | None:
    return next(iter(likely.values())) if len(likely) == 1 else None
