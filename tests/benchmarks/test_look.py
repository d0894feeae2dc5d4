"""The folder that is looked at is a run to whatever looks at runs, and what is waited for is held against its goal."""

from pathlib import Path

import httpx
import pytest

from benchmarks import look_folder
from benchmarks.look import Waited, browsing, marked, paged, peak
from benchmarks.look_folder import run_of, write_pairs
from factory.looking import queries


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a base of two shards with four prompts each."""
    monkeypatch.setattr(look_folder, "SHARDS", 2)
    monkeypatch.setattr(look_folder, "SHARD", 4)
    for _ in write_pairs(tmp_path, 40):
        pass
    return run_of(tmp_path)


def test_write_pairs_makes_as_many_as_wanted_each_once(run: Path, tmp_path: Path) -> None:
    ids = "SELECT count(*), count(DISTINCT prompt_id) FROM pairs"
    joined = "SELECT count(*) FROM pairs JOIN rollouts r ON r.rollout_id = rejected_id"
    ((pairs, prompts),) = queries.ask(run, ids).rows

    assert 40 <= int(str(pairs)) < 48
    assert pairs == prompts
    assert queries.ask(run, joined).rows == ((pairs,),)
    assert list(write_pairs(tmp_path, 40))[-1] == pairs, "it goes on where it was, and there it is done"


def test_pages_are_waited_for_and_no_mark_is_left(run: Path, tmp_path: Path) -> None:
    with browsing(run, tmp_path / "cache") as (url, process), httpx.Client(timeout=60) as client:
        found = [*paged(url, client), *marked(url, run, client)]
        memory = peak(process)

    assert [one.what for one in found] == ["next page", "one pair, all answers", "mark", "page after a mark"]
    assert all(one.seconds > 0 for one in found)
    assert memory > 10
    assert not (run / "human.jsonl").exists()


def test_waited_holds_where_there_is_no_goal() -> None:
    assert Waited("x", 9.0, None).held
    assert Waited("x", 1.0, 1.0).held
    assert not Waited("x", 1.1, 1.0).held
