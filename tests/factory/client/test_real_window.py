"""The window before a real vLLM server that has room for four: read off its own figures, and closed to what it can use."""

import asyncio
from importlib.util import find_spec
from pathlib import Path

import pytest

from factory.client.probe import probe
from factory.client.protocol import Ability
from factory.client.server_load import metrics_address, read_load
from factory.client.transport import http_client
from factory.client.window import Load
from factory.engine import Engine
from factory.opening import cache_folder
from factory.serving.models import DEFAULT_MODEL, resolve_model
from factory.serving.server import serve
from schemas.chat import Message, Request, Role, Sampling
from schemas.recipe import Machine, ModelRef

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(find_spec("vllm") is None, reason="no vLLM in this environment"),
]
ROOM, CEILING, REQUESTS = 4, 32, 60


def a_request(number: int) -> Request:
    asked = (Message(Role.USER, f"Write a sentence about number {number}."),)
    return Request(f"r{number}", asked, Sampling(max_tokens=24, seed=number, temperature=0.7))


async def looked_at(folder: Path) -> list[Load]:
    """What the server says at every look while sixty requests go through it."""
    ref, loads = ModelRef(model=DEFAULT_MODEL), list[Load]()
    machine = Machine(max_num_seqs=ROOM, max_model_len=512, concurrency=CEILING)
    model = resolve_model(ref, cache_folder(), lambda _: None)
    async with (
        serve(model, ref, machine, folder / "server.log", lambda _: None) as url,
        http_client(CEILING, 300.0) as link,
    ):
        wire = (await probe(link, url, DEFAULT_MODEL)).wire
        assert Ability.LOAD in wire.abilities

        async def look(_: float) -> None:
            await asyncio.sleep(0.5)
            load = read_load(await link.get(metrics_address(url)))
            assert load is not None
            loads.append(load)

        engine = Engine(link, (url,), wire, CEILING, look=look)
        await asyncio.gather(*(engine.complete(a_request(number)) for number in range(REQUESTS)))
    return loads


def test_window_of_a_real_server_closes_to_its_room_and_a_few_that_wait(tmp_path: Path) -> None:
    loads = asyncio.run(looked_at(tmp_path))
    print([(load.running, load.waiting, round(load.cache, 3)) for load in loads])  # noqa: T201  # what it said, for a reader

    busy = [load for load in loads if load.running]
    assert max(load.waiting for load in busy) > ROOM  # it began at the ceiling
    settled = [load for load in busy[4:] if load.running == ROOM]
    assert len(settled) >= 3
    assert max(load.running for load in busy) == ROOM
    assert all(load.waiting <= ROOM for load in settled[len(settled) // 2 :])
