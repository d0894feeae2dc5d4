"""One attempt: what Retry-After asks for, and which fault is told from which."""

import asyncio
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fuzz_inputs import dates
from factory.client.transport import LONGEST, Busy, CutOff, Link, ServerFault, Unreached, http_client, retry_after
from schemas.errors import EngineTimeout, EngineUnavailable, RequestRejected
from tests.fake_engine import (
    MODELS,
    FakeEngine,
    Fault,
    always,
    bomb,
    busy,
    drip,
    endless,
    error,
    hang,
    packed,
    reset,
    reset_within,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def asked(header: str, date: str | None = None) -> float | None:
    headers = {"retry-after": header} | ({"date": date} if date else {})
    return retry_after(httpx.Response(429, headers=headers), lambda: NOW)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("Sun, 01 Mar 2026 12:02:30 GMT", 150.0),
        ("Sunday, 01-Mar-26 12:00:30 GMT", 30.0),
        ("Sun Mar  1 12:00:30 2026", 30.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        ("nan", None),
        ("Sun, 99 Mar 2026 12:00:00 GMT", None),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("Mon, 01 Jan 2026 00:00:00 +99999999999999999999", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_any_form_of_a_date(header: str, seconds: float | None) -> None:
    assert asked(header) == seconds


def test_retry_after_date_is_held_against_the_servers_own_clock() -> None:
    """Which is an hour behind ours here."""
    theirs = NOW - timedelta(hours=1)

    assert (
        asked(format_datetime(theirs + timedelta(seconds=20), usegmt=True), format_datetime(theirs, usegmt=True)) == 20
    )


@given(st.text(max_size=40) | dates())
def test_retry_after_takes_any_text(header: str) -> None:
    try:
        httpx.Headers({"retry-after": header})
    except UnicodeEncodeError:
        return
    seconds = asked(header)

    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (error(500), ServerFault),
        (error(503), ServerFault),
        (error(503, headers={"retry-after": "5"}), Busy),
        (busy(), Busy),
        (reset, CutOff),
        (reset_within, CutOff),
        (hang, EngineTimeout),
        (drip, EngineTimeout),
    ],
)
def test_link_fault_is_told_from_the_others(
    fake_engine: FakeEngine, fault: Fault, kind: type[EngineUnavailable] | type[EngineTimeout]
) -> None:
    fake_engine.faults = always(fault)

    async def main() -> None:
        async with http_client(2, 0.3) as link:
            await link.post(f"{fake_engine.url}/chat/completions", {"model": "fake-model", "messages": []} | BODY)

    with pytest.raises(kind):
        asyncio.run(main())


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"[" * 200_000, "application/json"),
        (b'{"error": ' * 100_000, "application/json"),
        (b'{"error": {"message": ' + b"9" * 10_000 + b"}}", "application/json"),
        (b"zz", "text/plain; charset=hex"),
        (b"\xff", "text/plain; charset=idna"),
    ],
    ids=["brackets", "braces", "digits", "no charset of texts", "no charset of these bytes"],
)
def test_link_refusal_that_cannot_be_read_is_a_refusal(body: bytes, kind: str) -> None:
    async def main() -> None:
        headers = {"content-type": kind}
        transport = httpx.MockTransport(lambda _: httpx.Response(400, content=body, headers=headers))
        await Link(transport, 5.0).get("http://host/v1/models")

    with pytest.raises(RequestRejected, match="400: "):
        asyncio.run(main())


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("fault", [endless, bomb], ids=["without end", "packed"])
def test_link_reply_without_end_is_cut_off_before_it_fills_the_memory(
    fake_engine: FakeEngine, fault: Callable[[int], Fault], status: int
) -> None:
    fake_engine.faults = always(fault(status), MODELS)

    async def main() -> None:
        async with http_client(2, 120.0) as link:
            tracemalloc.start()
            try:
                await link.get(f"{fake_engine.url}/models")
            finally:
                most.append(tracemalloc.get_traced_memory()[1])
                tracemalloc.stop()

    most: list[int] = []
    with pytest.raises(EngineUnavailable, match="goes on after 64 MiB"):
        asyncio.run(main())
    assert most[0] < 2 * LONGEST


def test_link_packed_answer_is_unpacked(fake_engine: FakeEngine) -> None:
    fake_engine.faults = always(packed, MODELS)

    async def main() -> bytes:
        async with http_client(2, 20.0) as link:
            return await link.get(f"{fake_engine.url}/models")

    assert b"fake-model" in asyncio.run(main())


BODY = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5, "temperature": 0.0}


def test_link_server_that_does_not_listen_is_unreached() -> None:
    async def main() -> None:
        async with http_client(2, 5.0) as link:
            await link.get("http://127.0.0.1:1/v1/models")

    with pytest.raises(Unreached):
        asyncio.run(main())


def test_link_works_over_any_transport_of_httpx() -> None:
    """The double that httpx brings is enough for whoever has no server at hand."""

    async def main() -> bytes:
        transport = httpx.MockTransport(lambda request: httpx.Response(200, content=request.url.path.encode()))
        return await Link(transport, 5.0).get("http://host/v1/models")

    assert asyncio.run(main()) == b"/v1/models"
