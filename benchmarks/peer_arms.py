"""The arms of `benchmarks.peers`: the command of each, its environment, and how it is started and killed.

The rule that its reader must not break: whatever is settled here is the same for every arm, or is that arm's own default.
"""

import asyncio
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml
from platformdirs import user_cache_path

from factory.serving.guard import guarded
from factory.serving.models import DEFAULT_MODEL

HERE = Path(__file__).parent
SAMPLES, AT_ONCE = 6, 60
PEERS = {  # distilabel's own list lacks the last two, without which it does not start and does not end
    "distilabel": ("distilabel[openai]>=1.5", "requests", "beautifulsoup4"),
    "datatrove": ("datatrove[io,inference]>=0.10",),
}
PATIENCE = 120.0  # seconds for one command: ten times what the slowest arm takes here


@dataclass(frozen=True, slots=True)
class Arm:
    """A way to get the answers: its command, and its environment."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]


def environment_of(peer: str) -> Path:
    """The Python of a peer's environment, made where it is not there. Raises CalledProcessError, FileNotFoundError."""
    wanted = hashlib.sha256(" ".join(PEERS[peer]).encode()).hexdigest()[:8]
    folder = user_cache_path("prefactory") / "peers" / f"{peer}-{wanted}"
    python = folder / "bin" / "python"
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}") or "uv"
    if not (folder / "whole").exists():
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        line = [uv, "pip", "install", "--quiet", "--python", str(python), *PEERS[peer]]
        subprocess.run(line, check=True, capture_output=True, text=True)
        (folder / "whole").touch()
    return python


def own_arm(folder: Path, source: Path, url: str, tokens: int) -> Arm:
    recipe = {
        "name": "peer",
        "prompts": {"sources": [{"path": str(source)}]},
        "policy": {"model": DEFAULT_MODEL, "urls": [url]},
        "rollouts": {"max_tokens": tokens, "sampling": {"temperature": 0.7}, "repetition_detection": None},
        "jury": {"judges": [{"judge": "clarity"}]},
        "machine": {"runs": str(folder / "runs"), "concurrency": AT_ONCE},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    line = (sys.executable, "-m", "flows.cli", "rollout", str(folder / "recipe.yaml"))
    return Arm("prefactory", line, dict(os.environ))


def peer_arm(name: str, folder: Path, source: Path, url: str, tokens: int) -> Arm:
    python, script = environment_of(name), HERE / f"peer_{name}.py"
    folder.mkdir(parents=True, exist_ok=True)
    told = (str(source), url, DEFAULT_MODEL, str(SAMPLES), str(tokens), str(AT_ONCE), str(folder))
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return Arm(name, (str(python), str(script), *told), env | {"HF_HUB_OFFLINE": "1"})


def arm_of(name: str, folder: Path, source: Path, url: str, tokens: int) -> Arm:
    return (own_arm if name == "prefactory" else lambda *more: peer_arm(name, *more))(folder, source, url, tokens)


async def start(arm: Arm, log: Path) -> asyncio.subprocess.Process:
    """Under a guard, which holds the other end of the pipe: an arm ends with this benchmark, however that is stopped."""
    line = guarded(arm.command)
    with log.open("ab") as sink:
        return await asyncio.create_subprocess_exec(
            *line, stdin=subprocess.PIPE, stdout=sink, stderr=sink, env=arm.env, start_new_session=True
        )


async def finish(process: asyncio.subprocess.Process) -> bool:
    """Whether it ended well in time; if not in time, it is killed."""
    try:
        return await asyncio.wait_for(process.wait(), PATIENCE) == 0
    except TimeoutError:
        await kill(process)
        return False


async def kill(process: asyncio.subprocess.Process) -> None:
    """SIGKILL, with all that came of it. Its guard sees that, and ends by itself."""
    for one in psutil.Process(process.pid).children(recursive=True):
        try:
            one.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    await process.wait()


def last_words(log: Path) -> str:
    return (log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1][:200]
