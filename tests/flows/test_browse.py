"""The verb `browse`: a page on this machine, in a real browser and from the command line.

prefactory browse runs/laptop --port 8000 --no-open
"""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from factory.ledger.marks import read_marks
from factory.run import RunFolder
from schemas.marks import Mark
from tests import browser
from tests.browsed import a_browsed_run
from tests.browser import ACCESSIBILITY, LAPTOP, OVERFLOW, PHONE, WIDE, Begin, Look, Scheme
from tests.conftest import Command

needs_browser = pytest.mark.skipif(
    not (browser.available() and browser.axe_available()), reason="no browser here; `make browser` installs one"
)


@contextmanager
def browsed(root: Path) -> Iterator[str]:
    """The address that the command prints; it must end well by Ctrl-C."""
    line = [sys.executable, "-m", "flows.cli", "browse", str(root), "--no-open", "--by", "ann"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=30)
        assert (process.returncode, rest, said) == (0, "", "")
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_browsed_run(tmp_path_factory.mktemp("browse") / "run")


def test_browse_prints_one_address_on_this_machine_and_ends_by_ctrl_c(root: Path) -> None:
    with browsed(root) as url:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", url)
        assert "1 to 20 of 33" in httpx.get(url).text
        assert httpx.get(url.rsplit("/", 2)[0] + "/").status_code == 404
        port = int(url.split(":")[2].split("/")[0])
        with socket.socket() as other, pytest.raises(OSError, match="refused"):
            other.connect((socket.gethostbyname(socket.gethostname()).replace("127.0.0.1", "127.0.0.2"), port))


def test_browse_of_what_is_no_run_says_so(prefactory: Command, tmp_path: Path) -> None:
    ended = prefactory("browse", tmp_path, "--no-open")

    assert ended.code == 2
    assert "no run there" in ended.error


def test_browse_at_a_port_that_is_taken_says_so(prefactory: Command, root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = prefactory("browse", root, "--no-open", "--port", taken.getsockname()[1])

    assert ended.code == 2
    assert f"--port {taken}" not in ended.error
    assert "in use" in ended.error


CHECKS = f"""
(() => ({{
    wider: document.documentElement.scrollWidth > innerWidth,
    beyond: {OVERFLOW},
    ground: getComputedStyle(document.body).backgroundColor,
    pwned: window.pwned ?? null,
}}))()
"""
GROUNDS = {Scheme.LIGHT: "rgb(255, 255, 255)", Scheme.DARK: "rgb(17, 20, 24)"}
PAGES = ("", "pair/0/a", "pair/1/p00")


@needs_browser
def test_browse_in_a_browser_fits_every_size_light_and_dark(root: Path) -> None:
    looks = [Look(*size, scheme, CHECKS) for size in (PHONE, LAPTOP, WIDE) for scheme in Scheme]
    with browsed(root) as url:
        for page in PAGES:
            seen = browser.look_at(url + page, looks)
            for look, value in zip(looks, seen.values, strict=True):
                expected = {"wider": False, "beyond": [], "ground": GROUNDS[look.scheme], "pwned": None}
                assert value == expected, (page, look)
            assert seen.said == []
            assert all(one.startswith((url, "data:,")) for one in seen.asked)


@needs_browser
def test_browse_in_a_browser_is_accessible(root: Path) -> None:
    script = f"(() => {{ {browser.axe()} ; return {ACCESSIBILITY} }})()"
    with browsed(root) as url:
        for page in PAGES:
            looks = [Look(*size, scheme, script) for size in (PHONE, LAPTOP) for scheme in Scheme]
            assert browser.look_at(url + page, looks).values == [[], [], [], []], page


def key(*keys: str) -> str:
    """Pressed one after the other, where the focus is."""
    pressed = ", ".join(f'"{one}"' for one in keys)
    event = 'new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true})'
    return f"[{pressed}].forEach(key => (document.activeElement ?? document.body).dispatchEvent({event}))"


FOCUSED = 'document.activeElement?.closest("article")?.id'
MARKED = '[...document.querySelectorAll("[aria-pressed=true]")].map(one => [one.closest("article").id, one.value])'


@needs_browser
def test_browse_in_a_browser_a_mark_is_there_when_the_page_is_loaded_again(tmp_path: Path) -> None:
    """Filter, move, note, mark by keyboard; then by mouse; then load the page again."""
    root = a_browsed_run(tmp_path / "run")
    second, third = f"p{(1 << 40) + 2}", f"p{(1 << 40) + 4}"

    def stay(script: str, until: str = "true") -> Look:
        return Look(*LAPTOP, script=script, begin=Begin.STAY, until=until)

    filtered = 'location.search.includes("cause=jury") && document.querySelectorAll("article").length === 20'
    choose = 'document.querySelector("[name=cause]").value = "jury", document.querySelector("[name=round]").value = "1"'
    looks = [
        Look(*LAPTOP, script=f'{choose}, document.querySelector(".go button").click()'),
        stay(key("j", "j"), filtered),
        stay(FOCUSED),
        stay(f'{key("n")}, document.activeElement.value = "<i>why</i>", {key("Escape")}, {FOCUSED}'),
        stay(key("f")),
        stay(f"[{FOCUSED}, {MARKED}]", f"{MARKED}.length === 1"),
        stay(f'document.querySelector("#{third} button[value=both_bad]").click()'),
        stay(MARKED, f"{MARKED}.length === 2"),
        Look(*LAPTOP, script=MARKED),
        stay('document.querySelector("#search").value = "number 2?", document.querySelector(".go button").click()'),
        stay(f'[{MARKED}, document.querySelector(".said").innerText, document.querySelector("[name=why]").value]',
             'document.querySelectorAll("article").length === 1'),
        stay('document.querySelector("a.open").click()'),
        stay('document.querySelectorAll(".answer").length', 'location.pathname.includes("/pair/1/p02")'),
        stay(key("u")),
        stay("null", f"{MARKED}.length === 0"),
    ]  # fmt: skip
    with browsed(root) as url:
        values = browser.look_at(url, looks).values

    assert values[2] == second
    assert values[3] == second
    assert values[5] == [second, [[second, "flipped"]]]
    both = [[second, "flipped"], [third, "both_bad"]]
    assert values[7] == both
    assert values[8] == both
    assert values[10] == [[[second, "flipped"]], "Flipped, says ann", "<i>why</i>"]
    assert values[12] == 6
    said = [(mark.prompt_id, mark.mark, mark.why) for mark in read_marks(RunFolder(root))]
    assert said == [
        ("p02", Mark.FLIPPED, "<i>why</i>"),
        ("p04", Mark.BOTH_BAD, ""),
        ("p02", Mark.WITHDRAWN, "<i>why</i>"),
    ]
