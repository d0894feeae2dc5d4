"""Who may ask: somebody on this machine who was given the address, and no other page that is open in the same browser.

The rule that must not break: nothing is answered without the token, and nothing is written for a request that another page, or
another name for this machine, sent.
"""

import re
from collections.abc import Mapping
from hmac import compare_digest

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?", re.IGNORECASE)  # any port: `ssh -L` has its own
HEADERS: Mapping[str, str] = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # without one a browser names no origin when it posts
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Stands before the application. The token is the first part of each path."""

    def __init__(self, inner: ASGIApp, token: str) -> None:
        self._inner = inner
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refused = refusal(str(scope["method"]), str(scope["path"]), Headers(scope=scope), self._token)
        answer = self._inner if refused is None else refused
        await answer(scope, receive, headed)


def refusal(method: str, path: str, headers: Headers, token: str) -> PlainTextResponse | None:
    """Why a request is not answered; None: it is."""
    if not _LOOPBACK.fullmatch(headers.get("host", "")):
        return PlainTextResponse("This page answers to 127.0.0.1 and localhost alone.", 403)
    if not compare_digest(path.split("/")[1].encode(errors="replace"), token.encode()):
        return PlainTextResponse("Not found. The address that `prefactory browse` printed has a token in it.", 404)
    if method not in ("GET", "HEAD") and not _of_own_page(headers):
        return PlainTextResponse("Marks are taken from this page alone.", 403)
    return None


def _of_own_page(headers: Headers) -> bool:
    """A browser says from which page it posts; what is no browser has the token and says nothing."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "same-origin")
    return site == "same-origin" and (origin is None or origin == f"http://{headers.get('host')}")
