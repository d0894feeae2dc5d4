"""A server that speaks the Hugging Face hub's protocol as far as a push of a dataset needs it, on loopback, in memory."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

TOKEN = "hf_" + "a" * 30
Files = dict[str, bytes]


@dataclass
class FakeHub:
    """`repos`: what lies in each repository. `failing`: so many commits that are answered with 500."""

    repos: dict[str, Files] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    commits: list[tuple[str, list[str]]] = field(default_factory=list)  # the repository, and what was done
    failing: int = 0
    url: str = ""

    @contextmanager
    def serving(self) -> Iterator["FakeHub"]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


def blob_id(content: bytes) -> str:
    """As git names a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Not to the terminal."""

    def do_HEAD(self) -> None:
        self._file(with_body=False)

    def do_GET(self) -> None:
        path = unquote(self.path.split("?")[0])
        if path.startswith("/datasets/"):
            self._file(with_body=True)
            return
        repo, _, _listing = path.removeprefix("/api/datasets/").partition("/tree/main")
        files = self.hub.repos.get(repo.removesuffix("/revision/main"))
        if files is None:
            self._answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        elif "/tree/main" in path:
            self._answer(200, [_entry(name, content) for name, content in files.items()])
        else:
            self._answer(200, {"id": repo, "sha": "0" * 40, "siblings": [{"rfilename": name} for name in files]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid username or password."})
            return
        path = unquote(self.path.split("?")[0])
        if path == "/api/repos/create":
            self._create(json.loads(body))
            return
        if path == "/api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
            return
        repo, verb, _ = path.removeprefix("/api/datasets/").rsplit("/", 2)
        files = self.hub.repos[repo]
        if verb == "preupload":
            wanted = [one["path"] for one in json.loads(body)["files"]]
            known = {name: blob_id(files[name]) for name in wanted if name in files}
            said = [
                {"path": name, "uploadMode": "regular", "shouldIgnore": False, "oid": known.get(name)}
                for name in wanted
            ]
            self._answer(200, {"files": said})
        elif verb == "commit":
            self._commit(repo, [json.loads(line) for line in body.splitlines()])
        else:
            self._answer(404, {"error": f"no such verb: {verb}"})

    def _create(self, wanted: dict[str, Any]) -> None:
        repo = f"{wanted['organization']}/{wanted['name']}"
        if repo in self.hub.repos:
            self._answer(
                409, {"error": "You already created this dataset repo", "url": f"{self.hub.url}/datasets/{repo}"}
            )
            return
        self.hub.repos[repo] = {".gitattributes": b"*.parquet filter=lfs\n"}
        self.hub.private[repo] = wanted["visibility"] == "private"
        self._answer(200, {"url": f"{self.hub.url}/datasets/{repo}", "name": repo, "id": repo})

    def _commit(self, repo: str, lines: list[dict[str, Any]]) -> None:
        if self.hub.failing:
            self.hub.failing -= 1
            self._answer(500, {"error": "out of order"})
            return
        done = []
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.hub.repos[repo][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del self.hub.repos[repo][value["path"]]
            else:
                continue
            done.append(f"{line['key']} {value['path']}")
        self.hub.commits.append((repo, done))
        self._answer(200, {"commitUrl": f"{self.hub.url}/datasets/{repo}/commit/{'1' * 40}", "commitOid": "1" * 40})

    def _file(self, *, with_body: bool) -> None:
        repo, _, name = unquote(self.path.split("?")[0]).removeprefix("/datasets/").partition("/resolve/main/")
        content = self.hub.repos.get(repo, {}).get(name)
        if content is None:
            self._answer(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
            return
        self.send_response(200)
        self.send_header("ETag", f'"{blob_id(content)}"')
        self.send_header("X-Repo-Commit", "1" * 40)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def _answer(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _entry(name: str, content: bytes) -> dict[str, object]:
    return {"type": "file", "path": name, "size": len(content), "oid": blob_id(content)}
