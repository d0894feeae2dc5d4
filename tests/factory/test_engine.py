"""The client of an engine: which fault becomes which error, how often and how long it tries, how much is under way.

async with http_client(concurrency, timeout, key) as client:
    engine = Engine(client, (url,), Wire("model"), concurrency, sleep=asyncio.sleep, jitter=Random())
    completion = await engine.complete(request)
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random
from typing import TypeVar

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.client.backoff import LONGEST_WAIT, full_jitter
from factory.client.pool import EngineGone
from factory.client.protocol import Wire
from factory.client.transport import TooLong, http_client
from factory.engine import PATIENCE, TRIES, Engine, RequestFailed
from schemas.chat import Completion, Message, Request, Role, Sampling
from schemas.errors import EngineRefused, FactoryError, RequestRejected
from tests.fake_engine import (
    CHAT,
    Body,
    FakeEngine,
    Fault,
    always,
    busy,
    drip,
    empty_text,
    error,
    error_body,
    hang,
    html,
    in_turn,
    instead,
    nan_logprobs,
    no_choices,
    redirect,
    reset,
    reset_within,
    too_long,
    truncated,
    unknown_reason,
    whenever,
    wrong_model,
)

T = TypeVar("T")
WIRE = Wire("fake-model", answers_as="fake-model")
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
    first_byte: float | None = None,
) -> T:
    """Run `do` with an engine that notes its waits instead of waiting."""

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(0)
        if waited is not None and seconds:
            waited.append(seconds)

    async def main() -> T:
        async with http_client(concurrency, timeout, key, first_byte=first_byte) as client:
            return await do(Engine(client, (url,), WIRE, concurrency, sleep=sleep, jitter=Random(1)))

    return asyncio.run(main())


def failure(url: str, **settings_: float) -> FactoryError:
    """What a request ends in when every try meets the same fault."""
    with pytest.raises(FactoryError) as caught:
        use(url, lambda engine: engine.complete(a_request()), **settings_)  # type: ignore[arg-type]  # timeout alone
    assert "\n" not in str(caught.value)
    return caught.value


# Which fault becomes which error


async def out_of_money(_: web.Request, __: object) -> web.Response:
    """As OpenAI words it, with the status of a server that is busy."""
    body = error_body("You exceeded your current quota", code="insufficient_quota")
    return web.json_response(body, status=429)


@pytest.mark.parametrize(
    ("fault", "kind", "tries", "words"),
    [
        (error(500, "CUDA error"), RequestFailed, TRIES, "500: CUDA error"),
        (html(502), RequestFailed, TRIES, "502: <html>"),
        (error(503), RequestFailed, TRIES, "503"),
        (error(408), RequestFailed, TRIES, "408"),
        (error(409), RequestFailed, TRIES, "409"),
        (reset, RequestFailed, TRIES, "disconnected"),
        (reset_within, RequestFailed, TRIES, ""),
        (truncated, RequestFailed, TRIES, "no chat completion"),
        (html(200), RequestFailed, TRIES, "no chat completion"),
        (no_choices, RequestFailed, TRIES, "it has no choices"),
        (error(400, "no such role"), RequestRejected, 1, "400: no such role"),
        (error(422, "top_p"), RequestRejected, 1, "422: top_p"),
        (too_long, TooLong, 1, "maximum context length is 2048"),
        (instead({"error": "x"}), RequestFailed, TRIES, "no chat completion"),
        (error(401, "no key"), EngineRefused, 1, "api_key_env"),
        (error(402, "Insufficient Balance"), EngineRefused, 1, "has to be paid for"),
        (error(405, "no POST"), EngineRefused, 1, "end in /v1"),
        (error(410, "retired"), EngineRefused, 1, "the model is gone"),
        (error(451, "not there"), EngineRefused, 1, "the law"),
        (out_of_money, EngineRefused, 1, "has to be paid for"),
        (error(403, "not yours"), EngineRefused, 1, "may not use this model"),
        (error(404, "what"), EngineRefused, 1, "end in /v1"),
        (redirect("http://elsewhere/v1"), EngineRefused, 1, "http://elsewhere/v1"),
    ],
)  # fmt: skip
def test_engine_fault_becomes_the_error_that_says_what_helps(
    fake_engine: FakeEngine, fault: Fault, kind: type[FactoryError], tries: int, words: str
) -> None:
    """The engine answers others: it is this request alone that fails."""
    fake_engine.faults = whenever(lambda seen: seen.is_question, fault)

    error_ = failure(fake_engine.url)

    assert isinstance(error_, kind)
    assert words in str(error_)
    assert len(fake_engine.questions) == tries


def test_engine_nothing_listens_is_unavailable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))

        assert isinstance(failure(f"http://127.0.0.1:{taken.getsockname()[1]}/v1"), EngineGone)


@pytest.mark.parametrize("url", ["http://no-such-host.invalid/v1", "http://127.0.0.1:1/v1"])
def test_engine_host_or_port_that_is_none_is_unavailable(url: str) -> None:
    assert isinstance(failure(url), EngineGone)


@pytest.mark.parametrize("url", ["ftp://host/v1", "http://:0/v1", "no address", "http://[::1/v1"])
def test_engine_address_that_is_none_is_refused_and_not_tried_again(url: str) -> None:
    assert isinstance(failure(url), EngineRefused)


@pytest.mark.parametrize("fault", [hang, drip])
def test_engine_answer_that_never_ends_is_a_timeout(fake_engine: FakeEngine, fault: Fault) -> None:
    """A drip is within the time limit of each read, and beyond that of the whole."""
    fake_engine.faults = whenever(lambda seen: seen.is_question, fault)

    error_ = failure(fake_engine.url, timeout=0.5)

    assert isinstance(error_, RequestFailed)
    assert set(error_.faults) == {"timeout"}
    assert "no answer within 0.5 s" in str(error_)


def test_engine_silence_before_the_first_byte_has_a_limit_of_its_own(fake_engine: FakeEngine) -> None:
    fake_engine.faults = in_turn(hang)

    completion = use(fake_engine.url, lambda engine: engine.complete(a_request()), timeout=60, first_byte=0.2)

    assert completion.faults == ("timeout",)


def test_engine_refusal_in_openais_own_words_is_too_long(fake_engine: FakeEngine) -> None:
    body = {"error": {"message": "too long", "param": "messages", "code": "context_length_exceeded"}}

    async def fault(_: web.Request, __: object) -> web.Response:
        return web.json_response(body, status=400)

    fake_engine.faults = always(fault)

    assert isinstance(failure(fake_engine.url), TooLong)


# What a server refuses


@pytest.mark.parametrize("status", [400, 413, 422])
def test_engine_that_refuses_whatever_it_is_asked_stops_everything(fake_engine: FakeEngine, status: int) -> None:
    fake_engine.faults = always(error(status, "model_decommissioned"))

    error_ = failure(fake_engine.url)

    assert isinstance(error_, EngineRefused)
    assert f"{status}: model_decommissioned; it refuses even the smallest request" in str(error_)


def test_engine_refusals_that_come_together_cost_one_or_two_canaries(fake_engine: FakeEngine) -> None:
    fake_engine.faults = whenever(lambda seen: seen.is_question, error(400, "bad role"))

    async def ask(engine: Engine) -> list[object]:
        asked = [engine.complete(a_request(f"number {number}")) for number in range(8)]
        return list(await asyncio.gather(*asked, return_exceptions=True))

    ends = use(fake_engine.url, ask, concurrency=8)

    assert all(isinstance(end, RequestRejected) for end in ends)
    assert 1 <= len([seen for seen in fake_engine.seen if seen.is_canary]) < 8


def test_engine_refusal_is_not_believed_while_the_server_answers_nobody(fake_engine: FakeEngine) -> None:
    fake_engine.faults = in_turn(error(400, "bad role"), error(500), None)

    assert use(fake_engine.url, lambda engine: engine.complete(a_request())).faults == ("server",)


def test_engine_long_error_page_is_cut_to_one_short_line(fake_engine: FakeEngine) -> None:
    fake_engine.faults = always(error(400, "blah\n" * 10_000))

    assert len(str(failure(fake_engine.url))) < 500


def test_engine_empty_answer_is_an_answer(fake_engine: FakeEngine) -> None:
    """Where tokens were spent on it, another try may bring them; the last one is believed."""
    fake_engine.faults = always(empty_text)

    completion = use(fake_engine.url, lambda engine: engine.complete(a_request()))

    assert (completion.text, completion.finish_reason) == ("", "stop")
    assert len(fake_engine.questions) == TRIES


def test_engine_blank_answer_that_cost_no_tokens_is_not_asked_for_again(fake_engine: FakeEngine) -> None:
    completion = use(fake_engine.url, lambda engine: engine.complete(a_request("Hi [blank]")))

    assert (completion.text, completion.finish_reason, len(fake_engine.seen)) == ("", "stop", 1)


@pytest.mark.parametrize("fault", [empty_text, wrong_model, nan_logprobs])
def test_engine_reply_that_contradicts_itself_is_tried_again(fake_engine: FakeEngine, fault: Fault) -> None:
    request = replace(a_request(), top_logprobs=5)
    right = use(fake_engine.url, lambda engine: engine.complete(request))
    fake_engine.faults = in_turn(fault)

    completion = use(fake_engine.url, lambda engine: engine.complete(request))

    assert completion == right
    assert completion.faults == ("unreadable",)


def test_engine_finish_reason_that_is_unknown_is_kept_as_it_came(fake_engine: FakeEngine) -> None:
    fake_engine.faults = in_turn(unknown_reason)

    completion = use(fake_engine.url, lambda engine: engine.complete(a_request()))

    assert (completion.finish_reason, len(fake_engine.seen)) == ("banana", 1)


def test_engine_answer_that_the_server_dropped_is_asked_for_again(fake_engine: FakeEngine) -> None:
    fake_engine.faults = in_turn(instead({"choices": [{"message": {"content": "half"}, "finish_reason": "abort"}]}))

    assert use(fake_engine.url, lambda engine: engine.complete(a_request())).faults == ("unreadable",)


def test_engine_another_model_for_good_stops_everything(fake_engine: FakeEngine) -> None:
    fake_engine.faults = always(wrong_model)

    error_ = failure(fake_engine.url)

    assert isinstance(error_, EngineRefused)
    assert "another-model" in str(error_)


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

    faults = whenever(lambda seen: seen.is_question, error(500))
    with FakeEngine(faults=faults) as engine, pytest.raises(RequestFailed):
        asyncio.run(main(engine.url))

    assert len(waited) == TRIES - 1
    bounds = [min(LONGEST_WAIT, 0.5 * 2**attempt) for attempt in range(1, TRIES)]
    assert all(0 <= wait <= bound for wait, bound in zip(waited, bounds, strict=True))
    expected = Random(seed)
    assert waited == [expected.uniform(0, bound) for bound in bounds]


@pytest.mark.parametrize(
    ("asked", "waits"), [("7", [7.0]), ("0.5", [0.5]), ("300", [300.0]), ("999999", [600.0]), ("inf", [600.0])]
)
def test_engine_retry_after_is_honoured_up_to_ten_minutes(
    fake_engine: FakeEngine, asked: str, waits: list[float]
) -> None:
    fake_engine.faults = in_turn(busy(asked))
    waited: list[float] = []

    use(fake_engine.url, lambda engine: engine.complete(a_request()), waited=waited)

    assert waited == waits


@pytest.mark.parametrize("asked", ["0", "-3", "soon", "", "nan", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_engine_retry_after_that_names_no_wait_is_as_if_not_there(fake_engine: FakeEngine, asked: str) -> None:
    fake_engine.faults = in_turn(busy(asked))
    waited: list[float] = []

    use(fake_engine.url, lambda engine: engine.complete(a_request()), waited=waited)

    assert len(waited) == 1
    assert 0 <= waited[0] <= 1


def test_engine_busy_server_costs_a_request_its_patience_and_not_its_tries(fake_engine: FakeEngine) -> None:
    fake_engine.faults = in_turn(*[busy("1")] * (4 * TRIES))

    assert use(fake_engine.url, lambda engine: engine.complete(a_request())).faults == ("busy",) * (4 * TRIES)


def test_engine_busy_server_that_asks_for_long_waits_costs_no_request(fake_engine: FakeEngine) -> None:
    fake_engine.faults = in_turn(*[busy("600")] * 5)

    assert use(fake_engine.url, lambda engine: engine.complete(a_request())).text


def test_engine_busy_server_that_answers_others_is_waited_for_without_end(fake_engine: FakeEngine) -> None:
    turned_away = int(2 * PATIENCE / 600)

    async def later(request: web.Request, answer: Body) -> web.StreamResponse:
        await asyncio.sleep(0.05)
        return await busy("600")(request, answer)

    left = [later] * turned_away
    fake_engine.faults = lambda seen: left.pop() if "unlucky" in seen.asked and left else None

    async def ask(engine: Engine) -> Completion:
        unlucky = asyncio.ensure_future(engine.complete(a_request("unlucky [ends]")))
        while not unlucky.done():
            await engine.complete(a_request())
        return await unlucky

    assert use(fake_engine.url, ask).faults == ("busy",) * turned_away


def test_engine_request_that_is_too_much_for_a_server_that_answers_others_fails_alone(fake_engine: FakeEngine) -> None:
    """As one that is larger than a limit of tokens a minute: it is turned away for ever."""
    fake_engine.faults = lambda seen: busy("100") if "huge" in seen.asked else None
    waited: list[float] = []

    async def ask(engine: Engine) -> None:
        huge = asyncio.ensure_future(engine.complete(a_request("huge")))
        await asyncio.gather(*(engine.complete(a_request()) for _ in range(3)))
        with pytest.raises(RequestFailed, match="429: too many requests"):
            await huge

    use(fake_engine.url, ask, waited=waited)

    assert PATIENCE <= sum(waited) < PATIENCE + 200


def test_engine_wait_after_any_number_of_faults_is_one() -> None:
    assert 0 <= full_jitter(Random(1), 5000) <= LONGEST_WAIT


def test_engine_server_that_is_busy_for_ever_ends_the_run_and_not_the_request(fake_engine: FakeEngine) -> None:
    fake_engine.faults = whenever(lambda seen: seen.is_question, busy("100"))
    waited: list[float] = []

    async def ask(engine: Engine) -> None:
        with pytest.raises(EngineGone, match="429: too many requests"):
            await engine.complete(a_request())

    use(fake_engine.url, ask, waited=waited)

    assert PATIENCE <= sum(waited) < PATIENCE + 200


# The key


def test_engine_key_is_a_header_of_every_request(fake_engine: FakeEngine) -> None:
    async def ask(engine: Engine) -> None:
        await engine.complete(a_request())
        await engine.client.get(f"{fake_engine.url}/models")

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


def test_link_post_sends_text_as_utf8(fake_engine: FakeEngine) -> None:
    async def ask(engine: Engine) -> bytes:
        return await engine.client.post(f"{fake_engine.url}/chat/completions", engine.wire.body(a_request("🏔️ ü")))

    assert use(fake_engine.url, ask).startswith(b"{")
    assert fake_engine.seen[0].path == CHAT
    assert fake_engine.seen[0].asked == "🏔️ ü"


def test_link_get_reads_what_is_there(fake_engine: FakeEngine) -> None:
    assert b"fake-model" in use(fake_engine.url, lambda engine: engine.client.get(f"{fake_engine.url}/models"))
