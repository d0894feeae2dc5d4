"""The counters of a benchmark's server, and its prefix cache."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable

import httpx
import pytest

from benchmarks.serving import Counters, Served
from factory.client.protocol import Wire
from factory.client.transport import Link
from factory.engine import Engine

METRICS = """vllm:prompt_tokens_total{{engine="0"}} {0}.0
vllm:generation_tokens_total{{engine="0"}} 1.0
vllm:prefix_cache_queries_total{{engine="0"}} {0}.0
vllm:prefix_cache_hits_total{{engine="0"}} 2.0
vllm:request_success_total{{engine="0",finished_reason="stop"}} 1.0
"""


async def no_sleep(_: float) -> None:
    return None


def asked(
    handler: Callable[[httpx.Request], httpx.Response], do: Callable[[Served], Coroutine[None, None, object]]
) -> object:
    async def main() -> object:
        transport = httpx.MockTransport(handler)
        engine = Engine(Link(transport, 1.0), ("http://127.0.0.1:1/v1",), Wire("m"), 1)
        async with httpx.AsyncClient(transport=transport) as client:
            return await do(Served(engine, client, no_sleep))

    return asyncio.run(main())


def counting(totals: Iterable[int]) -> Callable[[httpx.Request], httpx.Response]:
    left = iter(totals)

    def handler(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/metrics"
        return httpx.Response(200, text=METRICS.format(next(left)))

    return handler


def test_counters_are_read_when_they_have_come_to_rest() -> None:
    assert asked(counting([5, 7, 7, 9]), Served.counters) == Counters(1, 7, 1, 7, 2)


def test_counters_that_never_rest_are_an_error() -> None:
    with pytest.raises(TimeoutError, match="somebody else asks this server"):
        asked(counting(range(10_000)), Served.counters)


def answering(success: bool) -> Callable[[httpx.Request], httpx.Response]:
    def handler(request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.path) == ("POST", "/reset_prefix_cache")
        return httpx.Response(200, json={"success": success})

    return handler


def test_reset_that_the_server_refuses_is_an_error() -> None:
    asked(answering(True), Served.reset)
    with pytest.raises(RuntimeError, match="refused"):
        asked(answering(False), Served.reset)
