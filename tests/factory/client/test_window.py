"""The window of a server: laws, and what it does before simulated servers whose best window is known."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fuzz_inputs import loads
from factory.client.server_load import metrics_address, read_load
from factory.client.window import CUT, FeltWindow, Load, ToldWindow, Window

told = st.builds(Load, st.integers(0, 500), st.integers(0, 500), st.floats(0, 1))


@given(st.integers(1, 300), st.lists(st.one_of(told, st.sampled_from(["away", "answered"])), max_size=60))
def test_windows_stay_between_one_and_the_ceiling_whatever_happens(ceiling: int, events: list[Load | str]) -> None:
    for window in (ToldWindow(ceiling), FeltWindow(ceiling)):
        for now, event in enumerate(events):
            if isinstance(event, Load):
                window.told(event, window.places)
            elif event == "away":
                window.turned_away(window.epoch)
            else:
                window.answered(100, window.epoch, True, float(now))
            assert 1 <= window.places <= ceiling


@pytest.mark.parametrize("window", [ToldWindow(64), FeltWindow(64)])
def test_window_many_requests_turned_away_at_once_shrink_it_once(window: Window) -> None:
    before, epoch = window.places, window.epoch

    for _ in range(50):
        window.turned_away(epoch)

    assert window.places == int(before * CUT)


@pytest.mark.parametrize(("window", "places"), [(ToldWindow(8), 8), (FeltWindow(8), 5)])
def test_window_timeout_counts_where_the_server_does_not_say_how_it_fares(window: Window, places: int) -> None:
    window.timed_out(window.epoch)

    assert window.places == places


# Told


def test_told_window_starts_at_the_ceiling() -> None:
    assert ToldWindow(200).places == 200


def test_told_window_keeps_as_many_waiting_as_is_wanted() -> None:
    window = ToldWindow(256)

    window.told(Load(running=64, waiting=192, cache=0.5), in_flight=256)

    assert window.places == 64 + 64 // 8


def test_told_window_gives_up_only_its_share_of_a_queue_that_others_made_too() -> None:
    window = ToldWindow(64)

    window.told(Load(running=64, waiting=192, cache=0.5), in_flight=64)

    assert window.places == 64 - (192 - 8) // 4


@pytest.mark.parametrize(
    ("load", "in_flight", "places"),
    [
        (Load(16, 0, 0.2), 16, 20),  # nothing waits: more
        (Load(16, 0, 0.2), 12, 16),  # it is not the window that bounds it
        (Load(16, 0, 0.97), 16, 16),  # the cache is full
        (Load(16, 3, 0.2), 16, 16),  # as wanted
    ],
)
def test_told_window_grows_only_where_that_is_of_use(load: Load, in_flight: int, places: int) -> None:
    window = ToldWindow(64)
    window.size = 16.0

    window.told(load, in_flight)

    assert window.places == places


# Before simulated servers


@dataclass
class Simulated:
    """What came of a window before a server: answers a second in the last half, and the window's places then."""

    pace: float
    places: float


def simulate(
    window: Window, seconds: Callable[[int], float], room: int, answers: int, tells: bool = False
) -> Simulated:
    """A server that takes `room` requests at a time, each `seconds(at once)` long; the others wait in it."""
    now, ends, waiting, done = 0.0, list[tuple[float, int]](), list[int](), 0
    half, places, looked = 0.0, list[int](), 0.0
    while done < answers:
        while len(ends) + len(waiting) < window.places:
            waiting.append(window.epoch)
        while waiting and len(ends) < room:
            jitter = 0.8 + 0.4 * ((done * 7919 + len(ends) * 104729) % 1000) / 1000
            heapq.heappush(ends, (now + seconds(len(ends) + 1) * jitter, waiting.pop(0)))
        in_flight = len(ends) + len(waiting)
        now, epoch = heapq.heappop(ends)
        window.answered(100, epoch, in_flight >= window.places, now)
        done += 1
        if tells and now - looked > 2:
            looked = now
            window.told(Load(len(ends), len(waiting), 0.1), in_flight - 1)
        if done > answers // 2:
            half = half or now
            places.append(window.places)
    return Simulated((answers - answers // 2) / (now - half), sum(places) / len(places))


@pytest.mark.parametrize("room", [2, 5, 12, 30, 64])
def test_felt_window_finds_the_room_of_a_server_that_queues(room: int) -> None:
    found = simulate(FeltWindow(128), lambda _: 1.0, room, 6000)

    assert found.pace >= 0.9 * room
    assert found.places <= 1.6 * room + 2


@pytest.mark.parametrize("room", [2, 12, 64])
def test_told_window_finds_the_room_of_a_server_that_queues(room: int) -> None:
    found = simulate(ToldWindow(256), lambda _: 1.0, room, 6000, tells=True)

    assert found.pace >= 0.97 * room
    assert found.places <= 1.3 * room + 5


def test_felt_window_goes_on_to_the_ceiling_where_batches_slow_each_other_but_pay() -> None:
    """Each answer takes longer the more run at once, and yet more come in a second: latency alone would stop it."""
    found = simulate(FeltWindow(64), lambda at_once: 1.0 + at_once / 32, 64, 6000)

    assert found.places >= 60


def test_felt_window_follows_a_server_that_turns_away() -> None:
    """It may take 20 at once; what is beyond is turned away."""
    window, places = FeltWindow(128), list[int]()
    for now in range(20_000):
        if window.places > 20 and now % 10 == 0:
            window.turned_away(window.epoch)
        window.answered(100, window.epoch, True, now / window.places)
        places.append(window.places)

    steady = places[5000:]
    assert 12 <= sum(steady) / len(steady) <= 21
    assert max(steady) <= 22


def test_felt_window_tries_again_after_a_rest_whether_more_pays_by_now() -> None:
    window = FeltWindow(64)
    before = simulate(window, lambda _: 1.0, 10, 4000)

    after = simulate(window, lambda _: 1.0, 60, 8000)

    assert before.places <= 25
    assert after.pace >= 45


# What a vLLM server says

METRICS = b"""# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 12.0
vllm:num_requests_running{engine="1",model_name="m"} 3.0
vllm:num_requests_waiting{engine="0",model_name="m"} 7.0
vllm:num_requests_waiting{engine="1",model_name="m"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 7.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 1e-05
"""


def test_read_load_adds_up_engines_and_takes_the_fullest_cache() -> None:
    assert read_load(METRICS) == Load(running=15, waiting=7, cache=0.25)


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"<html></html>", b"sglang:num_queue_reqs 3.0\n"])
def test_read_load_of_another_server_is_none(content: bytes) -> None:
    assert read_load(content) is None


@pytest.mark.parametrize("figure", [b"1e+-", b"1e999", b"-1e999", b"-"])
def test_read_load_of_a_figure_that_is_none_is_none(figure: bytes) -> None:
    assert read_load(METRICS.replace(b"12.0", figure)) is None


@given(st.binary(max_size=300) | loads())
def test_read_load_takes_any_bytes_and_any_figures(content: bytes) -> None:
    read_load(content)


def test_metrics_address_is_beside_the_api() -> None:
    assert metrics_address("http://host:8000/v1") == "http://host:8000/metrics"
