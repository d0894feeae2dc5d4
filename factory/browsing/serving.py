"""The page's server: one socket on this machine alone, until Ctrl-C.

The rule that must not break: it listens on 127.0.0.1 and nowhere else; whoever reads from afar comes through `ssh -L`.
"""

import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import uvicorn

from factory.browsing.application import application
from factory.browsing.desk import Desk
from factory.browsing.index import Index
from factory.browsing.listing import Pairs
from factory.browsing.marking import Pen
from factory.run import RunFolder
from schemas.errors import Fixable

HOST = "127.0.0.1"
LAST = 1  # seconds that pages under way have when it ends


def browse(root: Path, port: int, by: str, opened: Callable[[str], None]) -> None:
    """Serve until a signal ends it. `opened` is told the address. Raises Fixable where there is no run, or no such port."""
    manifest = RunFolder(root).known()
    token = secrets.token_urlsafe(24)
    with _listening(port) as listener:
        index = Index(root)
        index.look()
        pairs = Pairs(index)
        pen = Pen(RunFolder(root), by, lambda: datetime.now(UTC))
        desk = Desk(pairs, pen, f"/{token}", manifest.name)
        config = uvicorn.Config(
            application(desk, token), log_level="error", access_log=False, lifespan="off", ws="none",
            server_header=False, proxy_headers=False, timeout_graceful_shutdown=LAST,
        )  # fmt: skip
        opened(f"http://{HOST}:{listener.getsockname()[1]}/{token}/")
        with suppress(KeyboardInterrupt):  # uvicorn ends well, and then raises the signal again
            uvicorn.Server(config).run([listener])
        pen.close()
        pairs.close()


def _listening(port: int) -> socket.socket:
    """Raises Fixable."""
    try:
        return socket.create_server((HOST, port), backlog=128)
    except OSError as error:
        raise Fixable(
            f"--port {port}: cannot be listened on ({error.strerror}); name another one, or none for a free one"
        ) from error
