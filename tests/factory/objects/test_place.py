"""Where copies lie, and what they are called by."""

from pathlib import Path

import pytest

from factory.objects.place import copies_folder, copy_of, in_urls, is_store, url_of


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_copy_lies_in_the_cache_under_the_runs_own_name() -> None:
    root = copy_of("s3://bucket/runs/laptop/")
    assert root.name == "laptop"
    assert root.is_relative_to(copies_folder())
    assert url_of(root) == "s3://bucket/runs/laptop"
    assert copy_of("s3://bucket/runs/laptop") == root != copy_of("s3://other/runs/laptop")


def test_folder_of_ones_own_is_no_copy(tmp_path: Path) -> None:
    assert url_of(tmp_path / "run") is None
    (tmp_path / "file").write_text("")
    assert url_of(tmp_path / "file" / "run") is None


def test_line_for_a_person_names_the_url() -> None:
    root = copy_of("gs://bucket/runs/a-b.c")
    line = (
        f"{root / 'manifest.json'}: not a manifest; ({root}), `prefactory verify {root}`, {copies_folder()}/elsewhere"
    )
    url = "gs://bucket/runs/a-b.c"
    assert in_urls(line) == (
        f"{url}/manifest.json: not a manifest; ({url}), `prefactory verify {url}`, {copies_folder()}/elsewhere"
    )


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("s3://bucket/run", True),
        ("gs://bucket/a/b=1/c.d_e-f/", True),
        ("s3://bucket", True),
        ("s3://bucket//run", False),
        ("s3://bucket/run?versionId=1", False),
        ("gs://bucket/run#1", False),
        ("s3://bucket/ru*n", False),
        ("https://bucket/run", False),
        ("s3://", False),
    ],
)
def test_place_in_a_store_is_told_from_others(text: str, known: bool) -> None:
    assert is_store(text) is known
