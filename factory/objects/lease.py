"""Who works on a run in an object store: a lease, held for as long as its holder says again and again that it lives.

    <run>/.lease/000007      of the seventh holder: who it is, and how often it has said so

The rule that must not break: each holder makes a number of its own, one higher than the last, by a put that fails where the
object is there. So of two that want it one wins, a holder that finds a higher number than its own knows that it is none any
more, and no clock of one machine is compared with another's: a holder is dead when it stood still for `expiry` seconds as
the one who waits has counted them. As with every lease, what a holder has under way at that moment may still arrive.
"""

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock

from pydantic import BaseModel, ValidationError

from factory.ledger.lock import AT_ONCE, Owner, command_line
from factory.objects.bucket import NotThere, Objects
from factory.objects.copying import LEASES
from schemas.errors import Busy


class Held(BaseModel):
    """What a lease says."""

    owner: Owner
    copy_of: str  # the copy's own name
    said: int = 0  # how often
    released: bool = False


_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # goes on while the machine sleeps
_MORE = 64  # bytes by which what a holder says may have grown since it was listed


@dataclass(frozen=True, slots=True)
class Pace:
    """In seconds."""

    every: float = 10.0  # a holder says that it lives, and sends what it has made
    expiry: float = 40.0  # silence after which it is none any more


@dataclass
class Lease:
    """`me`: the copy that wants it. Whoever takes a lease holds the copy's own lock: an earlier holder of this copy is dead."""

    objects: Objects
    me: str
    pace: Pace
    clock: Callable[[], float] = lambda: time.clock_gettime(_CLOCK)
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    number: int = field(default=0, init=False)
    _held: Held | None = field(default=None, init=False)
    _heard: float = field(default=0.0, init=False)  # when it last said so
    _one_at_a_time: Lock = field(default_factory=Lock, init=False)

    def take(self, patience: float, say: Callable[[str], None]) -> None:
        """As `factory.ledger.lock.held`. Raises Busy, StorageError, StoreUnavailable."""
        began, seen, since = self.clock(), "", self.clock()
        while True:
            there = self._numbers()
            number = max(there, default=0)
            held = self._read(number, there[number]) if there else None
            silent = self.clock() - since >= self.pace.expiry and held is not None and seen == held.model_dump_json()
            if held is None or held.released or held.copy_of == self.me or silent:
                if self._make(number + 1):
                    self.objects.delete(map(_path, there))
                    return
                continue
            if (said := held.model_dump_json()) != seen:
                alive, seen, since = bool(seen), said, self.clock()
                waits = "waiting for it" if patience else f"looking for {self.pace.expiry:g} s whether it lives"
                if not alive:
                    say(f"{self.objects.url}: held by {held.owner.text()}; {waits}")
                elif patience == AT_ONCE:
                    raise Busy(self._taken(held))
            if 0 < patience < self.clock() - began:
                raise Busy(self._taken(held))
            self.sleep(self.pace.every / 4)

    def _taken(self, held: Held) -> str:
        return f"{self.objects.url}: {held.owner.text()} works on this run; wait for it (--wait), or stop it"

    def check(self) -> None:
        """Before anything is sent: who was not heard of for long, asleep or cut off, has to ask first. Raises as `renew`."""
        if self.clock() - self._heard > self.pace.expiry / 2:
            self.renew()

    def renew(self) -> None:
        """Say that this holder lives. Raises Busy where it is none any more, StorageError, StoreUnavailable."""
        with self._one_at_a_time:
            self._renew()

    def _renew(self) -> None:
        assert self._held is not None, "taken"
        if (last := max(self._numbers(), default=0)) > self.number:
            raise Busy(
                f"{self.objects.url}: another process has taken over this run (lease {last} behind {self.number}), since "
                f"this one was not heard of for {self.pace.expiry:g} s; nothing was sent since, and the other goes on"
            )
        asked = self.clock()
        self._say(self._held.model_copy(update={"said": self._held.said + 1}))
        self._heard = asked

    def release(self) -> None:
        """Raises StorageError, StoreUnavailable."""
        if self._held is not None:  # where another has a higher number, nobody reads this one any more
            self._say(self._held.model_copy(update={"released": True}))

    def _say(self, held: Held) -> None:
        self.objects.write(_path(self.number), held.model_dump_json().encode())
        self._held = held

    def _make(self, number: int) -> bool:
        owner = Owner(pid=os.getpid(), host=socket.gethostname(), since=self.now(), command=command_line())
        held = Held(owner=owner, copy_of=self.me)
        if not self.objects.create(_path(number), held.model_dump_json().encode()):
            return False
        self.number, self._held, self._heard = number, held, self.clock()
        return True

    def _numbers(self) -> dict[int, int]:
        """With the size of each."""
        found = ((path.rpartition("/")[2], item.size) for path, item in self.objects.list(LEASES).items())
        return {int(name): size for name, size in found if name.isdecimal()}

    def _read(self, number: int, size: int) -> Held | None:
        """What a holder says. What cannot be read, or is gone by now, is of nobody: the next put shows which."""
        try:
            return Held.model_validate_json(self.objects.read(_path(number), size + _MORE))
        except (ValidationError, NotThere):
            return None


def _path(number: int) -> str:
    return f"{LEASES}/{number:06d}"
