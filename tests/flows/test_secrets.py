"""A planted key, and servers that say it back: it is in nothing that a run leaves or says.

The key goes out in the header of each request and comes back wherever a careless server might put it. Then everything is
looked through: the run folder with its tables' own rows, Prefect's home and the rows of its database, the cache folder, and
what the command said, tracebacks included.
"""

import base64
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psutil
import pyarrow.parquet as pq
import pytest
from aiohttp import web

from factory.looking import queries
from factory.recipes.recipe_file import read_recipe
from factory.run import run_folder
from tests.conftest import Ended, RecipeWriter
from tests.fake_engine import CHAT, MODELS, Body, FakeEngine, Fault, Script, Seen, always, error_body

KEY = "sk-Planted/+0123456789abcdef=="
NAME = "PLANTED_KEY_OF_THE_TEST"
PLAIN, PREFECT = ["--plain"], list[str]()


def forms(key: str) -> list[bytes]:
    """What must not be found; of base64 the part in the middle that does not depend on what stands around it."""
    raw = key.encode()
    packed = [base64.b64encode(b"\0" * before + raw)[4:-4] for before in range(3)]
    return [raw, quote(key, safe="").encode(), quote(key).encode(), raw.hex().encode(), *packed]


def said(request: web.Request) -> str:
    """The header in each form that a server might show it in."""
    header = request.headers["authorization"]
    return f"{header} {base64.b64encode(header.encode()).decode()} {quote(header, safe='')} {header.encode().hex()}"


def refuses(status: int) -> Fault:
    async def fault(request: web.Request, _: Body) -> web.Response:
        message = f"Incorrect API key provided: {said(request)}"
        return web.json_response(error_body(message, code=status), status=status)

    return fault


async def page(request: web.Request, _: Body) -> web.Response:
    """An error page that is cut right within the key where messages are bounded."""
    return web.Response(status=502, text="<h1>" + "x" * (290 - len("Bearer ")) + f" {said(request)}</h1>")


async def elsewhere(request: web.Request, _: Body) -> web.Response:
    location = f"https://elsewhere.example/v1?token={quote(said(request))}"
    return web.Response(status=307, headers={"location": location})


async def answers(request: web.Request, answer: Body) -> web.Response:
    """The right answer, with the header in its text, its reasoning and its finish reason."""
    (choice,) = answer["choices"]
    choice["message"]["content"] += said(request)
    choice["message"]["reasoning"] = f"<think>{said(request)}</think>"
    return web.json_response(answer)


async def ends(request: web.Request, answer: Body) -> web.Response:
    answer["choices"][0]["finish_reason"] = said(request)
    return web.json_response(answer)


async def lists(request: web.Request, answer: Body) -> web.Response:
    return web.json_response({"data": [*answer["data"], {"id": said(request)}]})


def careless() -> Script:
    """Half of the questions fail once in a way that a retry cures, and of the answers some hold the header."""
    tried: set[str] = set()

    def script(seen: Seen) -> Fault | None:
        if seen.path == MODELS:
            return lists
        if seen.path != CHAT or seen.is_canary:
            return None
        if "number 1" in seen.asked and not seen.is_judging:
            return refuses(400)
        if (question := str(seen.body)) in tried:
            return None
        tried.add(question)
        if seen.is_judging:
            return (refuses(500), page, None, None)[len(tried) % 4]
        return (refuses(500), page, answers, ends, None, None, None)[len(tried) % 7]

    return script


