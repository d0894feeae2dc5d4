"""What a run has cost so far, in one small file that every process of the run goes on counting in.

The file is written before a request goes out and again when its answer is there, in one call and always of the same length,
so that it is whole and true whenever the process is killed. The rule: who writes holds the run folder's lock.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from factory import store
from schemas.chat import Completion
from schemas.errors import SchemaError
from schemas.manifest import Spent


def read_spent(path: Path) -> Spent:
    """Nothing where there is no file. Raises SchemaError where it is not readable as one, and StorageError."""
    try:
        return Spent.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Spent()
    except OSError as error:
        raise store.storage_error(path, error) from error
    except ValidationError as error:
        mend = "delete it, and the budget counts from nothing"
        raise SchemaError(f"{path}: does not say what the run has cost; {mend}") from error


@dataclass
class Spending:
    """The counters of a run at work. Enter it as a context: that opens the file, and starts the clock of the hours.

    `path` None: of a worker, which only counts; it tells the process that holds the lock, and that one writes.
    """

    path: Path | None
    clock: Callable[[], float] = time.monotonic
    requests: int = field(init=False)
    prompt_tokens: int = field(init=False)
    completion_tokens: int = field(init=False)
    money: float = field(init=False)
    _seconds: float = field(init=False)
    _began: float | None = None
    _handle: int | None = None

    def __post_init__(self) -> None:
        before = Spent() if self.path is None else read_spent(self.path)
        self.requests, self._seconds = before.requests, before.seconds
        self.prompt_tokens, self.completion_tokens = before.prompt_tokens, before.completion_tokens
        self.money = before.money

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @property
    def seconds(self) -> float:
        return self._seconds + (0.0 if self._began is None else self.clock() - self._began)

    def __enter__(self) -> "Spending":
        assert self.path is not None, "who only counts opens nothing"
        if not self.path.exists():
            store.write_text(self.path, self._text())  # whole from the first: a kill may come before the first request
        try:
            self._handle = os.open(self.path, os.O_RDWR)
        except OSError as error:
            raise store.storage_error(self.path, error) from error
        self._began = self.clock()
        return self

    def __exit__(self, *details: object) -> None:
        assert self._handle is not None, "entered"
        self._write()
        self._seconds, self._began = self.seconds, None
        os.close(self._handle)
        self._handle = None

    def so_far(self) -> Spent:
        return Spent(
            requests=self.requests,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            seconds=self.seconds,
            money=self.money,
        )

    def add(self, spent: Spent) -> None:
        """What was sent and answered elsewhere for this run. The hours are those of the process that counts."""
        self.requests += spent.requests
        self.prompt_tokens += spent.prompt_tokens
        self.completion_tokens += spent.completion_tokens
        self.money += spent.money
        self._write()

    def sending(self) -> None:
        """One more request is about to go out."""
        self.requests += 1
        self._write()

    def answered(self, completion: Completion, at_most: int, money: float = 0.0) -> None:
        """Its answer is there. `at_most`: what it may have taken, for servers that do not say what it took."""
        self.money += money
        said = completion.prompt_tokens, completion.completion_tokens
        if said == (None, None):
            self.prompt_tokens += at_most
        self.prompt_tokens += said[0] or 0
        self.completion_tokens += said[1] or 0
        self._write()

    def _text(self) -> str:
        """Numbers of a fixed width: a shorter text would leave the end of a longer one behind it."""
        return (
            f'{{"requests": {self.requests:>16}, "prompt_tokens": {self.prompt_tokens:>16}, '
            f'"completion_tokens": {self.completion_tokens:>16}, "seconds": {self.seconds:>16.3f}, '
            f'"money": {self.money:>24.9f}}}\n'
        )

    def _write(self) -> None:
        if self._handle is None or self.path is None:
            return
        try:
            os.pwrite(self._handle, self._text().encode(), 0)
        except OSError as error:
            raise store.storage_error(self.path, error) from error
