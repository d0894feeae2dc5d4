"""What can go wrong between a question and its answer, and which request meets it.

A Fault is given the request and the answer that it would have got, and says what comes instead. A Script says which fault a
request meets, None for none; all of them are deterministic in the order, or in the text, of what is asked.
"""

import asyncio
import gzip
import json
import math
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from aiohttp import web

from tests.fake_engine.model import SHOWN, Body

CHAT, MODELS, CLASSIFY, METRICS = "/v1/chat/completions", "/v1/models", "/classify", "/metrics"
COMPLETIONS, DETOKENIZE = "/v1/completions", "/detokenize"


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it came in."""

    path: str
    headers: Mapping[str, str]
    body: Body

    @property
    def asked(self) -> str:
        """The last message; "" for a request that is no question."""
        return str(self.body["messages"][-1]["content"]) if "messages" in self.body else ""

    @property
    def is_judging(self) -> bool:
        return bool(SHOWN.search(self.asked))

    @property
    def is_question(self) -> bool:
        """A question of the run, not one of the probe."""
        return self.path == CHAT and not self.is_canary

    @property
    def is_canary(self) -> bool:
        """A question of the probe, not of the run."""
        return self.asked.startswith(("Write one short sentence about rain.", "How good is the word 'rain'"))


Fault = Callable[[web.Request, Body], Awaitable[web.StreamResponse]]
Script = Callable[[Seen], Fault | None]


def no_faults(_: Seen) -> None:
    return None


def error_body(message: str, **more: object) -> Body:
    return {"error": {"message": message, "type": "BadRequestError", "param": None, "code": 400} | more}


def too_long_body(context: int, prompt: int) -> Body:
    """As vLLM words it."""
    message = (
        f"This model's maximum context length is {context} tokens. However, your request has {prompt} input tokens. "
        "Please reduce the length of the input messages."
    )
    return error_body(message, param="input_tokens")


# Faults


def error(status: int, message: str = "it broke", headers: Mapping[str, str] | None = None) -> Fault:
    """An error in OpenAI's form."""

    async def fault(_: web.Request, __: Body) -> web.Response:
        return web.json_response(error_body(message, code=status), status=status, headers=headers)

    return fault


def html(status: int = 200) -> Fault:
    """What a reverse proxy says, or a web page that lives at that address."""

    async def fault(_: web.Request, __: Body) -> web.Response:
        page = f"<html>\n<head><title>{status}</title></head>\n<body><h1>nginx</h1></body>\n</html>"
        return web.Response(status=status, text=page, content_type="text/html")

    return fault


def busy(retry_after: str | None = None) -> Fault:
    return error(429, "too many requests", None if retry_after is None else {"retry-after": retry_after})


async def too_long(_: web.Request, __: Body) -> web.Response:
    return web.json_response(too_long_body(2048, 40_000), status=400)


def redirect(location: str) -> Fault:
    async def fault(_: web.Request, __: Body) -> web.Response:
        return web.Response(status=307, headers={"location": location})

    return fault


async def reset(request: web.Request, _: Body) -> web.Response:
    """The connection is gone before a byte of the answer came."""
    _hang_up(request)
    return web.Response()


