"""Plots stand in a page: their words are escaped, and their colours are the page's own."""

import re
from collections.abc import Callable

import pytest

from factory.looking.plots import LABEL, Bars, Dots, Plot, Steps, bars, dots, label, short, steps

ODD = "<script>alert(1)</script> $x^2$ & \x00 詩 \u202e"
DRAWN: list[Callable[[], Plot | None]] = [
    lambda: dots("A", [Dots(ODD, {ODD: (0.5, 0.2, 0.8)}), Dots("b", {"y": (0.0, 0.0, 0.1)})], ODD, coin=0.5),
    lambda: bars("A", [Bars(ODD, {ODD: 12345}), Bars("b", {"y": 0})], ODD),
    lambda: steps("A", [Steps(ODD, {-2: 0.5, 3: 0.5}), Steps("b", {1: 1.0})], ODD, float),
    lambda: steps("A", [Steps("a", {3: 1.0})], ODD, lambda place: 2.0**place, doubling=True),
]


@pytest.mark.parametrize("draw", DRAWN)
def test_plot_has_the_pages_colours_and_no_markup_of_its_words(draw: Callable[[], Plot | None]) -> None:
    plot = draw()

    assert plot is not None
    assert plot.svg.startswith("<svg viewBox=")
    assert "script>" not in plot.svg.replace("script&gt;", "")
    assert "\x00" not in plot.svg + plot.says
    assert "\u202e" not in plot.svg + plot.says
    assert set(re.findall("#[0-9a-f]{6}", plot.svg)) <= {"#ffffff"}
    assert "var(--s1)" in plot.svg
    assert not re.search(r"https?://", plot.svg)


@pytest.mark.parametrize("draw", DRAWN)
def test_plot_drawn_again_is_the_same(draw: Callable[[], Plot | None]) -> None:
    one, other = draw(), draw()

    assert one is not None
    assert other is not None
    assert (one.says, one.svg, one.png()) == (other.says, other.svg, other.png())


def test_plot_of_nothing_is_none() -> None:
    assert dots("A", [], "x") is None
    assert bars("A", [Bars("a", {})], "x") is None
    assert steps("A", [Steps("a", {})], "x", float) is None


def test_label_keeps_the_end_of_a_long_name() -> None:
    assert label("x" * 100 + "end") == "…" + "x" * (LABEL - 4) + "end"
    assert label("short") == "short"


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (9999, "9,999"), (12_345, "12.3k"), (5e6, "5M"), (0.25, "0.25"), (-2e9, "-2G")]
)
def test_short_numbers_are_read_at_a_glance(value: float, shown: str) -> None:
    assert short(value) == shown
