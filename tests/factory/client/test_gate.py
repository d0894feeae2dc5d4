"""The gate: what goes through before it closes, what is refused afterwards, and what it waits for.

gate = Gate(Budget(max_requests=500), Spending(run.spent_path))
async with gate.at_work():
    async with gate.through(request) as settle:  # raises Halted
        settle(await send(request))
"""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.client.gate import Gate, at_most
from factory.client.spending import Spending, read_spent
from schemas.chat import Completion, Message, Request, Role, Sampling, Task
from schemas.errors import BudgetSpent, Halted, Stopped
from schemas.price import Price
from schemas.recipe import Budget

STOP = Stopped("stopped", 2)


def request(text: str = "hello", max_tokens: int = 10, task: Task = Task.CHAT) -> Request:
    return Request("r", (Message(Role.USER, text),), Sampling(max_tokens=max_tokens, seed=1), task=task)


MOST = at_most(request())


def answer(tokens: int) -> Completion:
    return Completion("r", "x", "stop", prompt_tokens=tokens, completion_tokens=0)


async def ask(gate: Gate, tokens: int = 5, asked: Request | None = None, price: Price | None = None) -> None:
    async with gate.through(asked or request(), price) as settle:
        await asyncio.sleep(0)
        settle(answer(tokens))


def ask_many(gate: Gate, count: int, tokens: int = 5) -> list[object]:
    """What became of each, asked at once."""

    async def main() -> list[object]:
        async with gate.at_work():
            return list(await asyncio.gather(*(ask(gate, tokens) for _ in range(count)), return_exceptions=True))

    return asyncio.run(main())


def refused(results: list[object]) -> int:
    return sum(isinstance(result, Halted) for result in results)


def a_gate(path: Path, **budget: float) -> Gate:
    return Gate(Budget.model_validate(budget), Spending(path / "spent.json"))


def test_gate_lets_out_what_cannot_cost_more_than_the_budget_has(tmp_path: Path) -> None:
    price = Price(prompt=1_000_000, completion=0)
    gate = Gate(Budget(max_cost=MOST - 10 + 4 * 5, prices={"m": price}), Spending(tmp_path / "spent.json"))

    async def main() -> list[object]:
        async with gate.at_work():
            return list(await asyncio.gather(*(ask(gate, price=price) for _ in range(9)), return_exceptions=True))

    results = asyncio.run(main())

    assert refused(results) == 4  # five tokens at one each: the sixth might have cost more than was left
    assert "budget.max_cost: 25 of" in str(gate.why)
    assert read_spent(tmp_path / "spent.json").money == 25


def test_gate_charges_the_most_where_the_server_counts_nothing(tmp_path: Path) -> None:
    price = Price(prompt=1_000_000, completion=2_000_000)
    gate = Gate(Budget(prices={"m": price}), Spending(tmp_path / "spent.json"))

    async def main() -> None:
        async with gate.at_work(), gate.through(request(), price) as settle:
            settle(Completion("r", "x", "stop"))

    asyncio.run(main())

    assert read_spent(tmp_path / "spent.json").money == MOST + 10  # ten of the tokens are written ones


def test_gate_without_a_budget_lets_everything_through(tmp_path: Path) -> None:
    gate = a_gate(tmp_path)

    assert refused(ask_many(gate, 200)) == 0
    assert gate.spending is not None
    assert (gate.spending.requests, gate.spending.tokens) == (200, 1000)


@pytest.mark.parametrize("most", [0, 1, 7, 50])
def test_gate_not_one_request_more_than_the_budget_says(tmp_path: Path, most: int) -> None:
    assert refused(ask_many(a_gate(tmp_path, max_requests=most), 50)) == 50 - most


def test_gate_budget_counts_over_all_starts(tmp_path: Path) -> None:
    assert refused(ask_many(a_gate(tmp_path, max_requests=7), 5)) == 0
    assert refused(ask_many(a_gate(tmp_path, max_requests=7), 5)) == 3
    assert refused(ask_many(a_gate(tmp_path, max_requests=9), 5)) == 3


def test_gate_budget_error_names_field_value_and_mend(tmp_path: Path) -> None:
    (first, *_) = ask_many(a_gate(tmp_path, max_requests=0), 1)

    assert isinstance(first, BudgetSpent)
    assert str(first).startswith("budget.max_requests: 0 are used up; raise it")


@given(st.lists(st.integers(0, MOST), min_size=1, max_size=30), st.integers(0, 30 * MOST))
def test_gate_tokens_never_pass_the_budget_and_the_rest_is_less_than_a_request_may_take(
    tmp_path_factory: pytest.TempPathFactory, taken: list[int], most: int
) -> None:
    gate = a_gate(tmp_path_factory.mktemp("gate"), max_tokens_total=most)

    async def main() -> list[object]:
        async with gate.at_work():
            return list(await asyncio.gather(*(ask(gate, tokens) for tokens in taken), return_exceptions=True))

    results = asyncio.run(main())
    assert gate.spending is not None
    assert gate.spending.tokens <= most
    if refused(results):
        assert most - gate.spending.tokens < MOST


