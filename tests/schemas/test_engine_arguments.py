"""Which arguments a recipe hands on to vLLM."""

import pytest
from pydantic import ValidationError

from schemas.engine_arguments import ALLOWED, CHOICES, refusal
from schemas.recipe import Machine


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--tensor-parallel-size", "8", "--gpu-memory-utilization=0.9", "--no-enforce-eager"],
        ["-tp", "2", "--kv_cache_dtype", "fp8", "--cudagraph-capture-sizes", "1", "2", "4"],
        ["--tokenizer-mode", "mistral", "--load-format=mistral", "--generation-config", "vllm"],
        ["--seed", "-1"],
    ],
)
def test_refusal_sizes_and_numbers_may_be_set(arguments: list[str]) -> None:
    assert refusal(arguments) is None
    assert Machine.model_validate({"engine_args": arguments}).engine_args == arguments


@pytest.mark.parametrize(
    "arguments",
    [
        ["--trust-remote-code"],
        ["--trust-remote"],
        ["--trust_remote_code=true"],
        ["--seed", "--trust-remote-code"],
        ["--tool-parser-plugin", "/tmp/x.py"],
        ["--reasoning-parser-plugin=/tmp/x.py"],
        ["--middleware", "os.system"],
        ["--logits-processors", "os:system"],
        ["--worker-cls", "x.Y"],
        ["--scheduler-cls", "x.Y"],
        ["--chat-template", "/tmp/x.jinja"],
        ["--config", "/tmp/x.yaml"],
        ["--hf-overrides.auto_map.x", "y"],
        ["--hf-config-path", "/tmp"],
        ["--kv-transfer-config", "{}"],
        ["--host", "0.0.0.0"],
        ["--model", "other"],
        ["--download-dir", "/etc"],
        ["--otlp-traces-endpoint", "http://elsewhere"],
        ["--generation-config", "/tmp/folder"],
        ["--generation-config"],
        ["--distributed-executor-backend", "os.system"],
        ["--load-format", "pt"],
        ["-tp2"],
        ["-x"],
        ["stray"],
        ["--seed=1", "stray"],
    ],
)
def test_refusal_code_files_addresses_and_strays_may_not(arguments: list[str]) -> None:
    assert refusal(arguments)
    with pytest.raises(ValidationError):
        Machine.model_validate({"engine_args": arguments})


def test_refusal_shows_no_value() -> None:
    for arguments in (["--api-key", "hunter2"], ["--api-key=hunter2"], ["hunter2"], ["--load-format=hunter2"]):
        assert "hunter2" not in str(refusal(arguments))


def test_allowed_arguments_with_a_choice_are_listed_once() -> None:
    assert not ALLOWED & set(CHOICES)
