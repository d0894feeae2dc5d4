"""The client of an engine: which fault becomes which error, how often and how long it tries, how much is under way.

async with http_client(concurrency, timeout, key) as client:
    engine = Engine(client, (url,), Wire("model"), concurrency, sleep=asyncio.sleep, jitter=Random())
    completion = await engine.complete(request)
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.engine import LONGEST_WAIT, TRIES, Engine, TooLong, get_json, http_client, post_json
from factory.protocol import Wire
from schemas.chat import Completion, Message, Request, Role, Sampling
from schemas.errors import EngineRefused, EngineTimeout, EngineUnavailable, FactoryError, RequestRejected
from tests.fake_engine import (
    CHAT,
    FakeEngine,
    Fault,
    Script,
    always,
    busy,
    dies_after,
    drip,
    empty_text,
    error,
    hang,
    html,
    in_turn,
    instead,
    no_choices,
    redirect,
    reset,
    reset_within,
    slowly,
    too_long,
    truncated,
)

T = TypeVar("T")
KEY = "sk-secret-0123456789"


def a_request(asked: str = "Hi [ends]", name: str = "r") -> Request:
    return Request(name, (Message(Role.USER, asked),), Sampling(max_tokens=200, seed=1))


def use(
    url: str,
    do: Callable[[Engine], Awaitable[T]],
    *,
    concurrency: int = 4,
    timeout: float = 20.0,
    key: str | None = None,
    waited: list[float] | None = None,
    more_urls: tuple[str, ...] = (),
) -> T:
    """Run `do` with an engine that notes its waits instead of waiting."""

    async def sleep(seconds: float) -> None:
        if waited is not None:
            waited.append(seconds)

    async def main() -> T:
        async with http_client(concurrency, timeout, key) as client:
            urls = (url, *more_urls)
            return await do(Engine(client, urls, Wire("fake-model"), concurrency, sleep=sleep, jitter=Random(1)))

    return asyncio.run(main())


def failure(url: str, **settings_: float) -> FactoryError:
    """What a request ends in when every try meets the same fault."""
    with pytest.raises(FactoryError) as caught:
        use(url, lambda engine: engine.complete(a_request()), **settings_)  # type: ignore[arg-type]  # timeout alone
    assert "\n" not in str(caught.value)
    return caught.value


# Which fault becomes which error


@pytest.mark.parametrize(
    ("fault", "kind", "tries", "words"),
    [
        (error(500, "CUDA error"), EngineUnavailable, TRIES, "500: CUDA error"),
        (html(502), EngineUnavailable, TRIES, "502: <html>"),
        (error(503), EngineUnavailable, TRIES, "503"),
        (error(408), EngineUnavailable, TRIES, "408"),
        (error(409), EngineUnavailable, TRIES, "409"),
        (busy(), EngineUnavailable, TRIES, "429: too many requests"),
        (busy("2"), EngineUnavailable, TRIES, "429: too many requests"),
        (reset, EngineUnavailable, TRIES, "disconnected"),
        (reset_within, EngineUnavailable, TRIES, ""),
        (truncated, EngineUnavailable, TRIES, "no chat completion"),
        (html(200), EngineUnavailable, TRIES, "no chat completion"),
        (no_choices, EngineUnavailable, TRIES, "it has no choices"),
        (error(400, "no such role"), RequestRejected, 1, "400: no such role"),
        (error(422, "top_p"), RequestRejected, 1, "422: top_p"),
        (too_long, TooLong, 1, "maximum context length is 2048"),
        (instead({"error": "x"}), EngineUnavailable, TRIES, "no chat completion"),
        (error(401, "no key"), EngineRefused, 1, "api_key_env"),
        (error(403, "not yours"), EngineRefused, 1, "may not use this model"),
        (error(404, "what"), EngineRefused, 1, "end in /v1"),
        (redirect("http://elsewhere/v1"), EngineRefused, 1, "http://elsewhere/v1"),
    ],
)  # fmt: skip
def test_engine_fault_becomes_the_error_that_says_what_helps(
    fake_engine: FakeEngine, fault: Fault, kind: type[FactoryError], tries: int, words: str
) -> None:
    fake_engine.faults = always(fault)

    error_ = failure(fake_engine.url)

    # `_WaitAsAsked` is how the engine keeps a wait that it was asked for: a private kind of EngineUnavailable
    assert isinstance(error_, kind)
    assert words in str(error_)
    assert len(fake_engine.seen) == tries


def test_engine_nothing_listens_is_unavailable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))

        assert isinstance(failure(f"http://127.0.0.1:{taken.getsockname()[1]}/v1"), EngineUnavailable)


@pytest.mark.parametrize("url", ["http://no-such-host.invalid/v1", "http://127.0.0.1:1/v1"])
def test_engine_host_or_port_that_is_none_is_unavailable(url: str) -> None:
    assert isinstance(failure(url), EngineUnavailable)


@pytest.mark.parametrize("url", ["ftp://host/v1", "http://:0/v1", "no address", "http://[::1/v1"])
def test_engine_address_that_is_none_is_refused_and_not_tried_again(url: str) -> None:
    assert isinstance(failure(url), EngineRefused)


@pytest.mark.parametrize("fault", [hang, drip])
def test_engine_answer_that_never_ends_is_a_timeout(fake_engine: FakeEngine, fault: Fault) -> None:
    """A drip is within the time limit of each read, and beyond that of the whole."""
    fake_engine.faults = always(fault)

    error_ = failure(fake_engine.url, timeout=0.15)

    assert isinstance(error_, EngineTimeout)
    assert "no answer within 0.15 s" in str(error_)
    assert len(fake_engine.seen) == TRIES


def test_engine_refusal_in_openais_own_words_is_too_long(fake_engine: FakeEngine) -> None:
    body = {"error": {"message": "too long", "param": "messages", "code": "context_length_exceeded"}}

    async def fault(_: web.Request, __: object) -> web.Response:
        return web.json_response(body, status=400)

    fake_engine.faults = always(fault)

    assert isinstance(failure(fake_engine.url), TooLong)


def test_engine_long_error_page_is_cut_to_one_short_line(fake_engine: FakeEngine) -> None:
    fake_engine.faults = always(error(400, "blah\n" * 10_000))

    assert len(str(failure(fake_engine.url))) < 500


def test_engine_empty_answer_is_an_answer(fake_engine: FakeEngine) -> None:
    fake_engine.faults = always(empty_text)

    completion = use(fake_engine.url, lambda engine: engine.complete(a_request()))

    assert (completion.text, completion.finish_reason) == ("", "stop")


def test_engine_answer_is_what_the_model_said(fake_engine: FakeEngine) -> None:
    completion = use(fake_engine.url, lambda engine: engine.complete(a_request()))

    assert completion.request_id == "r"
    assert completion.text.endswith(". ")
    assert (completion.prompt_tokens, completion.completion_tokens) == (
        len("<user>Hi [ends]<assistant>"),
        len(completion.text) + 1,
    )


# How often, and how long it waits


@given(failures=st.integers(0, TRIES - 1))
@settings(max_examples=TRIES)
def test_engine_fault_that_passes_costs_its_tries_and_nothing_else(failures: int) -> None:
    with FakeEngine(faults=in_turn(*[error(500)] * failures)) as engine:
        waited: list[float] = []

        async def ask(client: Engine) -> tuple[Completion, int]:
            return await client.complete(a_request()), client.sent

        completion, sent = use(engine.url, ask, waited=waited)

        assert completion.text
        assert sent == len(engine.seen) == failures + 1
        assert len(waited) == failures


@given(seed=st.integers())
@settings(max_examples=5)
def test_engine_waits_are_random_and_bounded_by_a_doubling(seed: int) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    async def main(url: str) -> None:
        async with http_client(4, 20.0) as client:
            engine = Engine(client, (url,), Wire("fake-model"), 4, sleep=sleep, jitter=Random(seed))
            await engine.complete(a_request())

    with FakeEngine(faults=always(error(500))) as engine, pytest.raises(EngineUnavailable):
        asyncio.run(main(engine.url))

    assert len(waited) == TRIES - 1
    bounds = [min(LONGEST_WAIT, 0.5 * 2**attempt) for attempt in range(1, TRIES)]
    assert all(0 <= wait <= bound for wait, bound in zip(waited, bounds, strict=True))
    expected = Random(seed)
    assert waited == [expected.uniform(0, bound) for bound in bounds]


@pytest.mark.parametrize(
    ("asked", "waits"),
    [("7", 7.0), ("0.5", 0.5), ("0", 0.0), ("-3", 0.0), ("300", 300.0), ("999999", 600.0), ("inf", 600.0)],
)
def test_engine_retry_after_is_honoured_up_to_ten_minutes(fake_engine: FakeEngine, asked: str, waits: float) -> None:
    fake_engine.faults = in_turn(busy(asked))
    waited: list[float] = []

    use(fake_engine.url, lambda engine: engine.complete(a_request()), waited=waited)

    assert waited == [waits]


@pytest.mark.parametrize("asked", ["Wed, 21 Oct 2065 07:28:00 GMT", "soon", "", "nan"])
def test_engine_retry_after_that_is_no_number_is_as_if_not_there(fake_engine: FakeEngine, asked: str) -> None:
    fake_engine.faults = in_turn(busy(asked))
    waited: list[float] = []

    use(fake_engine.url, lambda engine: engine.complete(a_request()), waited=waited)

    assert len(waited) == 1
    assert 0 <= waited[0] <= 1


# How much is under way


@pytest.mark.parametrize("concurrency", [1, 3, 8])
def test_engine_window_is_filled_and_never_exceeded(fake_engine: FakeEngine, concurrency: int) -> None:
    fake_engine.faults = always(slowly(0.02))

    async def ask(engine: Engine) -> None:
        await asyncio.gather(*(engine.complete(a_request(f"number {number}")) for number in range(30)))

    use(fake_engine.url, ask, concurrency=concurrency)

    assert fake_engine.most_in_flight == concurrency
    assert len(fake_engine.seen) == 30


def test_engine_requests_go_out_in_the_order_in_which_they_were_asked(fake_engine: FakeEngine) -> None:
    asked = [f"number {number}" for number in range(30)]

    async def ask(engine: Engine) -> None:
        await asyncio.gather(*(engine.complete(a_request(text)) for text in asked))

    use(fake_engine.url, ask, concurrency=1)

    assert [seen.asked for seen in fake_engine.seen] == asked


def test_engine_wait_between_two_tries_keeps_its_place_in_the_window(fake_engine: FakeEngine) -> None:
    """Else a server that is busy would be sent still more."""
    fake_engine.faults = in_turn(*[busy()] * 10)

    async def ask(engine: Engine) -> None:
        await asyncio.gather(*(engine.complete(a_request(f"number {number}")) for number in range(12)))

    use(fake_engine.url, ask, concurrency=2)

    assert fake_engine.most_in_flight <= 2


def test_engine_replicas_have_a_window_each(fake_engine: FakeEngine) -> None:
    fake_engine.faults = always(slowly(0.02))
    with FakeEngine(faults=always(slowly(0.02))) as other:

        async def ask(engine: Engine) -> None:
            await asyncio.gather(*(engine.complete(a_request(f"number {number}")) for number in range(20)))

        use(fake_engine.url, ask, concurrency=2, more_urls=(other.url,))

        assert (fake_engine.most_in_flight, other.most_in_flight) == (2, 2)
        assert (len(fake_engine.seen), len(other.seen)) == (10, 10)


def test_engine_cancelled_requests_give_their_places_back(fake_engine: FakeEngine) -> None:
    fake_engine.faults = in_turn(hang, hang)

    async def ask(engine: Engine) -> Completion:
        stuck = [asyncio.ensure_future(engine.complete(a_request(f"number {number}"))) for number in range(2)]
        while len(fake_engine.seen) < 2:
            await asyncio.sleep(0.01)
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
        return await engine.complete(a_request())

    assert use(fake_engine.url, ask, concurrency=2).text


def test_engine_replica_that_is_gone_leaves_its_requests_to_the_others(fake_engine: FakeEngine) -> None:
    with FakeEngine(faults=dies_after(-1)) as dead:

        async def ask(engine: Engine) -> list[Completion]:
            return await asyncio.gather(*(engine.complete(a_request(f"number {number}")) for number in range(8)))

        assert len(use(dead.url, ask, more_urls=(fake_engine.url,))) == 8


# Alive


@pytest.mark.parametrize(
    ("script", "alive"),
    [
        (always(error(500)), True),
        (dies_after(-1), False),
        (always(error(500), "/v1/models"), False),
        (always(reset, "/v1/models"), False),
    ],
    ids=["answers fail", "dead", "models fail", "models reset"],
)
def test_engine_is_alive_while_it_lists_its_models(fake_engine: FakeEngine, script: Script, alive: bool) -> None:
    fake_engine.faults = script

    assert use(fake_engine.url, lambda engine: engine.alive()) is alive


def test_engine_is_alive_while_one_replica_is(fake_engine: FakeEngine) -> None:
    with FakeEngine(faults=dies_after(-1)) as dead:
        assert use(dead.url, lambda engine: engine.alive(), more_urls=(fake_engine.url,))


# The key


def test_engine_key_is_a_header_of_every_request(fake_engine: FakeEngine) -> None:
    async def ask(engine: Engine) -> None:
        await engine.complete(a_request())
        await engine.alive()

    use(fake_engine.url, ask, key=KEY)

    assert [seen.headers["Authorization"] for seen in fake_engine.seen] == [f"Bearer {KEY}"] * 2
    assert all(KEY not in str(seen.body) for seen in fake_engine.seen)


def test_engine_without_a_key_sends_no_such_header(fake_engine: FakeEngine) -> None:
    use(fake_engine.url, lambda engine: engine.complete(a_request()))

    assert "Authorization" not in fake_engine.seen[0].headers


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
def test_engine_key_that_the_server_repeats_is_in_no_error(fake_engine: FakeEngine, status: int) -> None:
    fake_engine.faults = always(error(status, f"Incorrect API key provided: {KEY}. Find yours in your account."))

    with pytest.raises(FactoryError) as caught:
        use(fake_engine.url, lambda engine: engine.complete(a_request()), key=KEY)

    assert KEY not in str(caught.value)
    assert "Incorrect API key provided" in str(caught.value)


def test_engine_password_in_the_address_is_in_no_error(fake_engine: FakeEngine) -> None:
    fake_engine.faults = always(error(500))

    assert "geheim" not in str(failure(fake_engine.url.replace("//", "//user:geheim@")))


@pytest.mark.parametrize("key", ["sk-with-newline\n", "sk-ümlaut"])
def test_engine_key_that_no_header_can_hold_is_an_error_of_ours_without_it(fake_engine: FakeEngine, key: str) -> None:
    with pytest.raises(FactoryError) as caught:
        use(fake_engine.url, lambda engine: engine.complete(a_request()), key=key)

    assert key.strip() not in str(caught.value)


# The plain verbs


def test_post_json_sends_text_as_utf8(fake_engine: FakeEngine) -> None:
    async def ask(engine: Engine) -> bytes:
        return await post_json(engine.client, f"{fake_engine.url}/chat/completions", engine.wire.body(a_request("🏔️ ü")))

    assert use(fake_engine.url, ask).startswith(b"{")
    assert fake_engine.seen[0].path == CHAT
    assert fake_engine.seen[0].asked == "🏔️ ü"


def test_get_json_reads_what_is_there(fake_engine: FakeEngine) -> None:
    assert b"fake-model" in use(fake_engine.url, lambda engine: get_json(engine.client, f"{fake_engine.url}/models"))
