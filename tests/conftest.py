"""What many tests start from: a fake engine, a small recipe that points at it, a cache of their own.

Tests marked `real` run a real model and keep the user's cache folder, where its conversion is shared between runs; no
other test can touch that folder.
"""

import json
import os
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import hypothesis
import pytest
import yaml
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from factory.engine import Engine
from flows.cli import main
from tests.fake_engine import FakeEngine
from tests.fake_hub import TOKEN, FakeHub
from tests.gcs_store import GcsStore, gcs_store
from tests.object_store import BUCKET, ObjectStore, object_store

hypothesis.settings.register_profile("unhurried", deadline=None)  # a shared machine may pause at any example
hypothesis.settings.load_profile("unhurried")

REAL = "test_real_"  # how the names of files begin in which every test has a real model
_CACHE = "XDG_CACHE_HOME"
_USERS_CACHE = os.environ.get(_CACHE)
_OWN_CACHE = tempfile.TemporaryDirectory(prefix="prefactory-tests-")

PROMPTS: Sequence[Mapping[str, object]] = (
    {"prompt": "[loops] Tell me about rain."},
    {"prompt": "[capped] Tell me everything."},
    {"prompt": "[same] What is a bridge?"},
    {"prompt": "[blank] Say nothing."},
    {"prompt": "[thinks] Why is the sky blue?"},
    {"prompt": "[ends] Wie heißt die Hauptstadt von Österreich? 🏔️", "language": "de"},
    {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is a tree?"}]},
    *({"prompt": f"Write a sentence about number {number}."} for number in range(6)),
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The real models first: they take longest, and where several processes share the tests one of them has them all."""
    items.sort(key=lambda item: not item.path.name.startswith(REAL))


class OneForTheRealModels(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
    """A file's tests stay together with its fixtures, and those of all files of real models in one process: two servers at
    once would take twice the memory and no less time.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return REAL if Path(file).name.startswith(REAL) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneForTheRealModels:
    return OneForTheRealModels(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture of the test, of whatever scope."""
    if item.get_closest_marker("real") is None:
        os.environ[_CACHE] = _OWN_CACHE.name
    elif _USERS_CACHE is None:
        os.environ.pop(_CACHE, None)
    else:
        os.environ[_CACHE] = _USERS_CACHE


def pytest_unconfigure() -> None:
    _OWN_CACHE.cleanup()


@pytest.fixture
def fake_engine() -> Iterator[FakeEngine]:
    with FakeEngine() as engine:
        yield engine


@dataclass(frozen=True, slots=True)
class RecipeWriter:
    """Writes recipes for the model at `url`, and their prompts, into `folder`. Runs go to `folder`/runs."""

    folder: Path
    url: str

    def __call__(
        self,
        changes: Mapping[str, object] | None = None,
        prompts: Sequence[Mapping[str, object]] | str = PROMPTS,
        name: str = "recipe",
    ) -> Path:
        """`changes`: dotted fields with their values. `prompts`: rows, or the file's text. `name`: the recipe file's."""
        text = prompts if isinstance(prompts, str) else "".join(json.dumps(row) + "\n" for row in prompts)
        (self.folder / "prompts.jsonl").write_text(text, encoding="utf-8")
        document: dict[str, object] = {
            "name": "small",
            "seed": 7,
            "prompts": {"sources": [{"path": "prompts.jsonl"}]},
            "policy": {"model": "fake-model", "urls": [self.url]},
            "rollouts": {"max_tokens": 400},
            "jury": {
                "judges": [{"judge": judge} for judge in ("helpfulness", "correctness", "clarity")],
                "trust": {"canaries": 0, "reasked": 0},  # so that every request makes a row of the pairs' own tables
            },
            "export": {"test_share": 0.2},
            "machine": {"runs": str(self.folder / "runs"), "shard_size": 5, "concurrency": 16, "request_timeout": 30},
        }
        for field, value in (changes or {}).items():
            _set(document, field.split("."), value)
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        return path


def _set(document: dict[str, object], at: Sequence[str], value: object) -> None:
    for part in at[:-1]:
        inner = document.setdefault(part, {})
        assert isinstance(inner, dict)
        document = inner
    document[at[-1]] = value


@pytest.fixture
def write_recipe(tmp_path: Path, fake_engine: FakeEngine) -> RecipeWriter:
    return RecipeWriter(tmp_path, fake_engine.url)


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Engines that a run opens do not wait between two tries; the list holds how long they would have waited."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("factory.serving.engines.Engine", partial(Engine, sleep=sleep))
    return waited


@dataclass(frozen=True, slots=True)
class Ended:
    """What a command left: its exit code and what it said."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that says what was wrong. Progress is whatever begins with a time."""
        (line,) = [line for line in self.err.splitlines() if not line.startswith("[")]
        assert line.startswith("prefactory: ")
        return line.removeprefix("prefactory: ")


Command = Callable[..., Ended]


@pytest.fixture
def prefactory(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command line, in this process."""

    def command(*words: object) -> Ended:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["prefactory", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        return Ended(int(end.value.code or 0), said.out, said.err)

    return command


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of gold files and prompts that is not part of this repository."""
    named = os.environ.get("PREFACTORY_SHARED")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: set PREFACTORY_SHARED to the shared folder")
    return folder


@pytest.fixture
def fake_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """The Hub of every push in this process."""
    with FakeHub().serving() as served:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", served.url)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            served.url + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield served


@pytest.fixture(scope="session")
def _s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with object_store(tmp_path_factory.mktemp("s3") / "log") as store:
        yield store


@pytest.fixture
def s3(_s3: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """A server that speaks S3, as the libraries find it; this machine has no copy of anything yet."""
    for name, value in _s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(_CACHE, str(tmp_path / "cache"))
    return _s3


@pytest.fixture
def stored(s3: ObjectStore) -> str:
    """The URL below which a test may have runs."""
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def _gcs() -> Iterator[GcsStore]:
    try:
        with gcs_store(BUCKET) as store:
            yield store
    except RuntimeError as error:  # the package has a program for most machines, not for all
        pytest.skip(str(error))


@pytest.fixture
def stored_by_google(_gcs: GcsStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """As `stored`, in a server that speaks as Google's does."""
    for name, value in _gcs.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(_CACHE, str(tmp_path / "cache"))
    return f"gs://{BUCKET}/{uuid.uuid4().hex}"