def test_gate_waits_for_what_those_under_way_leave_over(tmp_path: Path) -> None:
    """Each may take MOST and takes a tenth: as many go through as the budget holds, one after the other at its end."""
    tenth = MOST // 10

    assert refused(ask_many(a_gate(tmp_path, max_tokens_total=MOST + 9 * tenth), 30, tenth)) == 20


def test_gate_hours_close_it_and_are_counted_over_all_starts(tmp_path: Path) -> None:
    now = 0.0
    gate = Gate(Budget(max_hours=1), Spending(tmp_path / "spent.json", lambda: now))

    async def main() -> None:
        nonlocal now
        async with gate.at_work():
            await ask(gate)
            now = 3600.0

    asyncio.run(main())
    again = Gate(Budget(max_hours=1), Spending(tmp_path / "spent.json", lambda: now))
    more = Gate(Budget(max_hours=1.1), Spending(tmp_path / "spent.json", lambda: now))

    (first,) = ask_many(again, 1)
    assert isinstance(first, BudgetSpent)
    assert "budget.max_hours: 1 are used up" in str(first)
    assert refused(ask_many(more, 1)) == 0


def test_gate_hours_end_what_only_waits(tmp_path: Path) -> None:
    async def main() -> None:
        gate = a_gate(tmp_path, max_hours=0.05 / 3600)
        async with gate.at_work():
            await gate.unless_closed(asyncio.Event().wait())

    with pytest.raises(BudgetSpent, match="max_hours"):
        asyncio.run(main())


def test_gate_closed_lets_those_under_way_end_and_nobody_else_in() -> None:
    gate, ended = Gate(), list[str]()

    async def one(name: str, go_on: asyncio.Event) -> None:
        async with gate.through(request()) as settle:
            await go_on.wait()
            settle(answer(1))
            ended.append(name)

    async def main() -> None:
        go_on = asyncio.Event()
        first = asyncio.create_task(one("first", go_on))
        await asyncio.sleep(0)
        gate.close(STOP)
        gate.close(BudgetSpent("later"))
        with pytest.raises(Stopped):
            await one("second", go_on)
        assert gate.under_way == 1
        go_on.set()
        await first

    asyncio.run(main())
    assert ended == ["first"]
    assert gate.under_way == 0


def test_gate_failed_attempt_is_a_request_and_gives_its_tokens_back(tmp_path: Path) -> None:
    gate = a_gate(tmp_path, max_requests=2, max_tokens_total=MOST)

    async def fails() -> None:
        async with gate.through(request()):
            raise LookupError

    async def main() -> list[object]:
        async with gate.at_work():
            return list(await asyncio.gather(fails(), ask(gate), ask(gate), return_exceptions=True))

    first, second, third = asyncio.run(main())
    assert isinstance(first, LookupError)
    assert second is None
    assert isinstance(third, BudgetSpent)


def test_unless_closed_gives_what_the_work_gives_and_raises_what_it_raises() -> None:
    async def fails() -> None:
        raise LookupError

    async def seven() -> int:
        return 7

    async def main() -> int:
        with pytest.raises(LookupError):
            await Gate().unless_closed(fails())
        return await Gate().unless_closed(seven())

    assert asyncio.run(main()) == 7


def test_unless_closed_cancels_the_work_and_waits_for_its_end() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("in order")

    async def main() -> None:
        gate = Gate()
        asyncio.get_running_loop().call_soon(gate.close, STOP)
        await gate.unless_closed(work())

    with pytest.raises(Stopped):
        asyncio.run(main())
    assert ended == ["in order"]


@pytest.mark.parametrize("idle", [True, False])
def test_unless_closed_lets_work_that_is_not_idle_come_to_its_end(idle: bool) -> None:
    ended: list[str] = []

    async def work(go_on: asyncio.Event) -> str:
        await go_on.wait()
        ended.append("by itself")
        return "done"

    async def main() -> str:
        gate, go_on = Gate(), asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.call_later(0.01, gate.close, STOP)
        loop.call_later(0.05, go_on.set)
        return await gate.unless_closed(work(go_on), idle=lambda: idle)

    if idle:
        with pytest.raises(Stopped):
            asyncio.run(main())
    else:
        assert asyncio.run(main()) == "done"
    assert ended == ([] if idle else ["by itself"])


@given(st.text(max_size=200), st.integers(1, 5000))
def test_at_most_is_no_less_than_a_token_for_each_byte_and_the_cap(text: str, cap: int) -> None:
    assert at_most(request(text, cap)) >= len(text.encode("utf-8", "surrogatepass")) + cap


def test_at_most_of_a_reward_model_has_no_answer_in_it() -> None:
    assert at_most(request(max_tokens=1000, task=Task.REWARD)) < 1000
