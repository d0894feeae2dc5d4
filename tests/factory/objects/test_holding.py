"""A run in a store while it is held: by one machine at a time, and through a store that does not answer."""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from factory.ledger.marks import write_mark
from factory.objects import holding
from factory.objects.bucket import Objects
from factory.objects.lease import Pace
from factory.objects.place import copy_of
from factory.run import RunFolder
from factory.work import now
from schemas.errors import Busy, StoreUnavailable
from schemas.marks import HumanMark, Mark
from tests.conftest import Command, RecipeWriter
from tests.fake_engine import FakeEngine
from tests.object_store import ObjectStore, Turnstile
from tests.runs import assert_equal, made, tables

MARK = HumanMark("p", 0, "c", "r", Mark.RIGHT, "", "me", now())


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "PACE", Pace(every=0.1, expiry=1.0))


@pytest.fixture
def turnstile(s3: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Turnstile]:
    """What the libraries take for the store."""
    with Turnstile(s3).serving() as before:
        monkeypatch.setenv("AWS_ENDPOINT_URL", before.url)
        S3FileSystem.clear_instance_cache()
        yield before
        S3FileSystem.clear_instance_cache()


@pytest.fixture
def run(stored: str, brisk: None) -> RunFolder:
    return RunFolder(copy_of(f"{stored}/run"))


def there(run: RunFolder, stored: str) -> set[str]:
    return {path for path in Objects(f"{stored}/run").list() if not path.startswith(".lease")}


def test_what_is_made_is_in_the_store_while_the_run_is_held(run: RunFolder, stored: str, s3: ObjectStore) -> None:
    with run.locked():
        run.recipe_path.write_text("recipe")
        waited = threading.Event()
        while "recipe.yaml" not in there(run, stored):
            waited.wait(0.1)
        (run.root / "logs").mkdir()
        (run.root / "logs" / "train.log").write_text("line")
    assert there(run, stored) == {"recipe.yaml", "logs/train.log"}


def test_another_machine_is_refused_while_the_run_is_held(
    run: RunFolder, stored: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with run.locked():
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
        other = RunFolder(copy_of(f"{stored}/run"))
        with pytest.raises(Busy, match=f"^{stored}/run: process .* works on this run"), other.locked():
            pass
        with pytest.raises(Busy, match="works on this run"):
            write_mark(other, MARK, None)
    with other.locked():
        pass


def test_mark_is_sent_by_who_holds_the_run_here(run: RunFolder, stored: str) -> None:
    with run.locked():
        write_mark(run, MARK, None)
    assert there(run, stored) == {"human.jsonl"}


def test_holder_whose_lease_was_taken_stops_and_sends_nothing_more(
    run: RunFolder, stored: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = threading.Event()
    monkeypatch.setattr(signal, "getsignal", lambda number: print)
    monkeypatch.setattr("factory.objects.holding.os.kill", lambda process, number: stopped.set())

    def work() -> None:
        with run.locked():
            Objects(f"{stored}/run").create(".lease/000002", b"of another")
            assert stopped.wait(20)
            run.recipe_path.write_text("recipe")

    with pytest.raises(Busy, match="another process has taken over this run"):
        work()
    assert there(run, stored) == set()
    assert run.recipe_path.read_text() == "recipe"


def test_run_goes_through_a_store_that_turns_every_third_request_away(
    turnstile: Turnstile, stored: str, brisk: None, write_recipe: RecipeWriter, prefactory: Command
) -> None:
    on_disk = made(write_recipe())
    asked: list[str] = []

    def every_third(method: str, path: str) -> bool:
        asked.append(path)
        return len(asked) % 3 == 0

    turnstile.turned_away = every_third
    assert prefactory("run", write_recipe({"machine.runs": stored, "name": "run"}, name="far"), "--plain").code == 0
    turnstile.turned_away = lambda method, path: False
    assert_equal(tables(copy_of(f"{stored}/run")), on_disk)
    assert prefactory("verify", f"{stored}/run").code == 0


def test_run_goes_on_without_its_store_and_the_same_command_sends_what_it_made(
    turnstile: Turnstile,
    stored: str,
    brisk: None,
    write_recipe: RecipeWriter,
    prefactory: Command,
    fake_engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    s3: ObjectStore,
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(S3FileSystem, "retries", 1)
    recipe = write_recipe({"machine.runs": stored, "name": "run"}, name="far")
    turnstile.turned_away = lambda method, path: bool(fake_engine.questions)
    ended = prefactory("run", recipe, "--plain")
    assert ended.code == 1
    assert "all that was made is kept here, and the same command sends it" in ended.err
    asked = len(fake_engine.questions)
    turnstile.turned_away = lambda method, path: False
    again = prefactory("run", recipe, "--plain")
    assert again.code == 0, again.err
    assert len(fake_engine.questions) == asked
    assert prefactory("verify", f"{stored}/run").code == 0


def test_folder_of_ones_own_has_nothing_to_do_with_any_store(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with run.locked(), holding.beside(run.root):
        assert run.look() is run
        assert not holding.away(run.root)


def test_store_that_cannot_be_reached_is_said_before_the_run_is_held(
    turnstile: Turnstile, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(S3FileSystem, "retries", 1)
    turnstile.turned_away = lambda method, path: True
    with pytest.raises(StoreUnavailable, match="cannot be reached, or is out of order"), run.locked():
        pytest.fail("held")
