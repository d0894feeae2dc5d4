"""The client of one model: the only place that speaks HTTP to an engine, and the only place that retries a request.

`Engine.complete` is bounded by one window for each server, so that a stage may ask for thousands of answers at once
and the engine sees `concurrency` of them, in the order in which they were asked for. Every fault becomes one of four
errors of `schemas.errors`: RequestRejected (this request will never do), EngineRefused (none ever will),
EngineUnavailable and EngineTimeout (try again, which was done `TRIES` times).
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from random import Random

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt

from factory.gate import Gate
from factory.keys import without_key
from factory.line import Line
from factory.protocol import Body, Wire, read_reply
from schemas.chat import Completion, Request
from schemas.errors import EngineRefused, EngineTimeout, EngineUnavailable, Fixable, RequestRejected, Transient

TRIES = 6
LONGEST_WAIT = 60.0  # seconds between two tries; a longer Retry-After is honoured up to ten times this
BUSY = frozenset({408, 409, 425, 429})  # 4xx that a retry may cure
REFUSED = {
    401: "the key is missing or wrong: set the environment variable that `api_key_env` names",
    403: "the key may not use this model",
    404: "no such model or address there: it should end in /v1",
}

Sleep = Callable[[float], Awaitable[None]]


@asynccontextmanager
async def http_client(concurrency: int, timeout: float, key: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """A client over aiohttp's transport, which takes a seventh of the CPU of httpx's own for each request."""
    limits = httpx.Limits(max_connections=concurrency + 8, max_keepalive_connections=concurrency + 8)
    if key is not None and not (key.isascii() and key.isprintable()):
        raise EngineRefused(
            "the key in the variable that `api_key_env` names holds a character that no header can hold"
        )
    headers = {"authorization": f"Bearer {key}"} if key else {}
    times = httpx.Timeout(timeout, connect=10.0, pool=None)
    async with httpx.AsyncClient(transport=AiohttpTransport(limits=limits), timeout=times, headers=headers) as client:
        yield client


class _WaitAsAsked(EngineUnavailable):
    """The server said for how many seconds it wants to be left alone."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class TooLong(RequestRejected):
    """The prompt does not fit into the model's context."""


@dataclass
class Replica:
    """One server's address and its share of the window."""

    url: str
    window: asyncio.Semaphore
    in_flight: int = 0


@dataclass
class Engine:
    """A model behind one or more equal servers. `sent` counts every HTTP attempt for an answer.

    Every attempt goes through `gate`. `line` is where whole shards wait for a place, the earliest first.
    """

    client: httpx.AsyncClient
    urls: tuple[str, ...]
    wire: Wire
    concurrency: int
    sleep: Sleep = asyncio.sleep
    jitter: Random = field(default_factory=Random)
    sent: int = 0
    gate: Gate = field(default_factory=Gate)
    line: Line = field(init=False)
    _replicas: list[Replica] = field(init=False)

    def __post_init__(self) -> None:
        self.line = Line(lambda: self.capacity)
        self._replicas = [Replica(url, asyncio.Semaphore(self.concurrency)) for url in self.urls]

    @property
    def capacity(self) -> int:
        """Requests that may be in flight, over all servers."""
        return self.concurrency * len(self.urls)

    async def complete(self, request: Request) -> Completion:
        """One answer. Raises RequestRejected, EngineRefused, EngineUnavailable or EngineTimeout; Halted by the gate."""
        untried = list(self._replicas)
        while True:
            replica = min(untried, key=lambda one: one.in_flight)
            untried.remove(replica)
            try:
                return await self._through(replica, request)
            except Transient:
                # Only a server that is gone hands its requests on: one that answers others has trouble with this one.
                if not untried or await self._lists(replica):
                    raise

    async def _through(self, replica: Replica, request: Request) -> Completion:
        replica.in_flight += 1
        try:
            async with replica.window:
                return await self._with_retries(replica, request)
        finally:
            replica.in_flight -= 1

    async def alive(self) -> bool:
        """Whether any server still lists its models: tells a poison request from a dead engine."""
        for replica in self._replicas:
            if await self._lists(replica):
                return True
        return False

    async def _lists(self, replica: Replica) -> bool:
        try:
            await get_json(self.client, f"{replica.url}/models")
        except (Transient, Fixable):
            return False
        return True

    async def _with_retries(self, replica: Replica, request: Request) -> Completion:
        body = self.wire.body(request)
        async for attempt in AsyncRetrying(
            sleep=self._pause,
            stop=stop_after_attempt(TRIES),
            wait=self._wait,
            retry=retry_if_exception_type(Transient),
            reraise=True,
        ):
            with attempt:
                async with self.gate.through(request) as settle:
                    self.sent += 1
                    began = time.monotonic()
                    content = await post_json(self.client, self.wire.address(replica.url, request), body)
                    seconds = round(time.monotonic() - began, 4)
                    return settle(replace(read_reply(request, content), seconds=seconds))
        raise AssertionError("unreachable: the last try returns or raises")

    async def _pause(self, seconds: float) -> None:
        """Between two tries; a gate that closes meanwhile ends it."""

        async def asleep() -> None:
            await self.sleep(seconds)

        await self.gate.unless_closed(asleep())

    def _wait(self, state: RetryCallState) -> float:
        """Full jitter (Brooker, "Exponential Backoff and Jitter", AWS 2015), or what the server asked for."""
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, _WaitAsAsked):
            return min(error.seconds, 10 * LONGEST_WAIT)
        return self.jitter.uniform(0, min(LONGEST_WAIT, 0.5 * 2**state.attempt_number))


