"""The echo of a text against its definition read gram by gram, and what leaves it out."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.detector.near_duplicates import GRAM, SHORT_GRAM, Echo, End, echo
from tests.loop_texts import PROSE


def oracle(raw: bytes, end: End) -> Echo | None:
    """The definition gram by gram: the end by what stands at so many places before, the echo by what stands at one."""
    places: dict[bytes, list[int]] = {}
    before, apart = [], []
    for at in range(len(raw) - end.gram + 1):
        seen = places.setdefault(raw[at : at + end.gram], [])
        before.append(len(seen))
        apart.append(at - seen[-1] if seen else 0)
        seen.append(at)

    def best(least: int) -> int | None:
        scores = [sum(1 if said >= least else -end.cost for said in before[at:]) for at in range(len(before))]
        top = max(scores, default=0)
        return scores.index(top) if top > 0 else None

    last, start = best(end.times), best(1)
    if last is None or start is None or len(raw) - last < end.shortest(raw):
        return None
    distances = [distance for distance in apart[start:] if distance]
    commonest = min(distances, key=lambda distance: (-distances.count(distance), distance))
    return Echo(start, commonest, len(distances))


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


@given(
    drifting(),
    st.integers(1, 4),
    st.integers(1, 9),
    st.integers(48, 300),
    st.sampled_from((0.0, 0.25, 0.5)),
    st.sampled_from((8, SHORT_GRAM, 17, GRAM)),
)
def test_echo_drifting_text_equals_the_definition(
    raw: bytes, times: int, cost: int, size: int, share: float, gram: int
) -> None:
    end = End(times, cost, size, share, gram)
    found, expected = echo(raw, [end]), oracle(raw, end)
    assert found in (expected, None)
    if found is None and expected is not None:  # then a glance found too few of the end's grams said before
        last, start = len(raw) - gram, len(raw) - end.shortest(raw)
        places = range(start, last, max(1, (last - start) // 8))
        assert sum(raw[at : at + gram] in raw[: at + gram - 1] for at in places) < end.glances


@pytest.mark.parametrize("size", [1000, 3000])
def test_echo_whole_text_again_begins_where_the_first_ends(size: int) -> None:
    raw = PROSE[:size].encode() * 4
    assert echo(raw) == Echo(size, size, 3 * size - GRAM + 1)


def test_echo_three_copies_are_too_few_where_they_are_short() -> None:
    assert echo(PROSE[:1000].encode() * 3) is None
    assert echo(PROSE[:2500].encode() * 5) == Echo(2500, 2500, 10_000 - GRAM + 1)


def test_echo_first_end_that_the_text_has_decides() -> None:
    twice = End(times=2, cost=4, size=900, share=0.0)
    assert echo(PROSE[:1000].encode() * 3, [End(3, 6, 768, 0.25), twice]) == Echo(1000, 1000, 2000 - GRAM + 1)


def test_echo_new_text_has_none() -> None:
    assert echo(PROSE.encode(), [End(1, 1, 48, 0.0)]) is None


@given(st.binary(max_size=100), st.integers(1, 60))
def test_echo_short_text_never_fails(raw: bytes, size: int) -> None:
    found = echo(raw, [End(1, 1, size, 0.0)])
    assert found is None or found.start < len(raw)
