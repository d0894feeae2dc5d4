"""What goes over the wire, and what of an answer is believed."""

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain, combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.client.protocol import Ability, Body, Wire, WrongModel, is_doubtful, read_completion
from schemas.chat import Completion, Message, RepetitionDetection, Request, Role, Sampling, TokenAlternative
from schemas.errors import EngineUnavailable

# The fields of a body that need an ability.
FIELDS: Mapping[Ability, set[str]] = {
    Ability.TOKEN_IDS: {"return_token_ids"},
    Ability.SEED: {"seed"},
    Ability.SAMPLERS: {"top_k", "min_p", "repetition_penalty"},
    Ability.REPETITION_DETECTION: {"repetition_detection"},
    Ability.CHOICES: {"structured_outputs"},
    Ability.JSON_SCHEMA: {"response_format"},
    Ability.LOGPROBS: {"logprobs", "top_logprobs"},
    Ability.LOAD: set[str](),
}
CORE = {"model", "messages", "max_tokens", "temperature", "top_p"}
EVERYTHING = Request(
    request_id="r",
    messages=(Message(Role.SYSTEM, "Be brief."), Message(Role.USER, "Hi 🏔️")),
    sampling=Sampling(9, 2**52, 0.7, 0.9, top_k=5, min_p=0.1, repetition_penalty=1.1, stop=("\n",)),
    tools='[{"type": "function"}]',
    repetition_detection=RepetitionDetection(32, 2, 4),
    choices=("1", "2"),
    json_schema='{"type": "object"}',
    top_logprobs=20,
    want_token_ids=True,
)
PLAIN = Request("r", (Message(Role.USER, "Hi"),), Sampling(max_tokens=9, seed=1))
ABILITIES = [frozenset(some) for some in chain(*(combinations(Ability, n) for n in range(len(Ability) + 1)))]


def test_body_full_request_to_a_full_server_says_everything() -> None:
    assert Wire("m").body(EVERYTHING) == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi 🏔️"}],
        "max_tokens": 9,
        "temperature": 0.7,
        "top_p": 0.9,
        "stop": ["\n"],
        "tools": [{"type": "function"}],
        "tool_choice": "none",
        "skip_special_tokens": False,
        "seed": 2**52,
        "top_k": 5,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "return_token_ids": True,
        "repetition_detection": {"max_pattern_size": 32, "min_pattern_size": 2, "min_count": 4},
        "structured_outputs": {"choice": ["1", "2"]},
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "reply", "schema": {"type": "object"}, "strict": True},
        },
        "logprobs": True,
        "top_logprobs": 20,
    }


@pytest.mark.parametrize("request_", [EVERYTHING, PLAIN], ids=["everything", "plain"])
def test_body_every_set_of_abilities_sends_what_is_understood_and_no_more(request_: Request) -> None:
    whole = Wire("m").body(request_)
    for abilities in ABILITIES:
        refused = set(chain(*(FIELDS[ability] for ability in set(Ability) - abilities)))

        body = Wire("m", abilities).body(request_)

        assert body == {name: value for name, value in whole.items() if name not in refused}


def test_body_neutral_settings_are_not_sent() -> None:
    assert set(Wire("m").body(PLAIN)) == CORE | {"seed"}


texts = st.text(st.characters(codec="utf-8"), max_size=20)
ids = st.none() | st.lists(st.integers(0, 2**31 - 1), max_size=5)


@given(
    text=texts, reasoning=st.none() | texts, prompt_ids=ids, token_ids=ids, reason=st.sampled_from(["stop", "length"])
)
def test_read_completion_gives_back_what_was_said(
    text: str, reasoning: str | None, prompt_ids: list[int] | None, token_ids: list[int] | None, reason: str
) -> None:
    reply = {
        "choices": [
            {"message": {"content": text, "reasoning": reasoning}, "finish_reason": reason, "token_ids": token_ids}
        ],
        "prompt_token_ids": prompt_ids,
        "usage": {"prompt_tokens": 3, "completion_tokens": 4},
        "whatever": [1],
    }

    found = read_completion("r", json.dumps(reply).encode())

    assert found == Completion(
        request_id="r",
        text=text,
        finish_reason=reason,
        reasoning=reasoning or None,
        prompt_token_ids=None if prompt_ids is None else tuple(prompt_ids),
        token_ids=None if token_ids is None else tuple(token_ids),
        prompt_tokens=3,
        completion_tokens=4,
    )


def test_read_completion_what_is_not_there_is_none_and_no_default() -> None:
    found = read_completion("r", b'{"choices": [{"message": {"content": null}}]}')

    assert found == Completion("r", text="", finish_reason="")
    assert (found.token_ids, found.prompt_token_ids, found.prompt_tokens) == (None, None, None)


