"""The server of the fake engine: aiohttp on loopback, in a thread of this process or in a process of its own."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Mapping, MutableSequence
from dataclasses import dataclass, field
from types import MappingProxyType, TracebackType

from aiohttp import web

from factory.client.protocol import Ability
from tests.fake_engine.faults import (
    CHAT,
    CLASSIFY,
    COMPLETIONS,
    DETOKENIZE,
    METRICS,
    MODELS,
    Script,
    Seen,
    error_body,
    no_faults,
    too_long_body,
)
from tests.fake_engine.model import (
    END,
    Body,
    Said,
    better,
    classified,
    digits,
    draw,
    held,
    is_pair,
    logprobs,
    read,
    speak,
    template,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
SAMPLERS = ("top_k", "min_p", "repetition_penalty")


@dataclass
class FakeEngine:
    """The server. Its fields may be changed while it runs; `seen` holds every request in the order of arrival."""

    model: str = "fake-model"
    abilities: frozenset[Ability] = frozenset(Ability)
    renamed: Mapping[str, str] = field(default_factory=dict)  # finish reasons that a proxy rewrites on the way
    digit_mass: float = 0.9  # on the nine digits, of a judge's first token
    context: int = 16_384  # tokens, prompt and answer together
    faults: Script = no_faults
    seen: MutableSequence[Seen] = field(default_factory=list)  # deque(maxlen=0) where nobody looks
    asked: int = 0  # questions of a run so far, whoever forgets them
    seats: int = 64  # questions that are answered at once, by its own account under /metrics; the others wait
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
        return [seen for seen in self.seen if seen.is_question]

    def __enter__(self) -> "FakeEngine":
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._runner = asyncio.run_coroutine_threadsafe(self.start(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def start(self, extra: Mapping[str, Handler] = MappingProxyType({})) -> web.AppRunner:
        """Listen in the running loop. `extra`: more addresses to answer to."""
        app = web.Application(client_max_size=2**24)
        app.router.add_get("/health", self._serve)
        app.router.add_get(MODELS, self._serve)
        app.router.add_post(CHAT, self._serve)
        app.router.add_post(CLASSIFY, self._serve)
        app.router.add_post(COMPLETIONS, self._serve)
        app.router.add_post(DETOKENIZE, self._serve)
        app.router.add_get(METRICS, self._load)
        for path, handler in extra.items():
            app.router.add_get(path, handler)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port)
        await site.start()
        self.port = runner.addresses[0][1]
        return runner

    async def _load(self, _: web.Request) -> web.Response:
        """As vLLM says it. No question, and therefore not among those that were seen."""
        if Ability.LOAD not in self.abilities:
            return web.Response(status=404)
        running = min(self.in_flight, self.seats)
        figures: dict[str, float] = {"num_requests_running": running, "num_requests_waiting": self.in_flight - running}
        figures["kv_cache_usage_perc"] = running / (4 * self.seats)
        lines = [
            f'vllm:{name}{{engine="0",model_name="{self.model}"}} {value:.1f}\n' for name, value in figures.items()
        ]
        return web.Response(text="# HELP vllm:num_requests_running Number of requests.\n" + "".join(lines))

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        content = await request.read()
        seen = Seen(request.path, dict(request.headers), json.loads(content) if content else {})
        self.seen.append(seen)
        self.asked += seen.is_question
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
        if seen.path == DETOKENIZE:
            return 200, {"prompt": "".join(map(chr, seen.body["tokens"]))}
        if seen.path == COMPLETIONS:
            return 200, read(self.model, seen.body["prompt"])
        if seen.path not in (CHAT, CLASSIFY):
            return 200, {}
        if (seen.path == CLASSIFY) != self.rewards:
            return 404, {"detail": "Not Found"}
        if seen.body["model"] != self.model:
            return 404, error_body(f"The model `{seen.body['model']}` does not exist.", type="NotFoundError", code=404)
        unknown = [name for name in SAMPLERS if name in seen.body]
        if unknown and Ability.SAMPLERS not in self.abilities:
            return 400, error_body(f"Unrecognized request argument supplied: {unknown[0]}")
        asked = template(seen.body["messages"])
        if self.rewards:
            return 200, classified(self.model, seen.body["messages"], len(asked))
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
            likely = better(body["messages"]) if is_pair(body) else digits(body["messages"])
            choice["logprobs"] = logprobs(text[:1], likely, self.digit_mass, body["top_logprobs"])
        return whole

    def _said(self, seen: Seen) -> Said:
        body = seen.body
        if body.get("structured_outputs") and Ability.CHOICES in self.abilities:
            choices = body["structured_outputs"]["choice"]
            likely = better(body["messages"]) if is_pair(body) else digits(body["messages"])
            return Said(max(choices, key=lambda choice: likely.get(choice, 0.0)))
        if body.get("response_format") and Ability.JSON_SCHEMA in self.abilities:
            return Said(held(body["response_format"]["json_schema"]["schema"], body["messages"]))
        if seen.is_judging:  # free to say anything, it mostly gives its digit
            likely = digits(body["messages"])
            return Said("Grade" if draw(10, "chatty", seen.asked) == 0 else max(likely, key=lambda one: likely[one]))
        if bias := body.get("logit_bias"):
            return Said("", unit=chr(int(max(bias, key=lambda token: float(bias[token])))))
        seed = body.get("seed", 0) if Ability.SEED in self.abilities else len(self.seen)
        return speak(body["messages"], seed, body["temperature"], body["max_tokens"])

    def _detection(self, body: Body) -> Mapping[str, int] | None:
        return body.get("repetition_detection") if Ability.REPETITION_DETECTION in self.abilities else None
