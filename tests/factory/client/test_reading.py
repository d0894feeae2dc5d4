"""What a server says of a text that it only reads: log-probabilities, and token ids as text."""

import json

import pytest

from factory.client.protocol import Wire, read_reply
from schemas.chat import Message, Request, Role, Sampling, Task
from schemas.errors import EngineUnavailable

WIRE = Wire("m")
READ = Request("r", (Message(Role.USER, "It rained."),), Sampling(max_tokens=1, seed=0), task=Task.READ)
SPELL = Request("s", (), Sampling(max_tokens=0, seed=0), task=Task.SPELL, token_ids=(5, 6))


def reply(*logprobs: dict[str, float] | None, ids: list[int] | None = None) -> bytes:
    listed = [one if one is None else {token: {"logprob": value} for token, value in one.items()} for one in logprobs]
    choice = {"text": "x", "prompt_logprobs": listed, "prompt_token_ids": ids}
    return json.dumps({"model": "m", "choices": [choice], "usage": {"prompt_tokens": 3}}).encode()


def test_read_text_goes_out_as_it_is_and_asks_for_each_tokens_probability() -> None:
    body = WIRE.body(READ)
    assert (body["prompt"], body["prompt_logprobs"], body["max_tokens"]) == ("It rained.", 0, 1)
    assert WIRE.address("http://h/v1", READ) == "http://h/v1/completions"


def test_read_probabilities_of_the_texts_own_tokens_are_summed() -> None:
    content = reply(None, {"7": -1.0, "9": -0.1}, {"8": -2.0}, ids=[3, 7, 8])
    found = read_reply(READ, content)
    assert (found.logprob, found.logprob_tokens) == (-3.0, 2)


@pytest.mark.parametrize(
    "content",
    [
        reply(),
        reply(None),
        reply(None, {"7": -1.0}, None, ids=[3, 7, 8]),
        reply(None, {"9": -1.0}, ids=[3, 7]),
        reply(None, {"7": -1.0}, ids=[3, 7, 8]),
        reply(None, {"7": -1.0, "9": -0.1}),
        b'{"choices": []}',
        b'{"choices": [{"text": "x"}]}',
    ],
)
def test_read_what_is_not_all_there_is_no_figure(content: bytes) -> None:
    found = read_reply(READ, content)
    assert (found.logprob, found.logprob_tokens) == (None, None)


def test_spell_ids_go_beside_v1_and_come_back_as_text() -> None:
    assert WIRE.body(SPELL) == {"model": "m", "tokens": [5, 6]}
    assert WIRE.address("http://h/v1", SPELL) == "http://h/detokenize"
    assert read_reply(SPELL, b'{"prompt": "It"}').text == "It"


@pytest.mark.parametrize("request_", [READ, SPELL])
def test_reading_page_that_is_no_reply_is_an_engine_fault(request_: Request) -> None:
    with pytest.raises(EngineUnavailable):
        read_reply(request_, b"<html>")


def test_read_counts_that_no_text_has_are_not_known() -> None:
    usage = {"prompt_tokens": 10**30, "completion_tokens": -5}
    found = read_reply(READ, json.dumps({"choices": [{"text": "x"}], "usage": usage}).encode())
    assert (found.prompt_tokens, found.completion_tokens) == (None, None)


def test_read_another_models_answer_is_refused() -> None:
    with pytest.raises(EngineUnavailable, match="instead of"):
        read_reply(READ, reply(None, {"7": -1.0}), answers_as="other")
