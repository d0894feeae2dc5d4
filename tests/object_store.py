"""A server that speaks S3, in a process of its own, for whoever wants a run in an object store: tests and benchmarks.

The rule that its reader must not break: what arrived is what the server's own log says.
"""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
from botocore.client import BaseClient
from botocore.config import Config

BUCKET = "prefactory-runs"
KEYS = {"AWS_ACCESS_KEY_ID": "an-id", "AWS_SECRET_ACCESS_KEY": "a-key", "AWS_DEFAULT_REGION": "us-east-1"}
UP = 60.0  # seconds that it may take to start
_LINE = re.compile(r'"([A-Z]+) (/\S*) HTTP/[\d.]+" (\d+)')


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as the server has logged it."""

    method: str
    path: str
    status: int

    @property
    def kind(self) -> str:
        if self.method == "GET":
            return "LIST" if "list-type=2" in self.path else "GET"
        return "DELETE" if "?delete" in self.path or self.method == "DELETE" else self.method


@dataclass
class ObjectStore:
    port: int
    log: Path
    process: "subprocess.Popen[bytes]"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> Mapping[str, str]:
        """In which the libraries find it, and the keys that it takes."""
        return {**KEYS, "AWS_ENDPOINT_URL": self.endpoint}

    def client(self) -> BaseClient:
        quick = Config(retries={"max_attempts": 0})
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            region_name=KEYS["AWS_DEFAULT_REGION"],
            config=quick,
        )

    def asked(self) -> list[Asked]:
        found = (_LINE.search(line) for line in self.log.read_text(errors="replace").splitlines())
        return [Asked(one[1], one[2], int(one[3])) for one in found if one]

    def counted(self, since: int = 0) -> Counter[str]:
        """How often each kind of request came, after the first `since` of them."""
        return Counter(one.kind for one in self.asked()[since:])

    def names(self, run: str) -> list[str]:
        """Of every object of a run."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{run}/")
        return [one["Key"].removeprefix(f"{run}/") for page in pages for one in page.get("Contents", ())]

    def read(self, name: str) -> bytes:
        return bytes(self.client().get_object(Bucket=BUCKET, Key=name)["Body"].read())

    def pause(self) -> None:
        """It answers nobody until `go_on`."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def object_store(log: Path) -> Iterator[ObjectStore]:
    """Up, and with an empty bucket."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as sink, subprocess.Popen(command, stdout=sink, stderr=sink, env=dict(os.environ)) as process:
        try:
            _wait(port)
            store = ObjectStore(port, log, process)
            store.client().create_bucket(Bucket=BUCKET)
            yield store
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()


def _wait(port: int) -> None:
    until = time.monotonic() + UP
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return


@dataclass
class Turnstile(ThreadingHTTPServer):
    """Stands before a store, and answers what `turned_away` says with a 503 of S3's; the rest it hands on."""

    store: ObjectStore
    turned_away: Callable[[str, str], bool] = lambda method, path: False  # of a request's method and path

    def __post_init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _HandedOn)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @contextmanager
    def serving(self) -> Iterator["Turnstile"]:
        thread = threading.Thread(target=self.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            self.server_close()
            thread.join()

    def __hash__(self) -> int:
        return id(self)


class _HandedOn(BaseHTTPRequestHandler):
    server: Turnstile
    protocol_version = "HTTP/1.1"

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.turned_away(self.command, self.path):
            self._answer(
                503, {}, b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
            )
            return
        handed = http.client.HTTPConnection("127.0.0.1", self.server.store.port)
        handed.request(self.command, self.path, body, dict(self.headers.items()))
        answer = handed.getresponse()
        self._answer(answer.status, dict(answer.getheaders()), answer.read())
        handed.close()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any  # noqa: N815  # as http.server calls them

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response_only(status)
        size = headers.get("Content-Length") if self.command == "HEAD" else None
        for name, value in headers.items():
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", size or str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """To nobody."""
