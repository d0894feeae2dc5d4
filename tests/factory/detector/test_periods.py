"""Runs and stretches against a brute-force oracle, and the work that a search does against the length of its text."""

from collections.abc import Callable
from math import log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.detector.periods import Run, agreement, inner_runs, largest, stretches, symbols, tail_runs


def oracle_runs(text: bytes | str, slack: int, repeats: int, redundancy: int) -> list[Run]:
    """The definition, period by period and place by place."""
    found: list[Run] = []
    for period in range(1, len(text)):
        start = 0
        for place in range(len(text) - period + 1):
            if place < len(text) - period and text[place] == text[place + period]:
                continue
            run, start = Run(start, place + period, period), place + 1
            if run.redundancy >= max(1, redundancy) and run.length >= repeats * period:
                whole = text[run.start : run.stop]
                smaller = any(whole[shorter:] == whole[:-shorter] for shorter in range(1, period))
                if not smaller and len(text) - run.stop <= slack:
                    found.append(run)
    return found


@st.composite
def repetitive(draw: st.DrawFn) -> bytes:
    """Texts over two or three letters, made of nested repetitions and some noise."""
    block = st.lists(st.sampled_from(b"abc"), min_size=1, max_size=6).map(bytes)
    parts = []
    for _ in range(draw(st.integers(1, 4))):
        unit = draw(block) * draw(st.integers(1, 5)) + draw(st.sampled_from((b"", b"", b"a", b"b", b"ab")))
        parts.append(unit * draw(st.integers(1, 6)))
    text = b"".join(parts)
    return text[: draw(st.integers(0, len(text)))] if draw(st.booleans()) else text


@given(repetitive(), st.integers(0, 6), st.integers(3, 5), st.integers(1, 20))
def test_tail_runs_repetitive_text_equals_the_definition(
    text: bytes, slack: int, repeats: int, redundancy: int
) -> None:
    redundancy = max(redundancy, 2 * slack)
    found = tail_runs(text, slack=slack, repeats=repeats, redundancy=redundancy)
    assert found == oracle_runs(text, slack, repeats, redundancy)


@given(st.text("ab", max_size=60), st.integers(0, 4), st.integers(1, 10))
def test_tail_runs_two_letters_equals_the_definition(text: str, slack: int, redundancy: int) -> None:
    redundancy = max(redundancy, 2 * slack)
    found = tail_runs(text, slack=slack, repeats=3, redundancy=redundancy)
    assert found == oracle_runs(text, slack, 3, redundancy)


@given(repetitive(), st.integers(3, 5), st.integers(1, 30))
def test_inner_runs_repetitive_text_equals_the_definition(text: bytes, repeats: int, redundancy: int) -> None:
    found = inner_runs(text, repeats=repeats, redundancy=redundancy)
    expected = oracle_runs(text, len(text), repeats, redundancy)
    assert found == sorted(expected, key=lambda run: (run.start, run.period))


@given(st.text("ab", max_size=60), st.integers(1, 10))
def test_inner_runs_two_letters_equals_the_definition(text: str, redundancy: int) -> None:
    found = inner_runs(text, repeats=3, redundancy=redundancy)
    assert set(found) == set(oracle_runs(text, len(text), 3, redundancy))


@given(repetitive())
def test_tail_runs_token_ids_equal_those_of_bytes(text: bytes) -> None:
    ids = symbols([1000 * byte for byte in text])
    assert tail_runs(ids, slack=3, repeats=3, redundancy=6) == tail_runs(text, slack=3, repeats=3, redundancy=6)


@pytest.mark.parametrize("token", [-1, 0x110000, 2**40])
def test_symbols_id_that_no_vocabulary_has_is_refused(token: int) -> None:
    with pytest.raises(ValueError, match="token id"):
        symbols([1, token])


@given(st.lists(st.integers(0, 0x10FFFF)))
def test_symbols_every_id_is_one_character(ids: list[int]) -> None:
    assert list(map(ord, symbols(ids))) == ids


@pytest.mark.parametrize(
    ("slack", "repeats", "redundancy"), [(8, 3, 15), (0, 2, 24), (0, 3, 0)], ids=["slack", "repeats", "redundancy"]
)
def test_tail_runs_bounds_outside_the_proof_are_refused(slack: int, repeats: int, redundancy: int) -> None:
    with pytest.raises(ValueError, match="no exact search"):
        tail_runs(b"aaaa", slack=slack, repeats=repeats, redundancy=redundancy)


def test_tail_runs_nested_loops_are_all_found_and_the_largest_chosen() -> None:
    runs = tail_runs((b"a" * 300 + b"b") * 5 + b"a" * 300, slack=64, repeats=4, redundancy=192)
    assert [run.period for run in runs] == [1, 301]
    chosen = largest(runs)
    assert chosen is not None
    assert (chosen.period, chosen.onset) == (301, 301)


