"""The verb `mark`: what a person says of a pair, beside a run that may be at work.

prefactory mark runs/laptop 3f2a flipped --why "the second one answers the question"
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from factory.ledger.identity import Stage
from factory.ledger.marks import standing_marks
from factory.run import RunFolder
from schemas.marks import Mark
from schemas.rows import Cause, Pair
from tests.conftest import Command, RecipeWriter
from tests.fake_engine import FakeEngine
from tests.runs import make, tables


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with FakeEngine() as engine:
        yield make(RecipeWriter(tmp_path_factory.mktemp("mark"), engine.url)(), Stage.EXPORT)[0]


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def a_pair(root: Path, *, looped: bool) -> Pair:
    return next(pair for pair in tables(root).pairs if (pair.cause is Cause.LOOP) == looped)


def test_mark_is_kept_while_the_run_is_at_work_and_stands_in_the_catalog(prefactory: Command, root: Path) -> None:
    pair = a_pair(root, looped=False)

    with RunFolder(root).locked():
        ended = prefactory("mark", root, pair.prompt_id[:12], "flipped", "--why", "the other answers it", "--by", "ann")

    assert ended.code == 0
    (mark,) = standing_marks(RunFolder(root)).values()
    assert (mark.better, mark.worse, mark.why, mark.marked_by) == (
        pair.rejected_id,
        pair.chosen_id,
        "the other answers it",
        "ann",
    )
    queries = (
        "SELECT mark FROM human",
        "SELECT count(*) FROM duckdb_columns() WHERE table_name = 'human' AND comment IS NULL",
    )
    with duckdb.connect(str(root / "catalog.duckdb"), read_only=True) as client:
        assert [client.execute(sql).fetchall() for sql in queries] == [[("flipped",)], [(0,)]]
    assert prefactory("verify", root).code == 0


def test_mark_withdrawn_is_none(prefactory: Command, root: Path) -> None:
    pair = a_pair(root, looped=True)
    for word in (Mark.BOTH_BAD, Mark.WITHDRAWN):
        assert prefactory("mark", root, pair.prompt_id, word).code == 0

    assert standing_marks(RunFolder(root)) == {}


def test_mark_a_loop_cannot_be_made_the_chosen_answer(prefactory: Command, root: Path) -> None:
    ended = prefactory("mark", root, a_pair(root, looped=True).prompt_id, "flipped")

    assert ended.code == 2
    assert "a hard loop" in ended.error
    assert not RunFolder(root).human_path.exists()


@pytest.mark.parametrize(
    ("prompt_id", "round_", "said"),
    [("nothing", 0, "no pair of that prompt"), ("", 0, "more than one pair begins so"), ("", 1, "no run there")],
)
def test_mark_of_no_pair_or_of_several_is_one_line(
    prefactory: Command, root: Path, prompt_id: str, round_: int, said: str
) -> None:
    ended = prefactory("mark", root, prompt_id, "right", "--round", round_)

    assert ended.code == 2
    assert said in ended.error
