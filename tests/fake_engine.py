"""An OpenAI-compatible server on loopback that answers by rule, for tests: real HTTP, no model.

    with FakeEngine() as engine:
        ...engine.url...                    # http://127.0.0.1:PORT/v1
        engine.faults = in_turn(error(500))   # the next answer fails, those after it do not
        engine.chats                        # what was asked

What it says is a function of (messages, seed, temperature) alone, so that two runs, or a run and its resumption, get equal
answers. A token is a character and its id the character's code; END stands behind an answer that ended by itself. A word
in square brackets in the last message says how the model answers (see `Manner`); without one the draw decides.

The rule: the server is vLLM as far as the factory can see. What a weaker server lacks is switched off in `abilities`; what
goes wrong on the way is a `Fault`.
"""

import asyncio
import hashlib
import json
import math
import re
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Any

from aiohttp import web

from factory.protocol import Ability

Body = dict[str, Any]
CHAT, MODELS, CLASSIFY = "/v1/chat/completions", "/v1/models", "/classify"
END = 0  # the id of the end token
SAMPLERS = ("top_k", "min_p", "repetition_penalty")
VOCABULARY = (
    "rain falls on old roofs while some quiet people walk home under grey clouds and others wait near a small red door "
    "until morning light shows every stone river bridge tree field hill road lamp window garden wall boat bird cat"
)
WORDS = tuple(VOCABULARY.split())
UNITS = ("and then it rains again, ", "over and over the hill ", "one more time, ")


class Manner(StrEnum):
    """How the model answers a prompt that has this word in square brackets."""

    ENDS = "ends"
    LOOPS = "loops"
    CAPPED = "capped"  # goes on until max_tokens
    SAME = "same"  # whatever the seed
    BLANK = "blank"
    THINKS = "thinks"  # <think>…</think> before the answer


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
        return bool(_SHOWN.search(self.asked))

    @property
    def is_canary(self) -> bool:
        """A question of the probe, not of the run."""
        return self.asked.startswith(("Write one short sentence about rain.", "How good is the word 'rain'"))


# A fault is given the request and the answer that it would have got, and says what comes instead.
Fault = Callable[[web.Request, Body], Awaitable[web.StreamResponse]]
Script = Callable[[Seen], Fault | None]


def no_faults(_: Seen) -> None:
    return None


