"""Many requests of a shard: what is kept, what is a row with a reason, and what ends the shard."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest

from factory.client.asking import TOO_LONG, Desk, together
from factory.client.protocol import Wire
from factory.client.transport import http_client
from factory.engine import TRIES, Engine
from factory.ledger.journal import Journal
from schemas.chat import Completion, Message, Request, Role, Sampling
from schemas.errors import EngineRefused, EngineUnavailable, StorageError
from tests.fake_engine import (
    FakeEngine,
    Seen,
    always,
    busy,
    dies_after,
    error,
    hang,
    in_turn,
    no_faults,
    reset,
    truncated,
    whenever,
)


def requests(count: int) -> list[Request]:
    sampling = Sampling(max_tokens=100, seed=1)
    return [
        Request(f"r{number}", (Message(Role.USER, f"number {number} [ends]"),), sampling) for number in range(count)
    ]


def ask(
    engine: FakeEngine, journal: Path, asked: Iterable[Request], *, timeout: float = 10.0, concurrency: int = 4
) -> tuple[Desk, int]:
    """The desk afterwards, also in the error's `desk`, and how often it said that a request was over."""
    over: list[None] = []
    desk = Desk(Journal(journal), lambda: over.append(None))

    async def sleep(_: float) -> None:
        return None

    async def main() -> None:
        async with http_client(concurrency, timeout) as client:
            client_ = Engine(client, (engine.url,), Wire("fake-model"), concurrency, sleep=sleep)
            await desk.ask_all([(client_, request) for request in asked])

    asyncio.run(main())
    return desk, len(over)


def test_desk_answers_are_in_the_journal_and_on_disk(fake_engine: FakeEngine, tmp_path: Path) -> None:
    desk, over = ask(fake_engine, tmp_path / "j.jsonl", requests(9))

    assert set(desk.journal.kept) == {f"r{number}" for number in range(9)}
    assert Journal(tmp_path / "j.jsonl").kept == desk.journal.kept
    assert (desk.sent, over, desk.failures) == (9, 9, {})


def test_desk_replayed_journal_sends_nothing_again(fake_engine: FakeEngine, tmp_path: Path) -> None:
    first, _ = ask(fake_engine, tmp_path / "j.jsonl", requests(9))
    fake_engine.seen.clear()

    again, over = ask(fake_engine, tmp_path / "j.jsonl", requests(9))

    assert fake_engine.seen == []
    assert (again.sent, over) == (0, 9)
    assert again.journal.kept == first.journal.kept


@pytest.mark.parametrize("cut", [2, 3, 100])
def test_desk_torn_last_line_is_asked_again_and_no_other(fake_engine: FakeEngine, tmp_path: Path, cut: int) -> None:
    path = tmp_path / "j.jsonl"
    whole, _ = ask(fake_engine, path, requests(5), concurrency=1)
    path.write_bytes(path.read_bytes()[:-cut])
    fake_engine.seen.clear()

    desk, _ = ask(fake_engine, path, requests(5))

    assert [seen.asked for seen in fake_engine.seen] == ["number 4 [ends]"]
    assert desk.journal.kept == whole.journal.kept == Journal(path).kept


def test_desk_poison_request_has_a_reason_and_the_others_answers(fake_engine: FakeEngine, tmp_path: Path) -> None:
    fake_engine.faults = whenever(lambda seen: seen.asked == "number 3 [ends]", error(500, "CUDA error"))

    desk, over = ask(fake_engine, tmp_path / "j.jsonl", requests(6))

    assert set(desk.failures) == {"r3"}
    assert "CUDA error" in desk.failures["r3"]
    assert len(desk.journal.kept) == 5
    assert over == 6
    assert len([seen for seen in fake_engine.chats if seen.asked == "number 3 [ends]"]) == TRIES


def test_desk_request_that_hangs_in_a_living_engine_has_a_reason(fake_engine: FakeEngine, tmp_path: Path) -> None:
    fake_engine.faults = whenever(lambda seen: seen.asked == "number 1 [ends]", hang)

    desk, _ = ask(fake_engine, tmp_path / "j.jsonl", requests(3), timeout=0.3)

    assert "no answer within 0.3 s" in desk.failures["r1"]
    assert set(desk.journal.kept) == {"r0", "r2"}


def test_desk_refused_request_has_the_engines_words(fake_engine: FakeEngine, tmp_path: Path) -> None:
    fake_engine.faults = whenever(lambda seen: seen.asked == "number 1 [ends]", error(400, "bad role"))

    desk, _ = ask(fake_engine, tmp_path / "j.jsonl", requests(3))

    assert desk.failures.keys() == {"r1"}
    assert "400: bad role" in desk.failures["r1"]


def test_desk_prompt_that_does_not_fit_is_marked_as_such(fake_engine: FakeEngine, tmp_path: Path) -> None:
    long = Request("long", (Message(Role.USER, "x" * 40_000),), Sampling(max_tokens=10, seed=1))

    desk, _ = ask(fake_engine, tmp_path / "j.jsonl", [*requests(2), long])

    assert desk.failures["long"].startswith(TOO_LONG)
    assert len(desk.journal.kept) == 2


