"""Make `.venv` hold what `make run` and `make test` need, from nothing but Python, and do nothing when it does already.

    python3 scripts/bootstrap.py [--engine auto|cpu|cuda|none]
    python3 scripts/bootstrap.py --add browser      one more dependency group; where it cannot be had, that is said and no error

Only the standard library is used here. uv (fetched from the package index into the environment) installs everything in
one resolution; where uv cannot be had, pip installs the same pinned list. `constraints/<engine>.txt` pins every version.
The CPU build of torch is not on the package index itself: it comes from the folder of wheels that UV_FIND_LINKS or
PIP_FIND_LINKS names, or else from PyTorch's own index, which uv knows. Each way that is tried is printed.
"""

from __future__ import annotations  # so that a Python that is too old gets as far as the line that says so

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "prefactory-setup.txt"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
OLDEST = (3, 11)


def say(line: str) -> None:
    print(f"setup: {line}", flush=True)


def engine_for_this_machine() -> str:
    """`cuda` where an NVIDIA driver answers, `cpu` where vLLM has a CPU build, else `none`."""
    if shutil.which("nvidia-smi") and subprocess.run(["nvidia-smi", "-L"], capture_output=True).returncode == 0:
        return "cuda"
    if sys.platform == "linux" and platform.machine() in ("x86_64", "AMD64"):
        return "cpu"
    return "none"


def wanted_stamp(engine: str) -> str:
    """What the environment was made from: when it changes, the environment is brought up to date."""
    digest = hashlib.sha256(f"{engine} {sys.version_info[:2]} {ROOT}".encode())
    for path in (ROOT / "pyproject.toml", constraints(engine), Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def constraints(engine: str) -> Path:
    return ROOT / "constraints" / f"{'cpu' if engine == 'none' else engine}.txt"


def run(command: list[str], environment: dict[str, str] | None = None) -> bool:
    """Whether the command succeeded; its output goes to the terminal, so that a long install is seen to move."""
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0


def uv_environment() -> dict[str, str]:
    """uv does not read pip's settings: hand on the folder of wheels, the index and the certificates."""
    environment = dict(os.environ)
    for theirs, ours in (("find-links", "UV_FIND_LINKS"), ("index-url", "UV_DEFAULT_INDEX"), ("cert", "SSL_CERT_FILE")):
        if value := pip_setting(theirs):
            environment.setdefault(ours, value)
    return environment


def pip_setting(name: str) -> str:
    """From the environment, or else from pip's own files; empty where it is not set."""
    if value := os.environ.get(f"PIP_{name.upper().replace('-', '_')}"):
        return value
    asked = [str(PYTHON), "-m", "pip", "config", "get", f"global.{name}"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()


def targets(engine: str) -> list[str]:
    if engine == "none":
        return ["-e", ".", "--group", "dev"]
    return ["-e", f".[{engine}]", "--group", "dev", "--group", "train"]


def install_with_uv(engine: str) -> bool:
    base = [str(PYTHON), "-m", "uv", "pip", "install", "--python", str(PYTHON), "-c", str(constraints(engine))]
    environment = uv_environment()
    folder = environment.get("UV_FIND_LINKS")
    attempts = [(f"uv, with the wheels in {folder}" if folder else "uv", base)]
    if engine == "cpu":
        attempts.append(("uv, with torch from PyTorch's own index", [*base, "--torch-backend=cpu"]))
    for what, command in attempts:
        say(f"installing ({engine}): {what}")
        if run([*command, *targets(engine)], environment):
            return True
    return False


def install_with_pip(engine: str) -> bool:
    """The pinned list is complete, so that pip needs no resolver and brings nothing that the list leaves out."""
    say(f"installing ({engine}): pip, from {constraints(engine).relative_to(ROOT)}")
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--no-deps"]
    skip = () if engine != "none" else ("torch", "vllm", "nvidia", "triton")
    lines = constraints(engine).read_text().splitlines()
    chosen = VENV / "requirements.txt"
    chosen.write_text("\n".join(line for line in lines if not line.startswith(skip or ("\0",))))
    return run([*pip, "-r", str(chosen)]) and run([*pip, "-e", "."])


def install(engine: str) -> bool:
    has_uv = run([str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv"])
    if has_uv and install_with_uv(engine):
        return True
    if not has_uv:
        say("uv cannot be had from the package index")
    return install_with_pip(engine)


def add(group: str) -> int:
    """Into the environment that is there. Nothing but some tests or benchmarks wants it, and they say so themselves."""
    command = [str(PYTHON), "-m", "uv", "pip", "install", "--quiet", "--python", str(PYTHON), "--group", group]
    if not run([*command, "-c", str(constraints(engine_for_this_machine()))], uv_environment()):
        say(f"the dependency group `{group}` cannot be installed here; what needs it is left out")
    return 0


def no_engine_line(tried: str) -> None:
    say(
        f"no vLLM for this machine ({tried}). Everything else is installed: name a server that runs already in the "
        "recipe, `policy: {model: NAME, urls: [http://HOST:8000/v1]}`"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Set up .venv for prefactory.")
    parser.add_argument("--engine", choices=["auto", "cpu", "cuda", "none"], default="auto")
    parser.add_argument("--add", metavar="GROUP", help="install one more dependency group, and nothing else")
    arguments = parser.parse_args()
    if arguments.add:
        return add(arguments.add)
    engine = arguments.engine
    if sys.version_info < OLDEST:
        say(f"Python {platform.python_version()} is too old: 3.11 or later is needed (make PYTHON=python3.11 …)")
        return 2
    engine = engine_for_this_machine() if engine == "auto" else engine
    stamp = wanted_stamp(engine)
    if PYTHON.exists() and STAMP.exists() and STAMP.read_text().split()[:1] == [stamp]:
        return 0
    began = time.monotonic()
    if not PYTHON.exists():
        say(f"making {VENV.name} with Python {platform.python_version()}")
        try:
            venv.create(VENV, with_pip=True)
        except (subprocess.CalledProcessError, ImportError):
            say(
                "this Python cannot make environments (on Debian and Ubuntu: apt install python3-venv); try another PYTHON="
            )
            return 2
    if engine != "none" and not install(engine):
        no_engine_line(f"tried {engine}; the reasons are above")
        engine = "none"
        if not install(engine):
            say("the environment could not be made; the reason is above")
            return 1
    elif engine == "none":
        no_engine_line(f"{platform.system()} {platform.machine()}, no NVIDIA driver")
        if not install(engine):
            return 1
    STAMP.write_text(f"{stamp} {engine}\n")
    say(f"done in {time.monotonic() - began:.0f} s (engine: {engine})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
