"""Which of vLLM's arguments a recipe may pass on: those that set sizes, numbers and speed, and nothing else.

The rule that must not break: an argument that names code, a file, a template, an address or a key is not here. A recipe
may come from a stranger, and vLLM has arguments that import a module, open a port to the world, or trust a model's own
code without the field that says so.
"""

from collections.abc import Sequence

_NAMES = """
async-scheduling attention-backend block-size convert cpu-offload-gb cudagraph-capture-sizes data-parallel-size
data-parallel-size-local decode-context-parallel-size disable-cascade-attn disable-custom-all-reduce
disable-hybrid-kv-cache-manager disable-log-stats disable-sliding-window dtype enable-chunked-prefill enable-eplb
enable-expert-parallel enable-prefix-caching enforce-eager gpu-memory-utilization kv-cache-dtype
kv-cache-memory-bytes language-model-only long-prefill-token-threshold mamba-block-size mamba-cache-dtype
mamba-ssm-cache-dtype max-cudagraph-capture-size max-logprobs max-model-len max-num-batched-tokens max-num-seqs
max-parallel-loading-workers moe-backend num-gpu-blocks-override optimization-level performance-mode
pipeline-parallel-size prefill-context-parallel-size prefix-caching-hash-algo quantization reasoning-parser runner
scheduling-policy seed stream-interval tensor-parallel-size uvicorn-log-level
"""
ALLOWED = frozenset(_NAMES.split())
CHOICES = {  # what else these may be is a folder or the name of a class
    "config-format": ("auto", "hf", "mistral"),
    "distributed-executor-backend": ("mp", "ray", "uni"),
    "generation-config": ("auto", "vllm"),
    "load-format": ("auto", "safetensors", "mistral", "bitsandbytes"),
    "tokenizer-mode": ("auto", "hf", "slow", "mistral"),
}
SHORT = {
    "-tp": "tensor-parallel-size",
    "-pp": "pipeline-parallel-size",
    "-dp": "data-parallel-size",
    "-q": "quantization",
}


def refusal(arguments: Sequence[str]) -> str | None:
    """Why these may not be passed on, without their values, which may be keys; None: they may."""
    wants_value = False
    for index, argument in enumerate(arguments):
        if not argument.startswith("-") or _is_number(argument):
            if not wants_value:
                return f"the {index + 1}. is the value of no argument; write `--name`, and then its value"
            continue  # an argument may have several values
        name, equals, given = argument.partition("=")
        following = arguments[index + 1] if index + 1 < len(arguments) else ""
        if problem := _problem(name, given if equals else following):
            return problem
        wants_value = not equals
    return None


def _problem(name: str, value: str) -> str | None:
    full = SHORT.get(name) or name.removeprefix("--").removeprefix("no-").replace("_", "-")
    if choices := CHOICES.get(full):
        return None if value in choices else f"`--{full}` may be {', '.join(choices)} here; anything else may be code"
    if full in ALLOWED and (name in SHORT or name.startswith("--")):
        return None
    return (
        f"`{name[:40]}` is not among the arguments that a recipe, which may come from anybody, may set; "
        "start that server yourself, and name it in `urls`"
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
