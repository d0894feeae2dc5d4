"""HTTP to an engine: one attempt, and what became of it. Nothing here tries again, and nothing else sends.

Every fault becomes one error that says whose it is. RequestRejected: this request's, it will never do, as far as a single
attempt can tell. EngineRefused: the key's, the account's, the model's or the address', no request ever will. The others
are the moment's: Busy (the server asks to be left alone), Unreached (it never saw the request), CutOff (it went away in
the middle), ServerFault (it says that it broke), EngineTimeout (it says nothing), and EngineUnavailable itself for what
cannot be read as an answer.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from factory.client.foreign import read_json
from factory.client.protocol import Body
from factory.keys import answer_without_key, without_key
from schemas.errors import EngineRefused, EngineTimeout, EngineUnavailable, RequestRejected

BUSY = frozenset({429, 529})  # too much is asked: the request is not to blame
PASSING = frozenset({408, 409, 425})  # 4xx that another try may cure
REFUSED = {
    401: "the key is missing or wrong: set the environment variable that `api_key_env` names",
    402: "the account has to be paid for, and the same command goes on from here",
    403: "the key may not use this model",
    404: "no such model or address there: it should end in /v1",
    405: "the address takes no questions: it should end in /v1",
    410: "the model is gone: name another one",
    451: "the law keeps this model from you there: name another one, or another server",
}
NO_MONEY = "insufficient_quota"  # OpenAI's code in a 429 that no wait cures
CONNECT = 10.0  # seconds until a connection stands
LONGEST = 2**26  # bytes of a reply, unpacked: several times what the probabilities of 128k tokens take

Clock = Callable[[], datetime]


class Unreached(EngineUnavailable):
    """No connection came about: the server never saw the request."""


class CutOff(EngineUnavailable):
    """The connection ended before the whole answer was there."""


class ServerFault(EngineUnavailable):
    """The server says that it broke (a 5xx), or that it was the wrong moment."""


class Busy(EngineUnavailable):
    """The server wants to be left alone: for `seconds`, where it said for how long."""

    def __init__(self, message: str, seconds: float | None) -> None:
        super().__init__(message)
        self.seconds = seconds


class TooLong(RequestRejected):
    """The prompt does not fit into the model's context."""


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Link:
    """The way to the servers of one model: their connections, the key, and how long an answer may take.

    It speaks to httpx's transport and not to a client over it, which follows redirects, keeps cookies and logs in, at
    a third of what a request costs. `times` bounds each step; `whole` bounds them together, since a server that drips a
    byte a second would hold its place for ever; LONGEST bounds what it says meanwhile. `now` is only asked where a server
    names a date and has no clock.
    """

    transport: httpx.AsyncBaseTransport
    whole: float
    key: str | None = None
    times: httpx.Timeout = field(default_factory=lambda: httpx.Timeout(None, connect=CONNECT))
    now: Clock = utc_now
    _addresses: dict[str, httpx.URL] = field(init=False, default_factory=dict)

    async def get(self, url: str, within: float | None = None) -> bytes:
        """The response's bytes for a 2xx, `within` so many seconds where not the whole time is meant."""
        return await self._send("GET", url, None, within or self.whole)

    async def post(self, url: str, body: Body, within: float | None = None) -> bytes:
        content = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
        return await self._send("POST", url, content, within or self.whole)

    async def _send(self, method: str, url: str, body: bytes | None, within: float) -> bytes:
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {self.key}"} if self.key else {})
        extensions = {"timeout": self.times.as_dict()}
        request = httpx.Request(method, self._address(url), content=body, headers=headers, extensions=extensions)
        try:
            async with asyncio.timeout(within):
                response = await self.transport.handle_async_request(request)
                try:
                    content = await _read(url, response)
                finally:
                    await response.aclose()
        except TimeoutError as error:
            raise EngineTimeout(f"{url}: no answer within {within:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, aiohttp.InvalidURL, OSError) as error:
            raise self._as_ours(url, error) from error
        if response.is_success:
            return answer_without_key(content, self.key)
        raise _refusal(without_key(_unpacked(response, content, request)), self.now)

    def _address(self, url: str) -> httpx.URL:
        """Parsed once: it costs a quarter of what sending a request does. Raises EngineRefused."""
        if (known := self._addresses.get(url)) is not None:
            return known
        try:
            address = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise EngineRefused(f"{url}: not an address: {error}") from error
        if address.userinfo:
            raise EngineRefused(f"{address.copy_with(userinfo=b'')}: leave name and password out of the address")
        return self._addresses.setdefault(url, address)

    def _as_ours(self, url: str, error: Exception) -> EngineRefused | EngineUnavailable | EngineTimeout:
        """The transport's own errors are told apart by the one below: it calls a lost connection a ConnectTimeout."""
        below = error.__cause__ or error
        message = f"{url}: {type(below).__name__}: {error}".rstrip(": ")
        if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol | aiohttp.InvalidURL):
            return EngineRefused(f"{url}: not an address: {error}")
        if isinstance(below, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            return Unreached(message)
        if isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout):
            return EngineTimeout(f"{url}: not a byte within {self.times.read:g} s")
        return CutOff(message)


