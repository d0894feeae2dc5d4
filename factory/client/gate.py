"""The one gate that every request goes through before it is sent: open, until the user stops the run or its budget is spent.

A closed gate lets nothing more out and leaves alone what is under way: whoever asks is told why by a Halted, and the answers
of those that went through before are waited for and kept. The rules that must not break: the gate counts every HTTP attempt
for an answer before it is made, so that not one more than `max_requests` goes out (canaries and probes, of a token each, are
none); and a request that may take the run past `max_tokens_total` or `max_cost` waits until those under way have said what they
took, and is refused if it still may.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from copy import copy
from dataclasses import dataclass, field
from typing import TypeVar

from factory.client.spending import Spending
from schemas.chat import Completion, Request, Task
from schemas.errors import BudgetSpent, Halted
from schemas.manifest import Spent
from schemas.price import Price
from schemas.recipe import Budget

TEMPLATE_TOKENS = 256  # that a chat template may add to a conversation
TURN_TOKENS = 16  # and to each turn of it
_ROUNDING = 1e-9  # of sums of many small parts
GO_ON = "raise it or leave it out, and the same command goes on from here"

R = TypeVar("R")
Settle = Callable[[Completion], Completion]


def at_most(request: Request) -> int:
    """More tokens than any tokenizer makes of a request and its answer: a token of text is one byte or more."""
    return sum(_sides_at_most(request))


def _sides_at_most(request: Request) -> tuple[int, int]:
    """Read and written."""
    if request.task is Task.SPELL:
        return 0, 0
    read = sum(len(message.content.encode("utf-8", "surrogatepass")) + TURN_TOKENS for message in request.messages)
    read += TEMPLATE_TOKENS + len((request.tools or "").encode("utf-8", "surrogatepass"))
    return read, 0 if request.task is Task.REWARD else request.sampling.max_tokens


@dataclass(frozen=True, slots=True)
class _Taken:
    """By one request, or by several."""

    tokens: int
    money: float

    @classmethod
    def at_most(cls, request: Request, price: Price | None) -> "_Taken":
        sides = _sides_at_most(request)
        return cls(sum(sides), 0.0 if price is None else price.of(*sides))

    def money_of(self, completion: Completion, price: Price | None) -> float:
        """As the server counts; where it counts nothing, the most."""
        read, written = completion.prompt_tokens, completion.completion_tokens
        if price is None or (read, written) == (None, None):
            return self.money
        return price.of(read or 0, written or 0)


@dataclass
class Gate:
    """`spending` None: nothing is counted and nothing limited, and only `close` closes it."""

    budget: Budget = field(default_factory=Budget)
    spending: Spending | None = None
    why: Halted | None = None  # it is closed
    under_way: int = 0
    elsewhere: Spent = field(default_factory=Spent)  # by workers on other machines, as they told
    _reserved: int = 0  # tokens that the requests under way may still take
    _reserved_money: float = 0.0
    _closing: asyncio.Event = field(default_factory=asyncio.Event)
    _settled: asyncio.Event = field(default_factory=asyncio.Event)

    def close(self, why: Halted) -> None:
        """Let nothing more out. The first reason stays."""
        self.why = self.why or why
        self._closing.set()
        self._settled.set()

    def add(self, spent: Spent) -> None:
        """What a worker on another machine sent, and what came back to it: this gate let none of it through."""
        self.elsewhere = self.elsewhere.plus(spent)
        if self.spending is not None:
            self.spending.add(spent)

    def check(self) -> None:
        """Raises Halted where it is closed."""
        if self.why is not None:
            raise copy(self.why)  # it is raised in many places, and each has its own traceback

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """For as long as the run is worked on: what it costs is written down, and its hours are counted."""
        if self.spending is None:
            yield
            return
        with self.spending, self._hours(self.spending):
            yield

    @contextmanager
    def _hours(self, spending: Spending) -> Iterator[None]:
        """Closes the gate when they are used up, whether anybody asks just then or not."""
        if (hours := self.budget.max_hours) is None:
            yield
            return
        why = BudgetSpent(f"budget.max_hours: {hours:g} are used up; {GO_ON}")
        if (left := hours * 3600 - spending.seconds) <= 0:
            self.close(why)
        timer = asyncio.get_running_loop().call_later(left, self.close, why)
        try:
            yield
        finally:
            timer.cancel()

    @asynccontextmanager
    async def through(self, request: Request, price: Price | None = None) -> AsyncIterator[Settle]:
        """Around one HTTP attempt. Call what it yields with the answer. Raises Halted where it is closed."""
        most = _Taken.at_most(request, price)
        await self._enter(most)
        try:
            yield lambda completion: self._settle(completion, most, price)
        finally:
            self.under_way -= 1
            self._reserved -= most.tokens
            self._reserved_money -= most.money
            self._settled.set()

    async def _enter(self, most: _Taken) -> None:
        self.check()
        if self.spending is not None:
            while self._may_be_too_much(self.spending, most) and self.under_way:
                self._settled.clear()
                await self._settled.wait()
                self.check()
            self._close_if_spent(self.spending, most)
            self.check()
            self.spending.sending()
        self.under_way += 1
        self._reserved += most.tokens
        self._reserved_money += most.money

    def _may_be_too_much(self, spending: Spending, most: _Taken) -> bool:
        return self._tokens_left(spending) < most.tokens or self._money_left(spending) < most.money

    def _tokens_left(self, spending: Spending) -> float:
        """With every request under way counted as the most it may take."""
        most = self.budget.max_tokens_total
        return math.inf if most is None else most - spending.tokens - self._reserved

    def _money_left(self, spending: Spending) -> float:
        most = self.budget.max_cost
        return math.inf if most is None else most - spending.money - self._reserved_money + _ROUNDING

    def _close_if_spent(self, spending: Spending, most: _Taken) -> None:
        """`most`: what the next request may take."""
        requests, tokens = self.budget.max_requests, self.budget.max_tokens_total
        if requests is not None and spending.requests >= requests:
            self.close(BudgetSpent(f"budget.max_requests: {requests} are used up; {GO_ON}"))
        elif self._tokens_left(spending) < most.tokens:
            used = f"{spending.tokens} of {tokens} are used and the next request may take {most.tokens}"
            self.close(BudgetSpent(f"budget.max_tokens_total: {used}; {GO_ON}"))
        elif self._money_left(spending) < most.money:
            used = f"{spending.money:.6g} of {self.budget.max_cost} is spent and the next request may cost {most.money:.3g}"
            self.close(BudgetSpent(f"budget.max_cost: {used}; {GO_ON}"))

    def _settle(self, completion: Completion, most: _Taken, price: Price | None) -> Completion:
        if self.spending is not None:
            self.spending.answered(completion, most.tokens, most.money_of(completion, price))
        return completion

    async def unless_closed(self, work: Coroutine[object, None, R], idle: Callable[[], bool] = lambda: True) -> R:
        """What `work` comes to. Where the gate closes before, the work is cancelled if it is `idle` just then, and else left to
        come to its own end. Raises Halted, and what the work raises.
        """
        task, closing = asyncio.ensure_future(work), asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait({task, closing}, return_when=asyncio.FIRST_COMPLETED)
            if not idle():
                await asyncio.wait({task})
        finally:
            closing.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        if task.cancelled():
            self.check()
        return task.result()
