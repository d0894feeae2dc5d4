"""The proxy of `benchmarks.peers`: between an arm and the server, it counts what is asked and what comes back.

The rule that its reader must not break: it answers what the server answered, and knows nothing of whose request it is.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web


@dataclass(slots=True)
class Seen:
    """What passed the proxy since it was last reset: answers asked for and given, and when."""

    asked: int = 0
    given: int = 0
    tokens: int = 0
    first: float | None = None
    last: float = 0.0
    half: asyncio.Event = field(default_factory=asyncio.Event)
    enough: int = sys.maxsize  # answers after which `half` is set


class Proxy:
    """Between the arms and the server. Only requests about the benchmark's own prompts are counted."""

    def __init__(self, target: str, prompts: Sequence[str]) -> None:
        self.target, self.prompts, self.seen, self.url = target.removesuffix("/v1"), frozenset(prompts), Seen(), ""

    async def __aenter__(self) -> "Proxy":
        self._client = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._pass)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await self._client.close()

    async def _pass(self, request: web.Request) -> web.Response:
        body, seen = await request.read(), self.seen
        answers = self._answers(body)
        seen.asked += answers
        if answers and seen.first is None:
            seen.first = time.monotonic()
        kept = {name: value for name, value in request.headers.items() if name.lower() == "content-type"}
        async with self._client.request(
            request.method, self.target + request.raw_path, data=body, headers=kept
        ) as reply:
            content = await reply.read()
        if answers and reply.status == 200:
            seen.last = time.monotonic()
            seen.given += answers
            seen.tokens += int(json.loads(content)["usage"]["completion_tokens"])
            if seen.given >= seen.enough:
                seen.half.set()
        return web.Response(status=reply.status, body=content, content_type=reply.content_type)

    def _answers(self, body: bytes) -> int:
        """How many answers a request asks for; 0 where it asks about something else."""
        document = json.loads(body) if body else {}
        messages = document.get("messages") or [{}]
        return int(document.get("n") or 1) if messages[-1].get("content") in self.prompts else 0