@asynccontextmanager
async def http_client(
    concurrency: int,
    timeout: float,
    key: str | None = None,
    connect: float = CONNECT,
    first_byte: float | None = None,
) -> AsyncIterator[Link]:
    """A link with room for so many requests at once, in seconds: `timeout` for the whole answer.

    aiohttp's transport takes a seventh of the CPU of httpx's own for each request.
    """
    limits = httpx.Limits(max_connections=concurrency + 8, max_keepalive_connections=concurrency + 8)
    if key is not None and not (key.isascii() and key.isprintable()):
        raise EngineRefused(
            "the key in the variable that `api_key_env` names holds a character that no header can hold"
        )
    async with AiohttpTransport(limits=limits) as transport:
        yield Link(transport, timeout, key, httpx.Timeout(first_byte, connect=connect, pool=None))


async def _read(url: str, response: httpx.Response) -> bytes:
    """The body, unpacked. Raises EngineUnavailable where it has no end."""
    parts, size = [], 0
    async for part in response.aiter_bytes():
        parts.append(part)
        size += len(part)
        if size > LONGEST:
            raise EngineUnavailable(f"{url}: the reply goes on after {LONGEST >> 20} MiB")
    return b"".join(parts)


def _unpacked(response: httpx.Response, content: bytes, request: httpx.Request) -> httpx.Response:
    headers = response.headers.copy()
    headers.pop("content-encoding", None)
    return httpx.Response(
        response.status_code, headers=headers, content=content, request=request, extensions=response.extensions
    )


def _refusal(response: httpx.Response, now: Clock) -> RequestRejected | EngineRefused | EngineUnavailable:
    message = f"{response.request.url}: {response.status_code}: {_reason(response)}"
    wait = retry_after(response, now)
    if response.status_code in BUSY and _error_field(response, "code") == NO_MONEY:
        return EngineRefused(f"{message}; {REFUSED[402]}")
    if response.status_code in BUSY or (response.is_server_error and wait is not None):
        return Busy(message, wait)
    if response.is_server_error or response.status_code in PASSING:
        return ServerFault(message)
    if hint := REFUSED.get(response.status_code):
        return EngineRefused(f"{message}; {hint}")
    if response.is_redirect:
        return EngineRefused(
            f"{message}; name the address it points to ({_one_line(response.headers.get('location', ''))})"
        )
    return TooLong(_reason(response)) if _is_too_long(response) else RequestRejected(message)


def retry_after(response: httpx.Response, now: Clock) -> float | None:
    """Seconds to wait, from a number or an HTTP date (RFC 9110, 10.2.3); None where there is neither.

    A date is held against the server's own clock, where it sends the time: ours may be wrong by more than the wait.
    """
    asked = response.headers.get("retry-after", "")
    try:
        seconds = float(asked)
    except ValueError:
        until = _date(asked)
        if until is None:
            return None
        seconds = (until - (_date(response.headers.get("date", "")) or now())).total_seconds()
    return None if seconds != seconds else max(0.0, seconds)


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _error_field(response: httpx.Response, name: str) -> str | None:
    try:
        document = read_json(response.content)
    except ValueError:
        return None
    error = document.get("error") if isinstance(document, dict) else None
    value = error.get(name) if isinstance(error, dict) else None
    return value if isinstance(value, str) else None


def _reason(response: httpx.Response) -> str:
    """The server's own words."""
    message = _error_field(response, "message") or response.content.decode("utf-8", "replace")
    return _one_line(message) or response.reason_phrase


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]


def _is_too_long(response: httpx.Response) -> bool:
    """vLLM names the parameter, which is the text where it is too long to tokenise; OpenAI's own servers give a code."""
    too_long = _error_field(response, "param") in ("input_tokens", "input_text")
    return too_long or _error_field(response, "code") == "context_length_exceeded"