@dataclass
class FakeEngine:
    """The server. Its fields may be changed while it runs; `seen` holds every request in the order of arrival."""

    model: str = "fake-model"
    abilities: frozenset[Ability] = frozenset(Ability)
    renamed: Mapping[str, str] = field(default_factory=dict)  # finish reasons that a proxy rewrites on the way
    digit_mass: float = 0.9  # on the nine digits, of a judge's first token
    context: int = 16_384  # tokens, prompt and answer together
    faults: Script = no_faults
    seen: list[Seen] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    port: int = 0
    rewards: bool = False  # the model is a reward model: it grades conversations and writes nothing

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def chats(self) -> list[Seen]:
        """Everything that was asked of the model, canaries of the probe included."""
        return [seen for seen in self.seen if seen.path == CHAT]

    @property
    def questions(self) -> list[Seen]:
        """What the run itself asked of the model."""
        return [seen for seen in self.chats if not seen.is_canary]

    def __enter__(self) -> "FakeEngine":
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._runner = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> web.AppRunner:
        app = web.Application(client_max_size=2**24)
        app.router.add_get("/health", self._serve)
        app.router.add_get(MODELS, self._serve)
        app.router.add_post(CHAT, self._serve)
        app.router.add_post(CLASSIFY, self._serve)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port)
        await site.start()
        self.port = runner.addresses[0][1]
        return runner

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        content = await request.read()
        seen = Seen(request.path, dict(request.headers), json.loads(content) if content else {})
        self.seen.append(seen)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            status, answer = self._answer(seen)
            fault = self.faults(seen)
            return await fault(request, answer) if fault else web.json_response(answer, status=status)
        finally:
            self.in_flight -= 1

    def _answer(self, seen: Seen) -> tuple[int, Body]:
        if seen.path == MODELS:
            return 200, {"object": "list", "data": [{"id": self.model, "object": "model"}]}
        if seen.path not in (CHAT, CLASSIFY):
            return 200, {}
        if (seen.path == CLASSIFY) != self.rewards:
            return 404, {"detail": "Not Found"}
        if seen.body["model"] != self.model:
            return 404, error_body(f"The model `{seen.body['model']}` does not exist.", type="NotFoundError", code=404)
        unknown = [name for name in SAMPLERS if name in seen.body]
        if unknown and Ability.SAMPLERS not in self.abilities:
            return 400, error_body(f"Unrecognized request argument supplied: {unknown[0]}")
        asked = _template(seen.body["messages"])
        if self.rewards:
            return 200, _classified(self.model, seen.body["messages"], len(asked))
        if len(asked) + seen.body["max_tokens"] > self.context:
            return 400, too_long_body(self.context, len(asked))
        return 200, self._completion(seen, asked)

    def _completion(self, seen: Seen, asked: str) -> Body:
        body = seen.body
        said = self._said(seen)
        text, reason = said.written(body["max_tokens"], self._detection(body))
        ids = [ord(letter) for letter in text] + [END] * (reason == "stop")
        choice: Body = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": self.renamed.get(reason, reason),
        }
        whole: Body = {
            "object": "chat.completion",
            "model": self.model,
            "choices": [choice],
            "usage": {"prompt_tokens": len(asked), "completion_tokens": len(ids)},
        }
        if body.get("return_token_ids") and Ability.TOKEN_IDS in self.abilities:
            whole["prompt_token_ids"] = [ord(letter) for letter in asked]
            choice["token_ids"] = ids
        if body.get("logprobs") and Ability.LOGPROBS in self.abilities:
            likely = better(body["messages"]) if _is_pair(body) else digits(body["messages"])
            choice["logprobs"] = _logprobs(text[:1], likely, self.digit_mass, body["top_logprobs"])
        return whole

    def _said(self, seen: Seen) -> "Said":
        body = seen.body
        if body.get("structured_outputs") and Ability.CHOICES in self.abilities:
            choices = body["structured_outputs"]["choice"]
            likely = better(body["messages"]) if _is_pair(body) else digits(body["messages"])
            return Said(max(choices, key=lambda choice: likely.get(choice, 0.0)))
        if body.get("response_format") and Ability.JSON_SCHEMA in self.abilities:
            return Said(_held(body["response_format"]["json_schema"]["schema"], body["messages"]))
        if seen.is_judging:  # free to say anything, it mostly gives its digit
            likely = digits(body["messages"])
            return Said("Grade" if draw(10, "chatty", seen.asked) == 0 else max(likely, key=lambda one: likely[one]))
        if bias := body.get("logit_bias"):
            return Said("", unit=chr(int(max(bias, key=lambda token: float(bias[token])))))
        seed = body.get("seed", 0) if Ability.SEED in self.abilities else len(self.seen)
        return speak(body["messages"], seed, body["temperature"])

    def _detection(self, body: Body) -> Mapping[str, int] | None:
        return body.get("repetition_detection") if Ability.REPETITION_DETECTION in self.abilities else None


@dataclass(frozen=True, slots=True)
class Said:
    """What the model would say: `start`, and then `unit` for ever where there is one."""

    start: str
    unit: str = ""

    def written(self, max_tokens: int, detection: Mapping[str, int] | None) -> tuple[str, str]:
        """The text as far as the engine lets it come, and the finish reason."""
        if not self.unit:
            return self.start[:max_tokens], "stop" if len(self.start) < max_tokens else "length"
        if detection and detection["min_pattern_size"] <= len(self.unit) <= detection["max_pattern_size"]:
            caught = self.start + self.unit * detection["min_count"]
            if len(caught) <= max_tokens:
                return caught, "repetition"
        return (self.start + self.unit * max_tokens)[:max_tokens], "length"


