"""What a vLLM server says of its load under `/metrics`, in Prometheus' text form. Pure.

One server may run several engines, each with lines of its own: requests are added up, and of the caches the fullest
counts.
"""

import re

from factory.client.window import Load

_LINE = re.compile(
    r"^vllm:(num_requests_running|num_requests_waiting|kv_cache_usage_perc)(?:\{[^}]*\})? ([0-9.eE+-]+)$", re.MULTILINE
)


def metrics_address(url: str) -> str:
    """Beside `/v1`, not under it."""
    return f"{url.removesuffix('/v1')}/metrics"


def read_load(metrics: bytes) -> Load | None:
    """None where it is not vLLM that speaks."""
    found: dict[str, list[float]] = {}
    try:
        for name, value in _LINE.findall(metrics.decode("utf-8", "replace")):
            found.setdefault(name, []).append(float(value))
        if not {"num_requests_running", "num_requests_waiting"} <= found.keys():
            return None
        running, waiting = sum(found["num_requests_running"]), sum(found["num_requests_waiting"])
        return Load(int(running), int(waiting), max(found.get("kv_cache_usage_perc", [0.0])))
    except (ValueError, OverflowError):  # "1e+-", or a number without end
        return None