def test_desk_dead_engine_raises_and_the_journal_keeps_what_came(fake_engine: FakeEngine, tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    fake_engine.faults = dies_after(7)
    with pytest.raises(EngineUnavailable):
        ask(fake_engine, path, requests(20), concurrency=1)
    kept = Journal(path).kept
    fake_engine.faults = no_faults
    fake_engine.seen.clear()

    desk, _ = ask(fake_engine, path, requests(20))

    assert len(kept) == 7
    assert len(fake_engine.seen) == desk.sent == 13
    assert kept.items() <= desk.journal.kept.items()


def test_desk_engine_that_hangs_altogether_raises(fake_engine: FakeEngine, tmp_path: Path) -> None:
    fake_engine.faults = whenever(lambda _: True, hang)

    with pytest.raises(EngineUnavailable, match="no answer within"):
        ask(fake_engine, tmp_path / "j.jsonl", requests(2), timeout=0.15)


def test_desk_engine_that_refuses_everything_raises(fake_engine: FakeEngine, tmp_path: Path) -> None:
    fake_engine.faults = always(error(401, "expired"))

    with pytest.raises(EngineRefused):
        ask(fake_engine, tmp_path / "j.jsonl", requests(50))

    assert len(fake_engine.seen) <= 8


def test_desk_journal_that_cannot_be_written_raises(fake_engine: FakeEngine, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StorageError, match="cannot be written"):
        ask(fake_engine, tmp_path / "file" / "j.jsonl", requests(3))


def test_desk_reset_that_passes_leaves_no_trace(fake_engine: FakeEngine, tmp_path: Path) -> None:
    clean, _ = ask(fake_engine, tmp_path / "clean.jsonl", requests(4))
    tried: set[str] = set()

    def once(asked: str) -> bool:
        new = asked not in tried
        tried.add(asked)
        return new

    fake_engine.faults = whenever(lambda seen: once(seen.asked), reset)

    desk, _ = ask(fake_engine, tmp_path / "j.jsonl", requests(4))

    assert desk.journal.kept == clean.journal.kept


def test_together_first_error_comes_out_as_itself_and_the_rest_are_cancelled() -> None:
    cancelled: list[int] = []

    async def patient(number: int) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(number)
            raise

    async def fails() -> None:
        await asyncio.sleep(0)
        raise EngineUnavailable("gone")

    with pytest.raises(EngineUnavailable, match="gone"):
        asyncio.run(together([patient(0), fails(), patient(1)]))

    assert cancelled == [0, 1]


def test_together_nothing_is_done_at_once() -> None:
    asyncio.run(together([]))


def test_journal_answers_come_back_as_they_were(tmp_path: Path) -> None:
    odd = Completion("r:\n1", 'a\nb\r\n"\u2028\x00🏔️', "stop", "why", (1, 2), (), prompt_tokens=0)
    journal = Journal(tmp_path / "a" / "j.jsonl")

    journal.append(odd)
    journal.append(Completion("r2", "", ""))

    assert Journal(tmp_path / "a" / "j.jsonl").kept == {"r:\n1": odd, "r2": Completion("r2", "", "")}


def test_journal_line_that_is_none_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    Journal(path).append(Completion("r1", "x", "stop"))
    with path.open("ab") as file:
        file.write(b"\xff\xfe not json\n{}\n\n")
    Journal(path).append(Completion("r2", "y", "stop"))

    assert set(Journal(path).kept) == {"r1", "r2"}


def test_journal_torn_line_is_cut_off_before_the_next_is_written(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    Journal(path).append(Completion("r1", "x", "stop"))
    with path.open("ab") as file:
        file.write(b'{"request_id": "r2", "te')

    Journal(path).append(Completion("r3", "z", "stop"))

    assert set(Journal(path).kept) == {"r1", "r3"}


def test_desk_attempts_are_those_of_answers_and_of_failures_by_what_they_met(
    fake_engine: FakeEngine, tmp_path: Path
) -> None:
    script = in_turn(error(500), busy(), truncated)
    poison = whenever(lambda seen: seen.asked == "number 3 [ends]", reset)
    fake_engine.faults = lambda seen: poison(seen) or script(seen)

    desk, _ = ask(fake_engine, tmp_path / "j.jsonl", requests(6), concurrency=1)

    assert desk.attempts(f"r{number}" for number in range(6)) == {
        "attempts": 5 + 3 + TRIES,
        "retries.busy": 1,
        "retries.cut_off": TRIES,
        "retries.server": 1,
        "retries.unreadable": 1,
    }


def test_desk_attempts_of_an_earlier_process_are_in_the_journal(fake_engine: FakeEngine, tmp_path: Path) -> None:
    fake_engine.faults = in_turn(error(500), error(500))
    first, _ = ask(fake_engine, tmp_path / "j.jsonl", requests(3))

    again, _ = ask(fake_engine, tmp_path / "j.jsonl", requests(3))

    names = [f"r{number}" for number in range(3)]
    assert again.attempts(names) == first.attempts(names) == {"attempts": 5, "retries.server": 2}


def test_desk_asks_no_more_at_once_than_the_engine_takes_twice_over(fake_engine: FakeEngine, tmp_path: Path) -> None:
    """However many are given: a task for each of a million would fill the memory."""
    most: list[int] = []

    def script(_: Seen) -> None:
        most.append(len(asyncio.all_tasks(loop[0])))

    loop: list[asyncio.AbstractEventLoop] = []
    fake_engine.faults = script

    async def main() -> None:
        loop.append(asyncio.get_running_loop())
        desk = Desk(Journal(tmp_path / "j.jsonl"), lambda: None)
        async with http_client(4, 10.0) as client:
            engine = Engine(client, (fake_engine.url,), Wire("fake-model"), 4)
            await desk.ask_all([(engine, request) for request in requests(300)])

    asyncio.run(main())

    assert max(most) <= 2 * 4 + 6