@pytest.mark.parametrize("count", ["-5", "1" + "0" * 400, "1e999", "NaN", "0.5", '"many"', "[1]"])
def test_read_completion_count_that_no_request_can_take_is_not_known_and_costs_no_answer(count: str) -> None:
    usage = f'{{"prompt_tokens": {count}, "completion_tokens": {count}}}'

    found = read_completion("r", f'{{"choices": [{{"message": {{"content": "A."}}}}], "usage": {usage}}}'.encode())

    assert (found.text, found.prompt_tokens, found.completion_tokens) == ("A.", None, None)


def test_read_completion_refusal_is_told_from_an_answer_that_stopped() -> None:
    message = {"content": None, "refusal": "I cannot help with that."}
    body = {"choices": [{"message": message, "finish_reason": "stop"}]}
    completion = read_completion("r", json.dumps(body).encode())
    assert (completion.text, completion.finish_reason) == ("I cannot help with that.", "refusal")


def test_read_completion_older_servers_name_of_reasoning_is_read() -> None:
    reply = {"choices": [{"message": {"content": "x", "reasoning_content": "because"}}]}

    assert read_completion("r", json.dumps(reply).encode()).reasoning == "because"


def a_reply_with(token: str, logprob: float, *top: tuple[str, float]) -> bytes:
    listed = [{"token": name, "logprob": value, "bytes": [1]} for name, value in top]
    content = [{"token": token, "logprob": logprob, "top_logprobs": listed}, {"token": "z", "logprob": -1.0}]
    return json.dumps({"choices": [{"message": {"content": token}, "logprobs": {"content": content}}]}).encode()


def test_read_completion_alternatives_are_those_of_the_first_token() -> None:
    found = read_completion("r", a_reply_with("7", -0.1, ("7", -0.1), ("8", -2.5)))

    assert found.first_token == (TokenAlternative("7", -0.1), TokenAlternative("8", -2.5))


def test_read_completion_token_that_is_not_among_the_top_ones_is_added() -> None:
    found = read_completion("r", a_reply_with("7", -9.0, ("The", -0.1)))

    assert found.first_token == (TokenAlternative("The", -0.1), TokenAlternative("7", -9.0))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html></html>",
        b'{"choices": [{"message"',
        b"null",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": null}',
        b'{"choices": [{}]}',
        b'{"choices": [{"message": {"content": 7}}]}',
        b'{"choices": [{"message": {"content": "x"}, "token_ids": ["a"]}]}',
        b'{"choices": [{"message": {"content": "\\ud800"}}]}',
        b'{"choices": [{"message": {"content": "\xff"}}]}',
        b'{"error": {"message": "overloaded"}}',
    ],
)
def test_read_completion_what_is_none_is_a_fault_of_the_engine_in_one_line(content: bytes) -> None:
    with pytest.raises(EngineUnavailable, match="no chat completion") as caught:
        read_completion("r", content)

    assert "\n" not in str(caught.value)


def test_body_is_what_json_can_say() -> None:
    body: Body = Wire("m").body(EVERYTHING)

    assert json.loads(json.dumps(body, allow_nan=False)) == body


@pytest.mark.parametrize(
    ("number", "believed"), [("-0.1", True), ("-9999.0", True), ("-Infinity", True), ("NaN", False), ("3.0", False)]
)
def test_read_completion_log_probability_that_is_none_is_a_fault_of_the_engine(number: str, believed: bool) -> None:
    content = a_reply_with("7", -0.1, ("7", -0.1)).replace(b'"logprob": -1.0', f'"logprob": {number}'.encode())

    if believed:
        assert read_completion("r", content).text == "7"
        return
    with pytest.raises(EngineUnavailable, match="no chat completion"):
        read_completion("r", content)


def test_read_completion_of_another_model_is_told_by_the_name_in_the_reply() -> None:
    content = b'{"model": "b", "choices": [{"message": {"content": "x"}}]}'

    assert read_completion("r", content).text == read_completion("r", content, "b").text == "x"
    with pytest.raises(WrongModel, match="'b' answered instead of 'a'"):
        read_completion("r", content, "a")


@pytest.mark.parametrize(
    ("completion", "doubtful"),
    [
        (Completion("r", "x", "stop", completion_tokens=5), False),
        (Completion("r", "", "stop", completion_tokens=5), True),
        (Completion("r", "", "stop", completion_tokens=1), False),
        (Completion("r", "", "stop"), False),
        (Completion("r", "", "length", reasoning="well", completion_tokens=5), False),
        (Completion("r", "", "stop", reward=0.5, completion_tokens=5), False),
    ],
)
def test_doubtful_is_an_empty_text_that_tokens_were_spent_on(completion: Completion, doubtful: bool) -> None:
    assert is_doubtful(PLAIN, completion, Wire("m")) is doubtful


def test_doubtful_is_an_empty_text_where_the_server_was_held_to_something_else() -> None:
    held = replace(PLAIN, choices=("1", "2"))
    empty = Completion("r", "", "length", completion_tokens=1)

    assert is_doubtful(held, empty, Wire("m"))
    assert not is_doubtful(held, empty, Wire("m", frozenset(Ability) - {Ability.CHOICES}))
