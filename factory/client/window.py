"""How many requests a server has at once: the window of one server, moved by what the server says. Pure.

Two ways to move it. A vLLM server tells how many requests wait in it and how full its cache is (`ToldWindow`): some
waiting is wanted, so that the engine never idles, and more than that is of no use. Any other server is felt
(`FeltWindow`): its window doubles as long as that brings more tokens a second, as TCP's start-up under BBR does (Cardwell
et al., ACM Queue 14, 2016), since the latency of one answer says little where answers differ in length and batches slow
each other down. With both, what the server turns away makes the window smaller at once and by a share, and it grows
back in steps (AIMD: Chiu and Jain, Computer Networks 17, 1989).

The rule that its reader must not break: requests that were sent before the window shrank say nothing about the smaller
one, so each is marked with the epoch in which it was sent, and only those of the present epoch count.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

CUT = 0.7  # of the window stays when the server turns a request away
START = 8  # places in a window that has to feel its way
PAYS = 1.1  # a doubled window that brings less than this times as much is too large
LESS = 0.75  # of a window: does that do as well?
REST = 20  # epochs until it is tried again whether a larger window pays by now, or a smaller one does
ANSWERS = 16  # at least so many are an epoch
CROWDED = 0.95  # of the KV cache, above which another request would push one out that has begun


@dataclass(frozen=True, slots=True)
class Load:
    """What a vLLM server says of itself."""

    running: int
    waiting: int
    cache: float  # share of the KV cache that is taken


class Window(Protocol):
    """The places for requests of one server."""

    @property
    def places(self) -> int:
        """How many requests may be in flight now: at least one."""

    @property
    def epoch(self) -> int:
        """Marks what is sent now."""

    def answered(self, tokens: int, epoch: int, full: bool, now: float) -> None:
        """A request sent in `epoch` was answered at `now`; `full`: every place was taken."""

    def turned_away(self, epoch: int) -> None:
        """A request sent in `epoch` was too much for the server, which said so."""

    def timed_out(self, epoch: int) -> None:
        """A request sent in `epoch` came to no end."""

    def told(self, load: Load, in_flight: int) -> None:
        """The server says how it fares, with so many requests of ours in it."""


@dataclass
class ToldWindow:
    """Starts at the ceiling: the first look at the server, seconds later, says how much of that is too much."""

    ceiling: int
    epoch: int = 0
    size: float = 0.0

    def __post_init__(self) -> None:
        self.size = float(self.ceiling)

    @property
    def places(self) -> int:
        return max(1, int(self.size))

    def answered(self, tokens: int, epoch: int, full: bool, now: float) -> None:
        """Says nothing that the server does not say better."""

    def turned_away(self, epoch: int) -> None:
        if epoch == self.epoch:
            self.size, self.epoch = max(1.0, self.size * CUT), self.epoch + 1

    def timed_out(self, epoch: int) -> None:
        """Says nothing either: a server that is buried has many waiting in it."""

    def told(self, load: Load, in_flight: int) -> None:
        """Nothing waits and all places are taken: a quarter more. More waits than is wanted: less, by our share of it."""
        wanted = max(2, load.running // 8)
        if load.waiting == 0 and load.cache < CROWDED and in_flight >= self.places:
            self.size = min(float(self.ceiling), self.size + max(1, self.places // 4))
        elif load.waiting > 2 * wanted:
            ours = min(1.0, in_flight / (load.running + load.waiting))
            self.size = max(1.0, min(self.size, in_flight - (load.waiting - wanted) * ours))


class Trying(StrEnum):
    MORE = "more"
    LESS = "less"
    NOTHING = "nothing"


@dataclass
class FeltWindow:
    """Starts small and doubles while that pays, then shrinks while that costs nothing, rests, and tries both again."""

    ceiling: int
    epoch: int = 0
    size: float = 0.0
    trying: Trying = Trying.MORE
    good: float = 0.0  # the size that trying starts from
    pace: float = 0.0  # tokens a second with that size
    knee: float = 0.0  # while nothing is tried it grows to here, step by step
    rested: int = 0
    _began: float | None = None
    _answers: int = 0
    _tokens: int = 0

    def __post_init__(self) -> None:
        self.size = self.good = float(min(START, self.ceiling))
        self.knee = float(self.ceiling)

    @property
    def places(self) -> int:
        return max(1, int(self.size))

    def answered(self, tokens: int, epoch: int, full: bool, now: float) -> None:
        """The first answer of an epoch starts its clock: what came before ran in another window."""
        if self._began is None:
            if epoch == self.epoch:
                self._began = now
            return
        self._answers += 1
        self._tokens += tokens
        if self._answers < max(ANSWERS, 2 * self.places):
            return
        if full:  # else it was not the window that bounded the pace
            self._judge(self._tokens / max(now - self._began, 1e-9))
        self._next_epoch()

    def _judge(self, pace: float) -> None:
        match self.trying:
            case Trying.MORE if pace >= PAYS * self.pace:
                self._try_more(pace)
            case Trying.MORE:
                self._try_less(self.good)
            case Trying.LESS if PAYS * pace >= self.pace:
                self._try_less(self.size)
            case Trying.LESS:
                self._rest(self.good)
            case Trying.NOTHING:
                self.rested += 1
                self.size = min(self.knee, self.size + 1)
                if self.rested >= REST:
                    self._try_more(pace)

    def _try_more(self, pace: float) -> None:
        self.good, self.pace = self.size, pace
        if self.places < self.ceiling:
            self.trying, self.size, self.knee = (
                Trying.MORE,
                min(float(self.ceiling), self.size * 2),
                float(self.ceiling),
            )
        elif self.trying is Trying.MORE:
            self._rest(self.size)
        else:
            self._try_less(self.size)

    def _try_less(self, good: float) -> None:
        self.good = good
        if good <= 1:
            self._rest(good)
        else:
            self.trying, self.size = Trying.LESS, max(1.0, good * LESS)

    def _rest(self, size: float) -> None:
        self.trying, self.size, self.knee, self.rested = Trying.NOTHING, size, size, 0

    def _next_epoch(self) -> None:
        self.epoch += 1
        self._began, self._answers, self._tokens = None, 0, 0

    def turned_away(self, epoch: int) -> None:
        if epoch != self.epoch:
            return
        self.trying, self.size, self.rested = Trying.NOTHING, max(1.0, self.size * CUT), 0
        self._next_epoch()

    def timed_out(self, epoch: int) -> None:
        self.turned_away(epoch)

    def told(self, load: Load, in_flight: int) -> None:
        """Servers of this kind say nothing."""
