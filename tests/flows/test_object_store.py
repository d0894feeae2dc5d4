"""Runs in an object store, through the command line, against a server that speaks S3."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from factory.ledger.identity import Stage
from factory.objects.place import copy_of
from factory.run import RunFolder
from tests.conftest import Command, RecipeWriter
from tests.fake_engine import FakeEngine
from tests.object_store import BUCKET, ObjectStore
from tests.runs import assert_equal, made, make, tables
from tests.tiny_model import save_tiny_model
from tests.token_export import pairs, write_export

PAIRS = "SELECT count(*) AS n, min(prompt_id) AS first, round(sum(margin), 6) AS margin FROM pairs"


@dataclass(frozen=True, slots=True)
class Far:
    """A run in a store: its recipe, and its URL."""

    recipe: Path
    url: str

    @property
    def prefix(self) -> str:
        return self.url.removeprefix(f"s3://{BUCKET}/")


@pytest.fixture
def far(write_recipe: RecipeWriter, stored: str) -> Far:
    return Far(write_recipe({"machine.runs": stored, "name": "far"}, name="far"), f"{stored}/far")


@pytest.fixture(scope="module")
def _made_once(_s3: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The prefix of a finished run, for tests that begin with one: each has its objects under a name of its own."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as environment, FakeEngine() as engine:
        for name, value in {**_s3.environment, "XDG_CACHE_HOME": str(folder / "cache")}.items():
            environment.setenv(name, value)
        recipe = RecipeWriter(folder, engine.url)({"machine.runs": f"s3://{BUCKET}/made", "name": "far"})
        make(recipe, Stage.EXPORT)
        yield "made/far"


@pytest.fixture
def done(far: Far, _made_once: str, s3: ObjectStore) -> Far:
    """A finished run, of which this machine has no copy."""
    client = s3.client()
    for name in s3.names(_made_once):
        source = {"Bucket": BUCKET, "Key": f"{_made_once}/{name}"}
        client.copy_object(Bucket=BUCKET, Key=f"{far.prefix}/{name}", CopySource=source)
    return far


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], None]:
    """From now on this is another machine, which has no copy yet."""

    def move() -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))

    return move


def test_a_run_in_a_store_has_the_rows_of_one_on_disk(
    far: Far, write_recipe: RecipeWriter, prefactory: Command, s3: ObjectStore
) -> None:
    on_disk = made(write_recipe())
    ended = prefactory("run", far.recipe, "--plain")
    assert ended.code == 0, ended.err
    assert_equal(tables(copy_of(far.url)), on_disk)
    assert f"Run folder: {far.url}" in ended.out
    there = s3.names(far.prefix)
    assert {"manifest.json", "recipe.yaml", "spent.json", "round=0/pairs/part-00000.parquet"} <= set(there)
    assert not [name for name in there if "_journal" in name or name.endswith((".duckdb", ".lock"))]


def test_another_machine_answers_questions_without_fetching_rows(
    done: Far, prefactory: Command, elsewhere: Callable[[], None], s3: ObjectStore
) -> None:
    assert prefactory("verify", done.url).code == 0
    here = prefactory("query", done.url, PAIRS, "--format", "json").out
    elsewhere()
    before = len(s3.asked())
    ended = prefactory("query", done.url, PAIRS, "--format", "json")
    assert ended.code == 0, ended.err
    assert ended.out == here
    assert json.loads(here)[0]["n"] == 9
    asked = s3.counted(before)
    assert asked["LIST"] == 1
    assert not asked["HEAD"]
    assert not list(copy_of(done.url).glob("round=0/*/*.parquet"))
    assert prefactory("status", done.url).code == 0
    assert prefactory("plan", done.recipe).out.count("pairs 3") == 1
    refused = prefactory("query", done.url, f"SELECT * FROM read_text('s3://{BUCKET}/other')")
    assert "Permission Error" in refused.error


def test_another_machine_goes_on_from_where_a_run_was_left(
    far: Far,
    write_recipe: RecipeWriter,
    prefactory: Command,
    elsewhere: Callable[[], None],
    fake_engine: FakeEngine,
    s3: ObjectStore,
) -> None:
    on_disk = made(write_recipe())
    whole = len(fake_engine.questions)
    halfway = write_recipe({"machine.runs": far.url.removesuffix("/far"), "name": "far", "budget.max_requests": 130})
    assert prefactory("run", halfway, "--plain").code == 2
    assert [name for name in s3.names(far.prefix) if "_journal" in name]
    elsewhere()
    assert prefactory("run", far.recipe, "--plain").code == 0
    assert_equal(tables(copy_of(far.url)), on_disk)
    assert len(fake_engine.questions) == 2 * whole
    assert not [name for name in s3.names(far.prefix) if "_journal" in name]
    assert prefactory("verify", far.url).code == 0


def test_what_is_made_anew_replaces_what_was_there(
    done: Far, write_recipe: RecipeWriter, prefactory: Command, elsewhere: Callable[[], None], s3: ObjectStore
) -> None:
    stricter = write_recipe({"machine.runs": done.url.removesuffix("/far"), "name": "far", "pairing.margin": 3.0})
    first = s3.read(f"{done.prefix}/round=0/pairs/part-00000.parquet")
    assert prefactory("pair", stricter).code == 0
    assert s3.read(f"{done.prefix}/round=0/pairs/part-00000.parquet") != first
    elsewhere()
    assert prefactory("export", stricter, "--format", "llama-factory").code == 0
    assert [name for name in s3.names(done.prefix) if name.startswith("export/llama-factory/")]
    assert prefactory("verify", done.url).code == 0


def test_a_spoilt_object_is_found_and_made_anew(done: Far, prefactory: Command, s3: ObjectStore) -> None:
    assert prefactory("verify", done.url).code == 0
    name = f"{done.prefix}/round=0/scorecards/part-00001.parquet"
    s3.client().put_object(Bucket=BUCKET, Key=name, Body=s3.read(name)[:-1] + b"?")
    ended = prefactory("verify", done.url)
    assert ended.code == 2
    assert f"{done.url}: not as recorded" in ended.error
    assert prefactory("verify", done.url, "--repair").code == 0
    assert prefactory("verify", done.url).code == 0


def test_a_mark_lies_in_the_store(done: Far, prefactory: Command, s3: ObjectStore) -> None:
    found = prefactory("query", done.url, "SELECT min(prompt_id) AS id FROM pairs", "--format", "json").out
    assert prefactory("mark", done.url, json.loads(found)[0]["id"], "right", "--by", "me").code == 0
    assert b'"mark": "right"' in s3.read(f"{done.prefix}/human.jsonl")
    assert '"n": 1' in prefactory("query", done.url, "SELECT count(*) AS n FROM human", "--format", "json").out


def test_a_report_of_a_run_in_a_store_lies_here_and_there(done: Far, prefactory: Command, s3: ObjectStore) -> None:
    ended = prefactory("report", done.url)
    assert Path(ended.out.strip()).read_bytes() == s3.read(f"{done.prefix}/report/index.html")


def test_a_training_fetches_the_pairs_alone_and_leaves_its_checkpoint_in_the_store(
    stored: str,
    write_recipe: RecipeWriter,
    prefactory: Command,
    elsewhere: Callable[[], None],
    s3: ObjectStore,
    tmp_path: Path,
) -> None:
    pytest.importorskip("trl", reason="the trainer's libraries are not installed")
    model = save_tiny_model(tmp_path / "tiny")
    train = {"train.max_steps": 1, "train.device": "cpu"}
    recipe = write_recipe({"machine.runs": stored, "name": "far", "policy.model": str(model)} | train)
    url = f"{stored}/far"
    assert prefactory("rollout", recipe).code == 0
    with RunFolder(copy_of(url)).locked():  # the engine of the tests has other ids than the tiny model
        write_export(RunFolder(copy_of(url)).export_path("trl-tokens"), pairs(20), pairs(4, first=100))
    elsewhere()

    first = prefactory("train", url)

    assert first.code == 0, first.err
    assert f"In store:   {url}/train/checkpoint" in first.out
    assert not list(copy_of(url).glob("round=0/rollouts/*"))
    prefix = url.removeprefix(f"s3://{BUCKET}/")
    weights = s3.read(f"{prefix}/train/checkpoint/model.safetensors")
    assert weights == (copy_of(url) / "train" / "checkpoint" / "model.safetensors").read_bytes()
    shutil.rmtree(copy_of(url).parent)
    found = json.loads(prefactory("train", url, "--json").out)
    assert (found["status"], found["url"]) == ("finished", f"{url}/train")
    assert (copy_of(url) / "train" / "checkpoint" / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize("verb", ["semi-online", "evaluate", "grpo"])
def test_what_works_on_a_disk_alone_refuses_a_store(
    verb: str, far: Far, write_recipe: RecipeWriter, prefactory: Command
) -> None:
    recipe = write_recipe(
        {"machine.runs": far.url.removesuffix("/far"), "name": "far", "semi_online": {"rounds": 1}}, name="rounds"
    )
    ended = prefactory(verb, recipe)
    assert ended.code == 2
    assert ended.error.startswith(f"{far.url}: `prefactory {verb}` works on a disk")


@pytest.mark.parametrize(
    ("environment", "bucket", "said", "code"),
    [
        ({}, "no-such-bucket", "name a bucket that is there", 2),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, BUCKET, "cannot be reached", 1),
        ({"AWS_ACCESS_KEY_ID": ""}, BUCKET, "no credentials", 2),
    ],
)
def test_a_store_that_cannot_be_used_is_said_before_anything_is_spent(
    environment: dict[str, str],
    bucket: str,
    said: str,
    code: int,
    s3: ObjectStore,
    write_recipe: RecipeWriter,
    prefactory: Command,
    fake_engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    nobody = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent"}
    for name, value in {**nobody, **environment}.items():
        monkeypatch.setenv(name, value)
        if not value:
            monkeypatch.delenv(name)
    S3FileSystem.clear_instance_cache()  # a process asks the libraries once
    request.addfinalizer(S3FileSystem.clear_instance_cache)
    ended = prefactory("run", write_recipe({"machine.runs": f"s3://{bucket}/runs"}), "--plain")
    assert ended.code == code
    assert ended.error.startswith(f"s3://{bucket}/runs/")
    assert said in ended.error
    assert not fake_engine.seen


def test_a_run_may_lie_with_google(
    stored_by_google: str, write_recipe: RecipeWriter, prefactory: Command, elsewhere: Callable[[], None]
) -> None:
    on_disk = made(write_recipe())
    url = f"{stored_by_google}/far"
    recipe = write_recipe({"machine.runs": stored_by_google, "name": "far"}, name="far")
    ended = prefactory("run", recipe, "--plain")
    assert ended.code == 0, ended.err
    assert_equal(tables(copy_of(url)), on_disk)
    here = prefactory("query", url, PAIRS, "--format", "json").out
    elsewhere()
    assert prefactory("query", url, PAIRS, "--format", "json").out == here
    assert prefactory("verify", url).code == 0


def test_a_place_that_is_no_store_is_refused(prefactory: Command) -> None:
    assert "not a place for runs" in prefactory("status", "ftp://host/run").error