async def reset_within(request: web.Request, answer: Body) -> web.StreamResponse:
    """The connection is gone in the middle of the answer."""
    content = json.dumps(answer).encode()
    response = web.StreamResponse(headers={"content-length": str(len(content)), "content-type": "application/json"})
    await response.prepare(request)
    await response.write(content[: len(content) // 2])
    _hang_up(request)
    return response


def _hang_up(request: web.Request) -> None:
    assert request.transport is not None
    request.transport.abort()


async def reset_after(request: web.Request, answer: Body) -> web.StreamResponse:
    """The answer is whole, and the connection gone without a goodbye, as keep-alive had promised another."""
    content = json.dumps(answer).encode()
    response = web.StreamResponse(headers={"content-length": str(len(content)), "content-type": "application/json"})
    await response.prepare(request)
    await response.write(content)
    await asyncio.sleep(0.005)
    _hang_up(request)
    return response


async def truncated(_: web.Request, answer: Body) -> web.Response:
    """A whole response whose JSON is not."""
    text = json.dumps(answer)
    return web.Response(text=text[: len(text) // 2], content_type="application/json")


async def no_choices(_: web.Request, answer: Body) -> web.Response:
    return web.json_response(answer | {"choices": []})


def instead(document: object) -> Fault:
    """Any other JSON document."""

    async def fault(_: web.Request, __: Body) -> web.Response:
        return web.json_response(document)

    return fault


def raw(content: bytes) -> Fault:
    """Any bytes that call themselves JSON."""

    async def fault(_: web.Request, __: Body) -> web.Response:
        return web.Response(body=content, content_type="application/json")

    return fault


async def empty_text(_: web.Request, answer: Body) -> web.Response:
    answer["choices"][0]["message"]["content"] = None
    return web.json_response(answer)


async def aborted(_: web.Request, answer: Body) -> web.Response:
    """The server dropped the request, after all its tokens."""
    answer["choices"][0]["finish_reason"] = "abort"
    return web.json_response(answer)


async def wrong_model(_: web.Request, answer: Body) -> web.Response:
    """Another model has answered, and says so."""
    answer["choices"][0]["message"]["content"] = "I am another model. "
    return web.json_response(answer | {"model": "another-model"})


async def nan_logprobs(_: web.Request, answer: Body) -> web.Response:
    """Whatever was asked for log-probabilities gets some that are no numbers; every other answer is right."""
    for position in (answer["choices"][0].get("logprobs") or {}).get("content", ()):
        position["logprob"] = math.nan
        for alternative in position["top_logprobs"]:
            alternative["logprob"] = math.nan
    return web.json_response(answer)


async def unknown_reason(_: web.Request, answer: Body) -> web.Response:
    """The right answer, with a finish reason that nobody has heard of."""
    answer["choices"][0]["finish_reason"] = "banana"
    return web.json_response(answer)


async def hang(_: web.Request, __: Body) -> web.Response:
    """No answer, ever."""
    await asyncio.Event().wait()
    raise AssertionError("unreachable: nobody sets the event")


async def drip(request: web.Request, _: Body) -> web.StreamResponse:
    """A body that never ends: a blank every so often, each well within any time limit of a read."""
    response = web.StreamResponse(headers={"content-type": "application/json"})
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.02)


def endless(status: int) -> Fault:
    """A body that never ends, as fast as it is read."""

    async def fault(request: web.Request, _: Body) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers={"content-type": "application/json"})
        await response.prepare(request)
        while True:
            await response.write(b" " * 2**16)

    return fault


def bomb(status: int) -> Fault:
    """A hundred kilobytes that unpack to a hundred megabytes."""

    async def fault(_: web.Request, __: Body) -> web.Response:
        return _packed(b" " * (100 * 2**20), status)

    return fault


async def packed(_: web.Request, answer: Body) -> web.Response:
    """The right answer, packed."""
    return _packed(json.dumps(answer).encode(), 200)


def _packed(content: bytes, status: int) -> web.Response:
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    return web.Response(body=gzip.compress(content, 1), status=status, headers=headers)


def slowly(seconds: float) -> Fault:
    """The right answer, late."""

    async def fault(_: web.Request, answer: Body) -> web.Response:
        await asyncio.sleep(seconds)
        return web.json_response(answer)

    return fault


# Scripts: which request meets which fault


def in_turn(*faults: Fault | None) -> Script:
    """One for each question to the model, in the order of arrival; None, and all that come later: no fault."""
    left = deque(faults)

    def script(seen: Seen) -> Fault | None:
        return left.popleft() if seen.path == CHAT and left else None

    return script


def whenever(holds: Callable[[Seen], bool], fault: Fault) -> Script:
    return lambda seen: fault if holds(seen) else None


def always(fault: Fault, path: str = CHAT) -> Script:
    return whenever(lambda seen: seen.path == path, fault)


def first_tries(*faults: Fault) -> Script:
    """Every question of the run fails once, each in one of these ways."""
    tried: set[str] = set()

    def script(seen: Seen) -> Fault | None:
        question = json.dumps(seen.body, sort_keys=True)
        if seen.path != CHAT or seen.is_canary or question in tried:
            return None
        tried.add(question)
        return faults[len(tried) % len(faults)]

    return script


def dies_after(questions: int) -> Script:
    """The server answers so many questions of the run, and then nobody and nothing any more."""
    return from_then_on(questions, reset)


def from_then_on(questions: int, fault: Fault) -> Script:
    """So many questions of the run are answered, and whatever is asked after that, of whomever, meets the fault."""
    answered = 0

    def script(seen: Seen) -> Fault | None:
        nonlocal answered
        answered += seen.path == CHAT and not seen.is_canary
        return fault if answered > questions else None

    return script


# By name, for servers in a process of their own
FAULTS: Mapping[str, Fault] = {
    "500": error(500, "CUDA error"),
    "502 html": html(502),
    "429": busy(),
    "429 retry-after": busy("0.2"),
    "reset before": reset,
    "reset during": reset_within,
    "reset after": reset_after,
    "endless body": drip,
    "silence": hang,
    "truncated json": truncated,
    "no choices": no_choices,
    "wrong model": wrong_model,
    "empty text": empty_text,
    "nan logprobs": nan_logprobs,
    "unknown reason": unknown_reason,
}


@dataclass
class Dice:
    """A share of all attempts meets a fault, drawn by the question and how often it was asked: never by the order.

    `dealt` counts the faults by name.
    """

    names: Sequence[str]
    share: float
    seed: int = 0
    dealt: Counter[str] = field(default_factory=Counter)
    _tries: Counter[str] = field(default_factory=Counter)

    def __call__(self, seen: Seen) -> Fault | None:
        if not seen.is_question:
            return None
        question = json.dumps(seen.body, sort_keys=True)
        self._tries[question] += 1
        dice = Random(f"{self.seed}/{self._tries[question]}/{question}")
        if dice.random() >= self.share:
            return None
        name = dice.choice(self.names)
        self.dealt[name] += 1
        return FAULTS[name]
