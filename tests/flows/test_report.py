"""The verb `report`: one file that needs nothing else, whatever the answers hold, also looked at in a real browser."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from factory.recipes.recipe_file import read_recipe
from factory.run import run_folder
from tests import browser
from tests.browser import ACCESSIBILITY, LAPTOP, OVERFLOW, PHONE, WIDE, Look, Scheme
from tests.conftest import Command, RecipeWriter
from tests.reports import LONG, a_run

needs_browser = pytest.mark.skipif(
    not (browser.available() and browser.axe_available()), reason="no browser here; `make browser` installs one"
)


class Elements(HTMLParser):
    """Which elements a page has, with their attributes, and what its text is."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def reports(prefactory: Command, tmp_path: Path) -> tuple[Path, Path]:
    """Of one run, and of two side by side."""
    one, other = a_run(tmp_path / "one"), a_run(tmp_path / "other", name="another", token_ids=None)
    return Path(prefactory("report", one).out.strip()), Path(prefactory("report", one, other).out.strip())


def test_report_lies_in_its_run(reports: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "one" / "report"

    assert reports == (folder / "index.html", folder / "beside-another.html")
    assert sorted(folder.iterdir()) == sorted(reports)


def test_report_asks_for_nothing_and_runs_nothing(reports: tuple[Path, Path]) -> None:
    for path in reports:
        page = Elements(path.read_text(encoding="utf-8"))
        tags = {tag for tag, _ in page.found}
        assert not tags & {"script", "img", "iframe", "object", "embed", "form", "base"}
        for tag, attributes in page.found:
            assert not any(name.startswith("on") for name in attributes), tag
            for name in ("src", "href", "xlink:href"):
                address = attributes.get(name)
                assert address is None or address.startswith(("#", "data:,"))


def test_report_shows_hostile_texts_as_texts(reports: tuple[Path, Path]) -> None:
    text = reports[0].read_text(encoding="utf-8")
    page = Elements(text)

    assert "<script>window.pwned = 1</script>" in page.text
    assert "{{ 7 * 7 }} $x^2$" in page.text
    assert "before\\x00after \\x1b[31mred" in page.text
    assert "\\u202egnorw" in page.text
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", text)
    assert LONG not in page.text
    assert "w" * 1500 in page.text


def test_report_says_nothing_of_the_machine(reports: tuple[Path, Path], tmp_path: Path) -> None:
    text = reports[0].read_text(encoding="utf-8")

    assert str(tmp_path) not in text
    assert "/home/somebody" not in text
    assert "runs/model" in text


def test_report_of_two_runs_names_both_and_what_differs(reports: tuple[Path, Path]) -> None:
    page = Elements(reports[1].read_text(encoding="utf-8"))

    assert "known and another" in page.text
    assert "What differs" in page.text
    assert "hard loops, greedy" in page.text


def test_report_of_two_runs_of_one_name_tells_them_apart(prefactory: Command, tmp_path: Path) -> None:
    one, other = a_run(tmp_path / "one"), a_run(tmp_path / "other")

    page = Elements(Path(prefactory("report", one, other).out.strip()).read_text(encoding="utf-8"))

    assert "A: known and B: known" in page.text


def test_report_of_a_real_run_and_of_one_that_has_only_begun(prefactory: Command, write_recipe: RecipeWriter) -> None:
    path = write_recipe()
    prefactory("sample", path)
    root = run_folder(read_recipe(path))
    begun = Path(prefactory("report", root).out.strip()).read_text(encoding="utf-8")
    prefactory("run", path, "--plain")

    whole = Path(prefactory("report", root).out.strip()).read_text(encoding="utf-8")

    assert "Nothing stands out" in begun
    assert "Doom loops" in whole
    assert "helpfulness" in whole
    assert prefactory("verify", root).code == 0
    assert prefactory("run", path, "--plain").code == 0  # a report in it makes a run no stranger


def test_report_of_what_is_no_run_says_so(prefactory: Command, tmp_path: Path) -> None:
    ended = prefactory("report", tmp_path)

    assert ended.code == 2
    assert "no run there" in ended.error


CHECKS = f"""
(async () => ({{
    wider: document.documentElement.scrollWidth > innerWidth,
    beyond: {OVERFLOW},
    ground: getComputedStyle(document.body).backgroundColor,
    pwned: window.pwned ?? null,
    plots: [...document.querySelectorAll("svg")].every(one => one.getBoundingClientRect().height > 40),
}}))()
"""


@needs_browser
def test_report_in_a_browser_fits_every_size_light_and_dark(reports: tuple[Path, Path]) -> None:
    looks = [Look(*size, scheme, CHECKS) for size in (PHONE, LAPTOP, WIDE) for scheme in Scheme]
    grounds = {Scheme.LIGHT: "rgb(255, 255, 255)", Scheme.DARK: "rgb(17, 20, 24)"}
    for path in reports:
        seen = browser.look_at(path, looks)
        for look, value in zip(looks, seen.values, strict=True):
            expected = {"wider": False, "beyond": [], "ground": grounds[look.scheme], "pwned": None, "plots": True}
            assert value == expected, (path.name, look)
        assert set(seen.asked) == {path.absolute().as_uri()}
        assert seen.said == []


@needs_browser
def test_report_in_a_browser_is_accessible(reports: tuple[Path, Path]) -> None:
    script = f"(() => {{ {browser.axe()} ; return {ACCESSIBILITY} }})()"
    for path in reports:
        seen = browser.look_at(path, [Look(*size, scheme, script) for size in (PHONE, LAPTOP) for scheme in Scheme])
        assert seen.values == [[], [], [], []], json.dumps(seen.values)