def draw(below: int, *key: object) -> int:
    """A number from 0 to below - 1 that is a function of the key."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).digest()
    return int.from_bytes(digest[:8]) % below


def speak(messages: Sequence[Mapping[str, str]], seed: int, temperature: float) -> Said:
    """The model itself. Greedy answers know no seed."""
    marked = re.search(rf"\[({'|'.join(Manner)})\]", messages[-1]["content"])
    key: tuple[object, ...] = (list(messages), temperature) if temperature == 0 else (list(messages), temperature, seed)
    manner = Manner(marked[1]) if marked else None
    if manner is Manner.SAME:
        key = (list(messages),)
    if manner is None:
        manner = {0: Manner.LOOPS, 1: Manner.CAPPED}.get(draw(8, "manner", *key), Manner.ENDS)
    match manner:
        case Manner.BLANK:
            return Said("")
        case Manner.LOOPS:
            return Said(_sentence(4, *key), unit=UNITS[draw(len(UNITS), "unit", *key)])
        case Manner.CAPPED:
            return Said(_sentence(2000, *key))
        case Manner.THINKS:
            return Said(f"<think>{_sentence(6, 'thought', *key)}</think>\n\n{_sentence(8, *key)}")
    return Said(_sentence(6 + draw(12, "length", *key), *key))


def _sentence(words: int, *key: object) -> str:
    return " ".join(WORDS[draw(len(WORDS), index, *key)] for index in range(words)) + ". "


_SHOWN = re.compile(r"^Answer (?:to grade|[A-Z]+): (.*)", re.MULTILINE)


def merit(answer: str) -> float:
    """What an answer is worth to every judge, from 0 to 1."""
    return draw(1000, "merit", answer) / 1000


def _is_pair(body: Body) -> bool:
    return bool(body.get("structured_outputs", {}).get("choice") == ["A", "B"])


def better(messages: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """Of two answers side by side, the one with more merit, wherever it stands."""
    first, second = map(merit, _SHOWN.findall(messages[-1]["content"]))
    return {"A": 0.5 + (first - second) / 2, "B": 0.5 + (second - first) / 2}


def _held(schema: Mapping[str, Any], messages: Sequence[Mapping[str, str]]) -> str:
    """An object of that schema: a grade for each label that is shown, else the first value that is allowed."""
    shown = dict(re.findall(r"^Answer ([A-Z]+): (.*)", messages[-1]["content"], re.MULTILINE))
    fields = schema["properties"]
    grades = {name: round(1 + 8 * merit(shown[name])) if name in shown else fields[name]["enum"][0] for name in fields}
    return json.dumps(grades)


def _classified(model: str, messages: Sequence[Mapping[str, str]], tokens: int) -> Body:
    """As vLLM's classification endpoint answers with a head of one label."""
    reward = 10 * merit(messages[-1]["content"]) - 5
    data = [{"index": 0, "label": "LABEL_0", "probs": [reward], "num_classes": 1}]
    return {"object": "list", "model": model, "data": data, "usage": {"prompt_tokens": tokens, "completion_tokens": 0}}


def digits(messages: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """How likely each digit is: a bell around a mark that lies mostly in the answer, and a little in the judge's taste."""
    graded = re.search(r"Answer to grade: (.*)", messages[-1]["content"])
    answer = graded[1] if graded else messages[-1]["content"]
    taste = draw(1000, "taste", list(messages)) / 1000
    mark = 1 + 8 * (0.8 * merit(answer) + 0.2 * taste)
    bell = {str(digit): math.exp(-((digit - mark) ** 2) / 1.5) for digit in range(1, 10)}
    return {digit: height / math.fsum(bell.values()) for digit, height in bell.items()}


def _logprobs(token: str, likely: Mapping[str, float], mass: float, top: int) -> Body:
    listed = [{"token": digit, "logprob": math.log(max(p * mass, 1e-30))} for digit, p in likely.items()]
    listed.append({"token": "The", "logprob": math.log(max(1 - mass, 1e-30))})
    listed.sort(key=lambda entry: -float(entry["logprob"]))  # type: ignore[arg-type]  # a number, whatever mypy joins
    own = math.log(max(likely.get(token, 0.0) * mass, 1e-30))
    return {"content": [{"token": token, "logprob": own, "top_logprobs": listed[:top]}]}


def _template(messages: Sequence[Mapping[str, str]]) -> str:
    return "".join(f"<{message['role']}>{message['content']}" for message in messages) + "<assistant>"


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


async def empty_text(_: web.Request, answer: Body) -> web.Response:
    answer["choices"][0]["message"]["content"] = None
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
    answered = 0

    def script(seen: Seen) -> Fault | None:
        nonlocal answered
        answered += seen.path == CHAT and not seen.is_canary
        return reset if answered > questions else None

    return script