async def post_json(client: httpx.AsyncClient, url: str, body: Body) -> bytes:
    """The response's bytes for a 2xx. Raises as `Engine.complete` does."""
    content = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return await _send(client, "POST", url, content)


async def get_json(client: httpx.AsyncClient, url: str) -> bytes:
    return await _send(client, "GET", url, None)


def _headers(client: httpx.AsyncClient) -> httpx.Headers:
    headers = httpx.Headers(client.headers)
    headers["content-type"] = "application/json"
    return headers


async def _send(client: httpx.AsyncClient, method: str, url: str, body: bytes | None) -> bytes:
    try:
        request = httpx.Request(method, url, content=body, headers=_headers(client))
    except httpx.InvalidURL as error:
        raise EngineRefused(f"{url}: not an address: {error}") from error
    if request.url.userinfo:
        raise EngineRefused(f"{request.url.copy_with(userinfo=b'')}: leave name and password out of the address")
    request.extensions["timeout"] = client.timeout.as_dict()
    try:
        # httpx bounds each read, not the whole: a server that drips a byte a second would hold its place for ever.
        async with asyncio.timeout(client.timeout.read):
            response = without_key(await client.send(request))
    except (TimeoutError, httpx.ReadTimeout, httpx.WriteTimeout) as error:
        raise EngineTimeout(f"{request.url}: no answer within {client.timeout.read:g} s") from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, aiohttp.InvalidURL) as error:
        raise EngineRefused(f"{request.url}: not an address: {error}") from error
    except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
        raise EngineUnavailable(f"{request.url}: {type(error).__name__}: {error}".rstrip(": ")) from error
    _raise_for_status(response)
    return response.content


def _raise_for_status(response: httpx.Response) -> None:
    if response.is_success:
        return
    message = f"{response.request.url}: {response.status_code}: {_reason(response)}"
    if response.status_code >= 500 or response.status_code in BUSY:
        seconds = _retry_after(response)
        raise EngineUnavailable(message) if seconds is None else _WaitAsAsked(message, seconds)
    if hint := REFUSED.get(response.status_code):
        raise EngineRefused(f"{message}; {hint}")
    if response.is_redirect:
        raise EngineRefused(f"{message}; name the address it points to ({response.headers.get('location')})")
    if _is_too_long(response):
        raise TooLong(_reason(response))
    raise RequestRejected(message)


def _retry_after(response: httpx.Response) -> float | None:
    try:
        return max(0.0, float(response.headers.get("retry-after", "")))
    except ValueError:
        return None


def _error_field(response: httpx.Response, name: str) -> str | None:
    try:
        document = json.loads(response.content)
    except ValueError:
        return None
    error = document.get("error") if isinstance(document, dict) else None
    value = error.get(name) if isinstance(error, dict) else None
    return value if isinstance(value, str) else None


def _reason(response: httpx.Response) -> str:
    """The server's own words, one line, bounded."""
    message = _error_field(response, "message") or response.text
    return " ".join(message.split())[:300] or response.reason_phrase


def _is_too_long(response: httpx.Response) -> bool:
    """vLLM names the parameter, which is the text where it is too long to tokenise; OpenAI's own servers give a code."""
    too_long = _error_field(response, "param") in ("input_tokens", "input_text")
    return too_long or _error_field(response, "code") == "context_length_exceeded"
