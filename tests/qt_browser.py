"""The browser's own process: one window of Qt's Chromium, which looks at a page as it is told.

The rule that must not break: nothing imports this but that process, since Qt is not in every environment.
"""

import json
import time
from collections.abc import Callable, Sequence
from functools import partial

from PySide6.QtCore import QEventLoop, Qt, QTimer, QUrl
from PySide6.QtWebEngineCore import QWebEnginePage, QWebEngineUrlRequestInfo, QWebEngineUrlRequestInterceptor
from PySide6.QtWebEngineWidgets import QWebEngineView
from PySide6.QtWidgets import QApplication

from tests.browser import LONGEST, PIXELS, Begin, Look, Seen

SETTLE = 200  # ms until what was asked for is drawn
_DRAWN = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 500))))"
_WATCHED = (
    "Promise.resolve({}).then(value => window.found = JSON.stringify([value]), why => window.found = String(why)); 0"
)


class _Asked(QWebEngineUrlRequestInterceptor):
    def __init__(self, into: list[str]) -> None:
        super().__init__()
        self._into = into

    def interceptRequest(self, info: QWebEngineUrlRequestInfo) -> None:  # noqa: N802  # Qt calls it so
        self._into.append(info.requestUrl().toString()[:200])


class _Page(QWebEnginePage):
    said: list[str]

    def javaScriptConsoleMessage(self, level: object, message: str, line: int, source: str) -> None:  # noqa: N802
        self.said.append(message)


def browse(page: str, looks: Sequence[Look]) -> Seen:
    application = QApplication(["browser"])
    seen = Seen()
    view = QWebEngineView()
    window = _Page(view)
    window.said = seen.said
    asked = _Asked(seen.asked)
    window.profile().setUrlRequestInterceptor(asked)
    view.setPage(window)
    for look in looks:
        view.resize(look.width, look.height)
        view.show()
        if look.begin == Begin.LOAD:
            _wait(partial(_load, view, page))
        _until(view, look.until)
        _rest()
        seen.values.append(_run(view, look.script))
        if look.shot is not None:
            _shoot(view, look)
    view.setPage(None)  # before its profile goes
    application.processEvents()
    return seen


def _load(view: QWebEngineView, page: str, done: Callable[[object], None]) -> None:
    view.loadFinished.connect(done, Qt.ConnectionType.SingleShotConnection)
    view.load(QUrl(page))


def _until(view: QWebEngineView, holds: str) -> None:
    """Also where it only holds on a page that this one leads to. Raises RuntimeError."""
    until = time.monotonic() + LONGEST
    while _wait(lambda done: view.page().runJavaScript(f"Boolean({holds})", 0, done)) is not True:
        if time.monotonic() > until:
            raise RuntimeError(f"not in {LONGEST} s: {holds}")
        _rest(50)


def _shoot(view: QWebEngineView, look: Look) -> None:
    height = int(float(str(_run(view, "document.documentElement.scrollHeight"))))
    view.resize(look.width, min(height, PIXELS))
    _run(view, _DRAWN)
    _rest()
    view.grab().save(look.shot)


def _run(view: QWebEngineView, script: str) -> object:
    """Of an expression, or what its promise comes to. Raises RuntimeError with what went wrong."""
    _wait(lambda done: view.page().runJavaScript("window.found = null; 0", 0, done))
    _wait(lambda done: view.page().runJavaScript(_WATCHED.format(f"({script.strip()})") if script else "0", 0, done))
    until = time.monotonic() + LONGEST
    while time.monotonic() < until:
        found = _wait(lambda done: view.page().runJavaScript("window.found", 0, done))
        if isinstance(found, str) and found:
            if not found.startswith("["):
                raise RuntimeError(found)
            return json.loads(found)[0]
        _rest(20)
    raise RuntimeError(f"no answer in {LONGEST} s: {script[-200:]}")


def _wait(begin: Callable[[Callable[[object], None]], None]) -> object:
    loop, found = QEventLoop(), list[object]()

    def done(value: object = None) -> None:
        found.append(value)
        loop.quit()

    begin(done)
    QTimer.singleShot(LONGEST * 1000, loop.quit)
    if not found:
        loop.exec()
    return found[0] if found else None


def _rest(milliseconds: int = SETTLE) -> None:
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()
