"""Keys: told from other texts, kept from local servers, and taken out of whatever a server says.

without_key(response)              # no form of the key that its own request carried is left in it
answer_without_key(content, key)   # nor in what it says where it is an answer
"""

import base64
import gzip
import json
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.keys import (
    SHORTEST,
    answer_without_key,
    key_names,
    keyless,
    looks_like_key,
    without_key,
    without_likely_keys,
)
from schemas.recipe import Recipe

KEY = 'sk-pLant3d/k+y_"0123456789'


def response(
    content: bytes | str, key: str = KEY, status: int = 200, headers: dict[str, str] | None = None
) -> httpx.Response:
    request = httpx.Request("GET", "http://127.0.0.1/v1", headers={"authorization": f"Bearer {key}"} if key else {})
    return httpx.Response(status, content=content, headers=headers, request=request)


FORMS = {
    "as it is": KEY,
    "in JSON": json.dumps({"said": KEY}),
    "in JSON of PHP": json.dumps({"said": KEY}).replace("/", "\\/"),
    "in an address": quote(KEY, safe=""),
    "hexadecimal": KEY.encode().hex(),
    **{f"base64 after {n}": base64.b64encode(b"x" * n + KEY.encode() + b"tail").decode() for n in range(4)},
    "base64 for addresses": base64.urlsafe_b64encode(f"Bearer {KEY}".encode()).decode(),
}


@pytest.mark.parametrize("said", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("status", [401, 307])
def test_without_key_takes_out_every_usual_form(said: str, status: int) -> None:
    cleaned = without_key(response(f"before {said} after", status=status))

    assert answer_without_key(f"before {said} after".encode(), KEY) == cleaned.content
    assert cleaned.status_code == status
    assert "[the key]" in cleaned.text
    assert cleaned.text.startswith("before ")
    assert cleaned.text.endswith(" after")
    for form in (KEY, KEY[4:20], json.dumps(KEY)[1:-1], quote(KEY, safe=""), KEY.encode().hex()):
        assert form not in cleaned.text


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_without_key_base64_of_any_text_around_it_leaves_no_key(before: bytes, after: bytes) -> None:
    said = base64.b64encode(before + KEY.encode() + after)

    assert b"[the key]" in without_key(response(said)).content


def test_without_key_packed_body_and_headers_are_looked_into() -> None:
    packed = gzip.compress(f'{{"error": "{KEY[:17]}"}}'.encode())
    headers = {"content-encoding": "gzip", "location": f"http://elsewhere/?k={quote(KEY[:17])}"}

    cleaned = without_key(response(packed, KEY[:17], 302, headers))

    assert cleaned.text == '{"error": "[the key]"}'
    assert cleaned.headers["location"] == "http://elsewhere/?k=[the key]"
    assert "content-encoding" not in cleaned.headers


@pytest.mark.parametrize(("key", "said"), [(KEY, "Paris."), (None, KEY), ("EMPTY", "The set is EMPTY.")])
def test_without_key_other_answers_stay_what_they_are(key: str | None, said: str) -> None:
    assert answer_without_key(said.encode(), key) == said.encode()


def test_without_key_short_key_is_taken_out_of_what_is_no_answer() -> None:
    assert len("hunter2") < SHORTEST
    assert without_key(response("bad key hunter2", "hunter2", 401)).text == "bad key [the key]"


@pytest.mark.parametrize(
    "text",
    [
        "sk-proj-abc123DEF456ghi",
        "see hf_abcdefghij0123456789 there",
        "AKIAIOSFODNN7EXAMPLE",
        "Bearer abcdefghijkl",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2ln",
        "https://example.com/sk-abc123DEF456ghi/v1",
        "gsk_abcdef0123456789",
    ],
)
def test_looks_like_key_usual_vendors_are_known_and_taken_out(text: str) -> None:
    assert looks_like_key(text)
    assert not looks_like_key(without_likely_keys(text))


@pytest.mark.parametrize(
    "text",
    [
        "LiquidAI/LFM2-1.2B",
        "SmolLM2-135M-Instruct",
        "../data/prompts/short_answers.jsonl",
        "http://127.0.0.1:8000/v1",
        "OPENAI_API_KEY",
        "task-0123456789abcdef",
        "hf_model",
        "sk-learn-compatible-names",
        "<|im_end|>",
        "risk-2024-x",
    ],
)
def test_looks_like_key_names_of_models_and_files_do_not(text: str) -> None:
    assert not looks_like_key(text)


def test_keyless_keeps_back_what_is_named_and_what_is_called_a_key() -> None:
    environment = {
        "PATH": "/bin",
        "MINE": "named",
        "OPENAI_API_KEY": "x",
        "HF_TOKEN": "x",
        "vllm_api_key": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "TOKENIZERS_PARALLELISM": "false",
        "KEYBOARD": "de",
    }

    assert set(keyless(environment, {"MINE"})) == {"PATH", "TOKENIZERS_PARALLELISM", "KEYBOARD"}


def test_key_names_are_the_policys_and_the_judges() -> None:
    recipe = Recipe.model_validate(
        {
            "name": "x",
            "prompts": {"sources": [{"path": "p.jsonl"}]},
            "policy": {"model": "m", "api_key_env": "ONE"},
            "jury": {
                "judges": [
                    {"judge": "clarity", "model": {"model": "j", "api_key_env": "TWO"}},
                    {"judge": "helpfulness"},
                    {"judge": "correctness", "model": {"model": "k"}},
                ]
            },
        }
    )

    assert key_names(recipe) == {"ONE", "TWO"}
