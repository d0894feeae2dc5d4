"""What a person finds on Prefect's page of a run: progress by stage, figures, links, and why shards failed.

The rule that must not break: a page that cannot be written costs the run nothing. Everything is written by a thread of its own,
by Prefect's own functions, and a server that is away for a while is said so once.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from uuid import UUID

import httpx
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.exceptions import PrefectException
from prefect.logging import get_run_logger

from flows.show import clean

EVERY = 5.0  # seconds between two looks of one stage's progress


@dataclass(slots=True)
class _Stage:
    done: int
    total: int
    written: float
    artifact: UUID | None = None

    @property
    def percent(self) -> float:
        return 100.0 if self.total <= 0 else min(100.0, 100 * self.done / self.total)


@dataclass
class Page:
    """A Progress too. Enter it as a context inside a flow run: what is not written yet then is written at the end."""

    run: str
    clock: Callable[[], float] = time.monotonic
    _stages: dict[str, _Stage] = field(default_factory=dict)
    _away: bool = False

    def __enter__(self) -> "Page":
        self._logger = get_run_logger()
        self._context = copy_context()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="prefect-page")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for phase, stage in self._stages.items():
            self._write(self._progress(phase, stage))
        self._writer.shutdown()

    def say(self, line: str) -> None:
        self._logger.info("%s", clean(line).plain)

    def begin(self, phase: str, total: int) -> None:
        before = self._stages.get(phase)
        self._stages[phase] = stage = _Stage(0, total, self.clock(), before.artifact if before else None)
        self._write(self._progress(phase, stage))

    def advance(self, phase: str, steps: int = 1) -> None:
        if (stage := self._stages.get(phase)) is None:
            return
        stage.done += steps
        if self.clock() - stage.written >= EVERY:
            stage.written = self.clock()
            self._write(self._progress(phase, stage))

    def expect(self, phase: str, more: int) -> None:
        if (stage := self._stages.get(phase)) is not None:
            stage.total += more

    def table(self, name: str, rows: Sequence[Mapping[str, object]], about: str) -> None:
        shown = {key: [row[key] for row in rows] for key in rows[0]} if rows else {}
        self._write(lambda: create_table_artifact(table=shown, key=self._key(name), description=about))

    def link(self, name: str, target: Path, about: str) -> None:
        address, key = target.absolute().as_uri(), self._key(name)
        self._write(lambda: create_link_artifact(address, str(target), key=key, description=about))

    def text(self, name: str, markdown: str, about: str) -> None:
        self._write(lambda: create_markdown_artifact(markdown, key=self._key(name), description=about))

    def _key(self, name: str) -> str:
        """Of small letters, digits and dashes, as Prefect wants it; equal for all runs of a folder, which are its versions."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.run}-{name}".lower()).strip("-")

    def _progress(self, phase: str, stage: _Stage) -> Callable[[], object]:
        percent, about = stage.percent, f"{phase}: {stage.done} of {stage.total}"

        def write() -> None:
            if stage.artifact is None:
                made = create_progress_artifact(percent, key=self._key(phase), description=about)
                assert isinstance(made, UUID), "a thread without an event loop has it at once"
                stage.artifact = made
            else:
                update_progress_artifact(stage.artifact, percent, description=about)

        return write

    def _write(self, write: Callable[[], object]) -> None:
        self._writer.submit(self._context.run, self._tried, write)

    def _tried(self, write: Callable[[], object]) -> None:
        try:
            write()
        except (httpx.HTTPError, PrefectException) as error:
            if not self._away:
                self._away = True
                self.say(
                    f"Prefect's server does not take what its page would show ({type(error).__name__}); the run goes on"
                )
        else:
            self._away = False