def command(home: Path, *words: object) -> Ended:
    """The command as a user has it, with the key in the environment, in a home of its own."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    env |= {NAME: KEY, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "PREFECT_HOME": str(home / "prefect")}
    line = [sys.executable, "-m", "flows.cli", *map(str, words)]
    done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=300)
    return Ended(done.returncode, done.stdout, done.stderr)


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file as it lies there, and what is packed in it: the rows of Parquet and of SQLite."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        yield str(path), content
        if path.suffix == ".parquet":
            yield f"{path} rows", repr(pq.read_table(path).to_pylist()).encode()
        if content.startswith(b"SQLite format 3"):
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
                yield f"{path} rows", "\n".join(database.iterdump()).encode(errors="replace")


def holds_key(content: bytes) -> bool:
    return any(form in content for form in forms(KEY))


@pytest.mark.parametrize("how", [PLAIN, PREFECT], ids=["plain", "Prefect"])
def test_run_key_that_servers_say_back_is_in_nothing_that_is_left(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: list[str]
) -> None:
    monkeypatch.setenv(NAME, KEY)
    path = write_recipe({"policy.api_key_env": NAME})
    root = run_folder(read_recipe(path))
    fake_engine.faults = careless()

    ended = [command(tmp_path / "home", "run", path, *how), command(tmp_path / "home", "status", root)]
    ended.append(command(tmp_path / "home", "query", root, "FROM rollouts", "--format", "json"))

    assert [one.code for one in ended] == [0] * len(ended), ended[0].err
    assert all(seen.headers["Authorization"] == f"Bearer {KEY}" for seen in fake_engine.seen)
    assert queries.ask(root, "SELECT count(*) > 0 FROM rollouts WHERE text LIKE '%[the key]%'").rows == ((True,),)
    assert queries.ask(root, "SELECT count(*) > 0 FROM rollouts WHERE error LIKE '%[the key]%'").rows == ((True,),)
    assert queries.ask(root, "SELECT count(*) > 0 FROM rollouts WHERE finish_reason LIKE '%the key%'").rows == (
        (True,),
    )
    assert any(root.joinpath("export").rglob("*.arrow"))
    assert how == PLAIN or any(name.endswith(".db rows") for name, _ in contents(tmp_path))
    assert [name for name, content in contents(tmp_path) if holds_key(content)] == []
    assert [one for one in ended if holds_key((one.out + one.err).encode())] == []


def test_run_with_prefect_gives_its_server_no_key(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Looked at while it runs: the environment of every process that comes of the command, but for the command's own."""
    monkeypatch.setenv(NAME, KEY)
    seen: dict[str, bool] = {}

    def look(seen_request: Seen) -> Fault | None:
        if not seen and not seen_request.is_canary and seen_request.path == CHAT:
            (one,) = [one for one in psutil.Process().children() if "flows.cli" in one.cmdline()]
            seen.update({" ".join(child.cmdline()): NAME in child.environ() for child in one.children(recursive=True)})
        return None

    fake_engine.faults = look

    ended = command(tmp_path / "home", "run", write_recipe({"policy.api_key_env": NAME}))

    assert ended.code == 0, ended.err
    assert any("uvicorn" in line for line in seen)
    assert {line for line, sees in seen.items() if sees} == set()


LATER: Script = lambda seen: None if seen.path == MODELS or seen.is_canary else refuses(401)  # noqa: E731  # one of a row
ENDS = {
    "401 at the door": always(refuses(401), MODELS),
    "401 later": LATER,
    "307": always(elsewhere),
    "other models": always(lists, MODELS),
}


@pytest.mark.parametrize(
    ("faults", "how"),
    [*((faults, ["--plain", "--debug"]) for faults in ENDS.values()), (LATER, PLAIN), (LATER, ["--debug"])],
    ids=[*ENDS, "401 without a traceback", "401 with Prefect"],
)
def test_run_that_a_server_ends_shows_no_key(
    write_recipe: RecipeWriter,
    fake_engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    faults: Script,
    how: list[str],
) -> None:
    monkeypatch.setenv(NAME, KEY)
    model = {"model": "another", "urls": [fake_engine.url], "api_key_env": NAME}
    fake_engine.faults = faults

    ended = command(tmp_path / "home", "run", write_recipe({"policy": model}), *how)

    assert ended.code == (1 if "--debug" in how else 2), ended.err
    assert ("Traceback" in ended.err) == ("--debug" in how)
    assert not holds_key((ended.out + ended.err).encode())
    assert [name for name, content in contents(tmp_path) if holds_key(content)] == []
