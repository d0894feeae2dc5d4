"""Pairs that heed what people say of them: new marks make the pairs anew, and nothing before them.

pairing: {marks: flip}     then `prefactory pair RECIPE`, or `prefactory run RECIPE`
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from factory.ledger.identity import Stage
from factory.run import RunFolder
from schemas.rows import Cause, DropReason, Loop, Pair, Row
from schemas.tables import Table
from tests.conftest import Command, RecipeWriter
from tests.fake_engine import FakeEngine
from tests.flows.test_verify import with_rows
from tests.runs import assert_equal, make, tables

Mark = Callable[[Pair, str], None]


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RecipeWriter]:
    with FakeEngine() as engine:
        yield RecipeWriter(tmp_path_factory.mktemp("marks"), engine.url)


@pytest.fixture(scope="module")
def recipe(write: RecipeWriter) -> Path:
    return write({"pairing.marks": "flip"})


@pytest.fixture(scope="module")
def whole(recipe: Path) -> Path:
    root, _ = make(recipe, Stage.EXPORT)
    return Path(shutil.copytree(root, root.with_name("as it was")))


@pytest.fixture
def root(whole: Path) -> Path:
    """A finished run that is put back as it was before each test."""
    root = whole.with_name("small")
    shutil.rmtree(root)
    return Path(shutil.copytree(whole, root))


@pytest.fixture
def mark(prefactory: Command, root: Path) -> Mark:
    def say(pair: Pair, word: str) -> None:
        ended = prefactory("mark", root, pair.prompt_id, word, "--by", "ann")
        assert ended.code == 0, ended.err

    return say


def of_opinion(root: Path) -> list[Pair]:
    """Whose rejected answer may be chosen."""
    fit = {one.rollout_id for one in tables(root).rollouts if one.loop is Loop.CLEAN and one.finished}
    return [pair for pair in tables(root).pairs if pair.cause is Cause.JURY and pair.rejected_id in fit]


def paid(root: Path) -> dict[str, bytes]:
    """What was there before any pair was."""
    return {
        path.name: path.read_bytes()
        for stage in ("prompts", "rollouts", "verdicts", "spreads")
        for path in root.glob(f"round=0/_records/{stage}-*.json")
    }


def test_new_marks_make_the_pairs_anew_and_nothing_before_them(
    prefactory: Command, recipe: Path, root: Path, mark: Mark
) -> None:
    flipped, bad, right = of_opinion(root)[:3]
    before = paid(root)
    for pair, word in ((flipped, "flipped"), (bad, "both_bad"), (right, "right")):
        mark(pair, word)
    assert prefactory("verify", root).code == 0  # the pairs are those of the marks that there were

    assert prefactory("export", recipe).code == 0

    made = tables(root)
    by_prompt = {pair.prompt_id: pair for pair in made.pairs}
    assert (by_prompt[flipped.prompt_id].chosen, by_prompt[flipped.prompt_id].cause) == (flipped.rejected, Cause.HUMAN)
    assert by_prompt[right.prompt_id] == right
    assert {row.reason for row in made.dropped if row.prompt_id == bad.prompt_id} == {DropReason.MARKED_BOTH_BAD}
    assert paid(root) == before
    assert prefactory("verify", root).code == 0
    shown = prefactory("query", root, "SELECT step, prompts FROM funnel WHERE step IN "
                       "('paired: human', 'dropped: marked_both_bad') ORDER BY ALL", "--format", "csv")  # fmt: skip
    assert shown.out.split() == ["step,prompts", "dropped:", "marked_both_bad,1", "paired:", "human,1"]
    assert "human" in prefactory("status", root).out


def test_marks_are_taken_back_of_a_pair_that_is_not_there_any_more(
    prefactory: Command, recipe: Path, root: Path, mark: Mark
) -> None:
    before = tables(root)
    flipped, bad = of_opinion(root)[:2]
    mark(flipped, "flipped")
    mark(bad, "both_bad")
    assert prefactory("run", recipe, "--plain").code == 0
    assert len(tables(root).pairs) == len(before.pairs) - 1

    mark(flipped, "flipped")  # which is the other way round by now
    mark(bad, "withdrawn")
    assert prefactory("run", recipe, "--plain").code == 0

    assert_equal(tables(root), before)
    assert prefactory("verify", root).code == 0


def test_repair_makes_the_pairs_of_the_marks_that_they_were_made_with(
    prefactory: Command, recipe: Path, root: Path, mark: Mark
) -> None:
    first, second = of_opinion(root)[:2]
    mark(first, "flipped")
    assert prefactory("pair", recipe).code == 0
    made = tables(root)
    mark(second, "both_bad")  # and nobody has paired since
    for part in RunFolder(root).root.glob("round=0/pairs/*.parquet"):
        part.unlink()

    assert prefactory("verify", root, "--repair").code == 0

    assert_equal(tables(root), made)


def test_verify_finds_a_pair_that_is_called_a_persons_and_is_not(
    prefactory: Command, recipe: Path, root: Path, mark: Mark
) -> None:
    one, other = of_opinion(root)[:2]
    mark(other, "flipped")
    assert prefactory("pair", recipe).code == 0
    run = RunFolder(root)
    shard = next(each for each in range(run.shards()) if one in run.read_rows(Pair, each))
    rows: list[Row] = [replace(pair, cause=Cause.HUMAN) if pair == one else pair for pair in run.read_rows(Pair, shard)]
    with_rows(run, "pairs", Table.PAIRS, rows, shard)

    ended = prefactory("verify", root)

    assert ended.code == 2
    assert "is said to be a person's, and no mark says so" in ended.out


def test_verify_says_where_the_marks_of_the_pairs_are_gone(
    prefactory: Command, recipe: Path, root: Path, mark: Mark
) -> None:
    mark(of_opinion(root)[0], "flipped")
    assert prefactory("pair", recipe).code == 0
    RunFolder(root).human_path.unlink()

    ended = prefactory("verify", root)

    assert ended.code == 2
    assert "human.jsonl: does not hold the marks that the pairs were made with" in ended.out
    assert prefactory("pair", recipe).code == 0
    assert prefactory("verify", root).code == 0


def test_pairs_that_a_training_was_begun_from_stay_as_they_are(
    prefactory: Command, recipe: Path, root: Path, mark: Mark
) -> None:
    before = tables(root)
    RunFolder(root).train_path(0).mkdir(parents=True)
    mark(of_opinion(root)[0], "flipped")

    assert prefactory("run", recipe, "--plain").code == 0

    assert_equal(tables(root), before)


def test_marks_are_heeded_by_a_run_that_did_not_heed_them_when_it_is_paired_anew(
    prefactory: Command, write: RecipeWriter
) -> None:
    root, _ = make(write({"name": "plain"}, name="plain"))
    pair = of_opinion(root)[0]
    assert prefactory("mark", root, pair.prompt_id, "both_bad").code == 0
    heeding = write({"name": "plain", "pairing.marks": "exclude"}, name="heeding")

    refused = prefactory("run", heeding, "--plain")

    assert refused.code == 2
    assert 'pairing.marks: absent -> "exclude"' in refused.error
    assert prefactory("pair", heeding).code == 0
    assert pair.prompt_id not in {one.prompt_id for one in tables(root).pairs}
    assert prefactory("run", heeding, "--plain").code == 0
    assert prefactory("verify", root).code == 0