def test_largest_nothing_is_none() -> None:
    assert largest([]) is None


class Counted(bytes):
    """Bytes that count what is copied or searched, so that growth is measured without a clock."""

    work = 0
    searches = 0

    def __getitem__(self, key: object) -> "Counted":  # type: ignore[override]  # only slices are taken
        assert isinstance(key, slice)
        piece = Counted(bytes(self)[key] if key.step else super().__getitem__(key))
        Counted.work += len(piece)
        return piece

    def find(self, sub: bytes, start: int, end: int) -> int:  # type: ignore[override]  # the only form in use
        at = super().find(sub, start, end)
        Counted.work += (min(end, len(self)) if at < 0 else at) - start + len(sub)
        Counted.searches += 1
        return at


def fibonacci(size: int) -> bytes:
    shorter, longer = b"a", b"ab"
    while len(longer) < size:
        shorter, longer = longer, longer + shorter
    return longer[:size]


HARD_TEXTS: dict[str, Callable[[int], bytes]] = {
    "one letter": lambda n: b"a" * n,
    "fibonacci": fibonacci,
    "fibonacci backwards": lambda n: fibonacci(n)[::-1],
    "one odd letter in 501": lambda n: (b"a" * 500 + b"b") * (n // 501),
    "blocks that differ": lambda n: b"".join(b"a" * (n // 16) + b"%d" % i for i in range(15)) + b"a" * (n // 16),
    "growing blocks": lambda n: b"".join(b"a" * i + b"b" for i in range(int((2 * n) ** 0.5))),
    "shrinking blocks": lambda n: b"".join(b"a" * i + b"b" for i in range(int((2 * n) ** 0.5), 0, -1)),
    "an emoji": lambda n: "😀".encode() * (n // 4),
    "numbered lines": lambda n: b"".join(b"line %d\n" % i for i in range(n // 10)),
    "equal lines": lambda n: b"line\n" * (n // 5),
}


@pytest.mark.parametrize("name", HARD_TEXTS)
@pytest.mark.parametrize(("slack", "repeats", "redundancy"), [(64, 4, 192), (0, 3, 24), (512, 8, 1024)])
@pytest.mark.parametrize("size", [20_000, 1_000_000])
def test_tail_runs_hard_text_takes_linear_work_and_few_searches(
    name: str, slack: int, repeats: int, redundancy: int, size: int
) -> None:
    text = Counted(HARD_TEXTS[name](size))
    Counted.work = Counted.searches = 0
    tail_runs(text, slack=slack, repeats=repeats, redundancy=redundancy)
    assert Counted.work <= 12 * len(text)
    assert Counted.searches <= 2 * log2(len(text))


@pytest.mark.parametrize("name", HARD_TEXTS)
@pytest.mark.parametrize("size", [20_000, 1_000_000])
def test_inner_runs_hard_text_takes_linear_work_and_few_searches(name: str, size: int) -> None:
    text = Counted(HARD_TEXTS[name](size))
    Counted.work = Counted.searches = 0
    inner_runs(text, repeats=8, redundancy=len(text) // 5)
    assert Counted.work <= 60 * len(text)
    assert Counted.searches <= 20 * log2(len(text))


@given(st.binary(max_size=400), st.integers(0, 400), st.binary(max_size=5))
def test_agreement_shared_part_is_measured_to_the_symbol(shared: bytes, cut: int, rest: bytes) -> None:
    first, second = b"x" + shared + b"." + rest, shared[: min(cut, len(shared))] + b","
    assert agreement(first, 1, second, 0) == min(
        (at for at, (left, right) in enumerate(zip(first[1:], second, strict=False)) if left != right),
        default=min(len(first) - 1, len(second)),
    )


def oracle_stretches(text: str, unit: str) -> list[int]:
    ring = unit * (len(text) // len(unit) + 2)
    found: set[tuple[int, int]] = set()
    for phase in range(len(unit)):
        start = 0
        for place in range(len(text) + 1):
            if place == len(text) or text[place] != ring[(place + phase) % len(unit)]:
                if place - start >= len(unit):
                    found.add((start, place))
                start = place + 1
    return [stop - start for start, stop in sorted(found)]


@given(st.text("ab", max_size=30), st.text("ab", min_size=1, max_size=6))
def test_stretches_any_rotation_equals_the_definition(text: str, unit: str) -> None:
    assert stretches(text, unit) == oracle_stretches(text, unit)


def test_stretches_empty_unit_or_text_is_nothing() -> None:
    assert stretches("abc", "") == stretches("", "abc") == []
