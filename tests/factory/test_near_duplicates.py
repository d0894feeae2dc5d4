"""The echo of a text against its definition read gram by gram, and what leaves it out."""

import random

from hypothesis import given
from hypothesis import strategies as st

from factory.near_duplicates import GRAM, Echo, echo
from tests.loop_texts import PROSE


def oracle(raw: bytes, shortest: int) -> Echo | None:
    """+1 for a gram that stands before, -9 for a new one; the suffix that scores most, and of equals the longest."""
    last_said: dict[bytes, int] = {}
    worth, apart = [], []
    for at in range(len(raw) - GRAM + 1):
        gram = raw[at : at + GRAM]
        worth.append(1 if gram in last_said else -9)
        apart.append(at - last_said.get(gram, at))
        last_said[gram] = at
    best, start = 0, -1
    for at in range(len(worth)):
        if sum(worth[at:]) > best:
            best, start = sum(worth[at:]), at
    if start < 0 or len(raw) - start < shortest:
        return None
    said = [distance for distance in apart[start:] if distance]
    return Echo(start, min(said, key=lambda distance: (-said.count(distance), distance)), len(said))


@st.composite
def drifting(draw: st.DrawFn) -> bytes:
    """Blocks that come again in any order, with other words between some of them."""
    rng = random.Random(draw(st.integers(0, 99)))
    blocks = [bytes(rng.choices(b"abc ", k=draw(st.integers(20, 90)))) for _ in range(3)]
    parts = [bytes(rng.choices(b"xyz ", k=draw(st.integers(0, 40))))]
    for _ in range(draw(st.integers(1, 12))):
        parts.append(draw(st.sampled_from(blocks)))
        parts.append(bytes(rng.choices(b"uvw", k=draw(st.sampled_from((0, 0, 0, 1, 3))))))
    return b"".join(parts)


@given(drifting(), st.integers(48, 300))
def test_echo_drifting_text_equals_the_definition(raw: bytes, shortest: int) -> None:
    found, expected = echo(raw, shortest=shortest), oracle(raw, shortest)
    assert found in (expected, None)
    if found is None and expected is not None:  # then a glance saw that less than a quarter of the end is old
        places = range(len(raw) // 2, len(raw) - GRAM, max(1, (len(raw) - GRAM - len(raw) // 2) // 8))
        assert sum(raw[at : at + GRAM] in raw[: at + GRAM - 1] for at in places) < 2


def test_echo_whole_text_again_begins_where_the_first_ends() -> None:
    raw = PROSE[:1000].encode() * 4
    assert echo(raw, shortest=2048) == Echo(1000, 1000, 3000 - GRAM + 1)


def test_echo_new_text_has_none() -> None:
    assert echo(PROSE.encode(), shortest=48) is None


@given(st.binary(max_size=100), st.integers(0, 60))
def test_echo_short_text_never_fails(raw: bytes, shortest: int) -> None:
    found = echo(raw, shortest=shortest)
    assert found is None or found.start < len(raw)
