"""Objects by both protocols: the same contract, each against a server in a process of its own."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from factory.objects import bucket
from factory.objects.bucket import NotThere, Objects
from schemas.errors import Fixable


@pytest.fixture(params=["s3", "gs"])
def objects(request: pytest.FixtureRequest) -> Objects:
    if request.param == "s3":
        return Objects(f"{request.getfixturevalue('stored')}/run")
    return Objects(f"{request.getfixturevalue('stored_by_google')}/run")


def test_objects_are_listed_below_their_run_alone(objects: Objects) -> None:
    Objects(f"{objects.url}-other").write("a", b"not of this run")
    assert objects.list() == {}
    objects.write("round=0/pairs/part-00000.parquet", b"rows")
    objects.write("manifest.json", b"{}")
    there = objects.list()
    assert {path: item.size for path, item in there.items()} == {
        "manifest.json": 2,
        "round=0/pairs/part-00000.parquet": 4,
    }
    assert list(objects.list("round=0")) == ["round=0/pairs/part-00000.parquet"]


def test_object_that_was_put_is_known_in_the_listing_as_that(objects: Objects) -> None:
    put = objects.write("a", b"one")
    item = objects.list()["a"]
    assert put.md5 == item.md5 == hashlib.md5(b"one", usedforsecurity=False).hexdigest()
    assert put.version in (None, item.version)
    objects.write("a", b"two")
    assert objects.list()["a"].version != item.version


def test_object_is_created_by_one_alone(objects: Objects) -> None:
    assert objects.create("a", b"mine")
    assert not objects.create("a", b"yours")
    assert objects.read("a", 4) == b"mine"


def test_object_is_read_in_ranges(objects: Objects) -> None:
    objects.write("a", b"0123456789")
    assert objects.read("a", 10) == b"0123456789"
    assert objects.read("a", 5, 2) == b"234"
    assert objects.read("a", 64) == b"0123456789"
    assert objects.read("a", 0) == b""


def test_file_goes_there_and_back(objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").write_bytes(b"x" * 1000)
    objects.put("a/file", tmp_path / "there")
    monkeypatch.setattr(bucket, "WHOLE", 10)
    objects.put("a/larger", tmp_path / "there")
    for path in ("a/file", "a/larger"):
        objects.fetch(path, 1000, tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == b"x" * 1000


def test_objects_that_are_deleted_are_gone_and_need_not_be_there(objects: Objects) -> None:
    for path in "abc":
        objects.write(path, b"")
    objects.delete(["a", "b", "never"])
    assert list(objects.list()) == ["c"]
    objects.delete([])


def test_bucket_that_is_not_there_is_named_with_its_mend(objects: Objects) -> None:
    url = f"{objects.url.partition('://')[0]}://prefactory-nowhere/run"
    calls: tuple[Callable[[], object], ...] = (
        Objects(url).list,
        lambda: Objects(url).write("a", b""),
        lambda: Objects(url).read("a", 3),
    )
    for call in calls:
        with pytest.raises(NotThere, match=f"^{url}: .*name a bucket that is there"):
            call()


def test_package_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = bucket.Kind("no_such_package", "s3", ())
    monkeypatch.setitem(bucket.KINDS, "s3", kind)
    with pytest.raises(Fixable, match=r"^s3://b/run: needs the package no_such_package: .*its extra `s3`"):
        Objects("s3://b/run")
