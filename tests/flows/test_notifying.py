"""Who is told of a failure: an address that stays a secret."""

import json

import httpx

from flows.notifying import notice, notify

SECRET = "https://hooks.example.com/services/T000/secret-part"
TOLD = notice("nightly", "round", "Failed", "the engine is gone")


def test_notify_posts_what_happened() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200)

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        assert notify(SECRET, TOLD, client) is None

    (request,) = seen
    assert str(request.url) == SECRET
    assert json.loads(request.content)["text"] == "prefactory: round of nightly: Failed: the engine is gone"


def test_notify_what_goes_wrong_is_said_without_the_address() -> None:
    def refused(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError(f"no route to {request.url}")

    transports = (httpx.MockTransport(refused), httpx.MockTransport(lambda _: httpx.Response(404)))
    for transport in transports:
        with httpx.Client(transport=transport) as client:
            problem = notify(SECRET, TOLD, client)
        assert problem is not None
        assert "secret-part" not in problem
        assert "example" not in problem


def test_notify_address_that_is_none_is_said_and_raises_nothing() -> None:
    with httpx.Client() as client:
        assert notify("not an address", TOLD, client) is not None
