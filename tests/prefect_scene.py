"""A real Prefect server and a real worker on loopback, each in a process of its own, as a person starts them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import httpx

from factory.serving.server import choose_port

LOOK = 0.5  # seconds
PATIENCE = 180.0


@dataclass(frozen=True, slots=True)
class FlowRun:
    id: str
    name: str  # of its state
    type: str
    message: str
    wanted: datetime


@dataclass
class Scene:
    """`folder`: for databases and logs, and where runs lie."""

    folder: Path
    more: Mapping[str, str] = field(default_factory=dict)  # to the environment
    port: int = field(default_factory=lambda: choose_port(None))
    processes: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def environment(self) -> dict[str, str]:
        own = {
            "PREFECT_API_URL": self.api,
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PREFECT_PROFILES_PATH": str(self.folder / "profiles.toml"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_WORKER_PREFETCH_SECONDS": "1",
            "PREFECT_API_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
            "PREFECT_CLI_PROMPT": "false",
            "DO_NOT_TRACK": "1",
        }
        return (
            {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
            | own
            | dict(self.more)
        )

    def command(self, *words: str) -> list[str]:
        """A command of this environment, wherever it was started from."""
        return [str(Path(sys.executable).parent / words[0]), *words[1:]]

    def start(self, name: str, *words: str) -> None:
        """In a process group of its own, so that all of it can be killed at once."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                self.command(*words),
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start_server(self) -> None:
        self.start("server", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port))
        self.wait(self.server_answers, "server")

    def server_answers(self) -> bool:
        try:
            return httpx.get(f"{self.api}/health", timeout=5, trust_env=False).is_success
        except httpx.TransportError:
            return False

    def start_worker(self) -> None:
        self.start("worker", "prefect", "worker", "start", "--pool", "prefactory", "--type", "process", "--limit", "4")

    def prefactory(self, *words: str) -> str:
        return self.said("prefactory", *words)

    def said(self, *words: str) -> str:
        """What a command of this environment printed."""
        ended = subprocess.run(
            self.command(*words),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def kill(self, name: str) -> None:
        """All of its group, at once and unasked."""
        process = self.processes.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def wait(self, holds: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
        began = time.monotonic()
        while True:
            with suppress(httpx.TransportError):  # a server whose database is busy is silent for a while
                if holds():
                    return
            if time.monotonic() - began > patience:
                raise AssertionError(f"waited {patience:.0f} s for {what}; logs lie in {self.folder}")
            time.sleep(LOOK)

    def ask(self, path: str, body: Mapping[str, object]) -> list[dict[str, object]]:
        answer = httpx.post(f"{self.api}/{path}", json=body, timeout=30, trust_env=False)
        answer.raise_for_status()
        found: list[dict[str, object]] = answer.json()
        return found

    def runs(self, *names: str) -> list[FlowRun]:
        """Of deployments, in the order in which they were wanted; in states of these names, or all that are not to come."""
        body = {"flow_runs": {"deployment_id": {"is_null_": False}}, "sort": "EXPECTED_START_TIME_ASC"}
        found = [
            FlowRun(
                str(run["id"]),
                str(run["state_name"]),
                str(run["state_type"]),
                str((run["state"] or {}).get("message") or ""),  # type: ignore[attr-defined]  # JSON
                datetime.fromisoformat(str(run["expected_start_time"])),
            )
            for run in self.ask("flow_runs/filter", body)
        ]
        return [run for run in found if (run.name in names if names else run.type != "SCHEDULED")]

    def artifacts(self) -> list[dict[str, object]]:
        return self.ask("artifacts/filter", {})


@contextmanager
def prefect_scene(folder: Path, more: Mapping[str, str] | None = None) -> Iterator[Scene]:
    """With a server that answers. Nothing of it is left behind."""
    scene = Scene(folder, more or {})
    try:
        scene.start_server()
        yield scene
    finally:
        for name in list(scene.processes):
            scene.kill(name)
