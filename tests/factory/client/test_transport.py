"""One attempt: what Retry-After asks for, and which fault is told from which."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.client.transport import Busy, CutOff, Link, ServerFault, Unreached, http_client, retry_after
from schemas.errors import EngineTimeout, EngineUnavailable
from tests.fake_engine import FakeEngine, Fault, always, busy, drip, error, hang, reset, reset_within

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


@given(st.text(max_size=40))
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
