"""A real browser without a screen, for tests of pages: Chromium as Qt carries it, in a process of its own.

    look_at(page, Look(390, 844, Scheme.DARK, "document.title", shot))     # in a test: what the script gives
    python -m tests.browser page.html folder                               # screenshots to look at, of every size

The rule that must not break: it runs beside the tests and never in their process, which a browser that dies would take along.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

PHONE, LAPTOP, WIDE = (390, 844), (1366, 768), (1920, 1080)
LONGEST = 60  # seconds that a look may take
_QUIET = {"QT_QPA_PLATFORM": "offscreen", "QTWEBENGINE_DISABLE_SANDBOX": "1"}
_FLAGS = "--disable-gpu --hide-scrollbars --force-device-scale-factor=1 --blink-settings=preferredColorScheme="
PIXELS = 16_000  # of a screenshot's height


class Scheme(StrEnum):
    LIGHT = "light"
    DARK = "dark"


class Begin(StrEnum):
    LOAD = "load"  # the page anew
    STAY = "stay"


_SCHEMES = {Scheme.DARK: 0, Scheme.LIGHT: 1}  # as Chromium numbers them


@dataclass(frozen=True, slots=True)
class Look:
    """At a page in a window of that size. `script`: an expression, or a promise, whose value comes back as JSON.

    `until`: look no further before this expression holds. A look that stays has the page as the look before it left it,
    whatever page that led to.
    """

    width: int
    height: int
    scheme: Scheme = Scheme.LIGHT
    script: str = "null"
    shot: str | None = None  # a PNG of the whole page goes there
    begin: Begin = Begin.LOAD
    until: str = "true"


@dataclass(frozen=True, slots=True)
class Seen:
    """`values`: what the scripts gave, in their order. `asked`: every address that was asked for. `said`: on the console."""

    values: list[object] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


def available() -> bool:
    return find_spec("PySide6") is not None and find_spec("PySide6.QtWebEngineWidgets") is not None


def look_at(page: Path | str, looks: Sequence[Look]) -> Seen:
    """At a file, or an address. Values are in the order of the looks. Raises CalledProcessError where no browser starts."""
    seen = Seen([None] * len(looks))
    for scheme in Scheme:
        own = [place for place, look in enumerate(looks) if look.scheme is scheme]
        if own:
            found = _in_own_process(page, scheme, [looks[place] for place in own])
            for place, value in zip(own, found.values, strict=True):
                seen.values[place] = value
            seen.asked.extend(found.asked)
            seen.said.extend(found.said)
    return seen


def _in_own_process(page: Path | str, scheme: Scheme, looks: Sequence[Look]) -> Seen:
    """The scheme is the whole browser's."""
    address = page if isinstance(page, str) else page.absolute().as_uri()
    order = json.dumps({"page": address, "looks": [asdict(look) for look in looks]})
    environment = os.environ | _QUIET | {"QTWEBENGINE_CHROMIUM_FLAGS": f"{_FLAGS}{_SCHEMES[scheme]}"}
    ended = subprocess.run(
        [sys.executable, "-m", "tests.browser", "--looks"],
        input=order,
        capture_output=True,
        text=True,
        check=True,
        timeout=LONGEST * len(looks),
        env=environment,
    )
    return Seen(**json.loads(ended.stdout.splitlines()[-1]))


def axe() -> str:
    """axe-core, as its Python package carries it. Raises PackageNotFoundError."""
    return Path(str(distribution("axe-playwright-python").locate_file("axe_playwright_python/axe.min.js"))).read_text()


def axe_available() -> bool:
    try:
        return bool(axe())
    except PackageNotFoundError:
        return False


# What can be wrong with a page for somebody who reads it with other means: rule, how bad, and where.
ACCESSIBILITY = """axe.run(document, {resultTypes: ["violations"]}).then(found => found.violations.map(
    one => [one.id, one.impact, one.nodes.map(node => node.target.join(" ")).slice(0, 5)]))
"""
OVERFLOW = """[...document.querySelectorAll("body *")]
    .filter(one => !one.closest(".scroll, svg") && one.getBoundingClientRect().right > innerWidth + 1)
    .map(one => one.tagName + "." + one.className).slice(0, 10)
"""


def _browse(order: dict[str, object]) -> Seen:
    from tests.qt_browser import browse

    return browse(str(order["page"]), [Look(**look) for look in order["looks"]])  # type: ignore[attr-defined]  # as sent


def _every_size(folder: Path) -> Iterator[Look]:
    for name, (width, height) in (("phone", PHONE), ("laptop", LAPTOP), ("wide", WIDE)):
        for scheme in Scheme:
            yield Look(width, height, scheme, OVERFLOW, str(folder / f"{name}-{scheme}.png"))


def main() -> None:
    if sys.argv[1] == "--looks":
        seen = _browse(json.loads(sys.stdin.read()))
        print(json.dumps(asdict(seen)))
        return
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    print(look_at(Path(sys.argv[1]), list(_every_size(folder))))


if __name__ == "__main__":
    main()
