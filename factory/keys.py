"""Keys: what one looks like, which processes see one, and that none is ever shown or kept.

The rule that must not break: a key's value goes from the environment into the header of a request and nowhere else. What
a server says passes `without_key` or `answer_without_key` before anybody reads it, and what is said about a recipe passes
`without_likely_keys`.
"""

import base64
import functools
import json
import re
from collections.abc import Collection, Mapping
from urllib.parse import quote, quote_plus

import httpx

from schemas.recipe import Recipe

SHORTEST = 12  # characters; a shorter one ("EMPTY", "token") is a word that an honest answer may hold
_HIDDEN = b"[the key]"
_LIKELY = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:sk|rk|pk|hf|gsk|xai|nvapi|ghp|gho|ghs|github_pat|glpat|pplx|r8|csk)[-_](?=[\w-]*\d)[\w-]{12,}"
    r"|A[KS]IA[A-Z0-9]{16}"
    r"|AIza[\w-]{30,}"
    r"|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"  # a JSON web token
    r"|[Bb]earer\s+\S{8,}"
    r")"
)
_SECRET_WORDS = frozenset(
    {"KEY", "APIKEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIALS", "AUTH"}
)


def looks_like_key(text: str) -> bool:
    """Whether a text holds what the usual vendors' keys look like."""
    return _LIKELY.search(text) is not None


def without_likely_keys(text: str) -> str:
    return _LIKELY.sub("[a key]", text)


def key_names(recipe: Recipe) -> frozenset[str]:
    """The environment variables that a recipe names as holding a key, or an address that only its owner should know."""
    refs = (recipe.policy, *(seat.model for seat in recipe.jury.judges))
    named = [ref.api_key_env for ref in refs if ref is not None]
    return frozenset(name for name in (*named, recipe.schedule.webhook_env) if name)


def keyless(environment: Mapping[str, str], named: Collection[str] = ()) -> dict[str, str]:
    """The environment for a process that has no business with the user's keys: those named, and whatever is called one."""
    return {
        name: value
        for name, value in environment.items()
        if name not in named and not _SECRET_WORDS & set(name.upper().split("_"))
    }


def answer_without_key(content: bytes, key: str | None) -> bytes:
    """An answer without the key that its own request carried, in whatever usual form a server echoes it."""
    return content if key is None or len(key) < SHORTEST else _hidden(content, key)


def without_key(response: httpx.Response) -> httpx.Response:
    """As `answer_without_key`, of a response that is no answer: a short key is taken out too, and headers may hold it."""
    key = response.request.headers.get("authorization", "").removeprefix("Bearer ")
    if not key:
        return response
    body = _hidden(response.content, key)
    raw = [(name, _hidden(value, key)) for name, value in response.headers.raw]
    if body == response.content and raw == response.headers.raw:
        return response
    described = {b"content-encoding", b"content-length", b"transfer-encoding"}  # of the body as it came
    headers = [(name, value) for name, value in raw if name.lower() not in described]
    return httpx.Response(response.status_code, headers=headers, content=body, request=response.request)


def _hidden(content: bytes, key: str) -> bytes:
    for form in _forms(key):
        content = content.replace(form, _HIDDEN)
    return content


@functools.lru_cache(maxsize=64)
def _forms(key: str) -> tuple[bytes, ...]:
    """The key as it is, in JSON, in an address, in hexadecimal, and in base64 wherever in a text it begins."""
    raw = key.encode()
    in_json = json.dumps(key)[1:-1]
    texts = [key, in_json, in_json.replace("/", "\\/"), quote(key), quote(key, safe=""), quote_plus(key)]
    forms = [text.encode() for text in texts]
    if len(key) >= SHORTEST:  # of a short one too little is left that is its own
        forms += [raw.hex().encode(), *_base64_forms(raw)]
    return tuple(dict.fromkeys(sorted(forms, key=len, reverse=True)))


def _base64_forms(raw: bytes) -> list[bytes]:
    """Three, for where the key begins within three bytes; without the letters that its neighbours have a part in."""
    forms = []
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + raw)
        start, end = -(-before * 8 // 6), (before + len(raw)) * 8 // 6
        forms += [whole[start:end], whole[start:end].translate(bytes.maketrans(b"+/", b"-_"))]
    return forms
