"""The index of a run's pairs: made once, kept in the cache, made anew for what has changed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from factory.browsing.filters import Filters, Order, read_filters
from factory.browsing.index import Index, blocks
from factory.browsing.listing import Pairs, Place
from factory.run import RunFolder
from schemas.errors import SchemaError
from schemas.rows import Pair
from schemas.tables import Table
from tests.browsed import a_browsed_run


@contextmanager
def indexed(root: Path, cache: Path) -> Iterator[Index]:
    index = Index(root, cache)
    index.look()
    index.finish()
    yield index
    index.close()


@contextmanager
def browsed(root: Path, cache: Path) -> Iterator[Pairs]:
    index = Index(root, cache)
    index.look()
    index.finish()
    pairs = Pairs(index)
    yield pairs
    pairs.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return a_browsed_run(tmp_path / "run")


def files(cache: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in cache.rglob("*.parquet")}


def test_index_holds_what_pairs_are_filtered_by(root: Path, tmp_path: Path) -> None:
    with indexed(root, tmp_path / "cache") as index:
        rows = index.ask(
            "SELECT round, prompt_id, cause, margin, disagreement, loop_rule, source, chosen_slot, rejected_slot "
            f"FROM {index.ready.table} WHERE round = 1 ORDER BY number LIMIT 2"
        )

    assert rows == [
        (1, "p00", "loop", None, None, "exact", "file", "t0", "greedy"),
        (1, "p01", "jury", 0.1, 0.0, None, "file", "t0", "t1"),
    ]


def test_index_is_not_made_again_where_nothing_has_changed(root: Path, tmp_path: Path) -> None:
    with indexed(root, tmp_path / "cache"):
        made = files(tmp_path / "cache")

    with indexed(root, tmp_path / "cache") as index:
        assert index.ready.whole

    assert len(made) == 2
    assert files(tmp_path / "cache") == made


def test_index_takes_in_a_part_that_comes_while_it_is_open(root: Path, tmp_path: Path) -> None:
    with indexed(root, tmp_path / "cache") as index:
        (before,) = index.ask(f"SELECT count(*) FROM {index.ready.table}")[0]
        run = RunFolder(root, 1)
        run.write_part(Table.PAIRS, 1, run.read_rows(Pair, 0)[:5])
        index.look()
        index.finish()

        (after,) = index.ask(f"SELECT count(*) FROM {index.ready.table}")[0]

    assert (before, after) == (33, 38)
    assert len(files(tmp_path / "cache")) == 2, "what nobody wants any more is removed"


def test_index_leaves_out_and_names_what_cannot_be_read(root: Path, tmp_path: Path) -> None:
    RunFolder(root, 1).part_path(Table.PAIRS, 0).write_bytes(b"no parquet")

    with indexed(root, tmp_path / "cache") as index:
        (count,) = index.ask(f"SELECT count(*) FROM {index.ready.table}")[0]

        assert count == 3
        assert "round 1, shards 0 to 0" in index.trouble
        assert index.ready.whole, "nothing more will come of it"


def test_index_of_a_run_without_pairs_is_empty(tmp_path: Path) -> None:
    with browsed(tmp_path, tmp_path / "cache") as pairs:
        assert pairs.index.ask(f"SELECT * FROM {pairs.index.ready.table}") == []
        assert pairs.listing(Filters(), Place()).total == 0


def test_index_asked_what_cannot_be_answered_says_so_in_one_line(root: Path, tmp_path: Path) -> None:
    with indexed(root, tmp_path / "cache") as index, pytest.raises(SchemaError, match="nonsense") as refused:
        index.ask("SELECT nonsense")

    assert "\n" not in str(refused.value)


def test_search_comes_to_its_end_and_counts_what_cannot_be_read(root: Path, tmp_path: Path) -> None:
    with browsed(root, tmp_path / "cache") as pairs:
        RunFolder(root, 1).part_path(Table.PAIRS, 0).write_bytes(b"no parquet")

        found = pairs.listing(read_filters({"text": "script"}), Place())

    assert found.found is not None
    assert (found.found.done, found.found.of, found.found.unread) == (2, 2, 1)
    assert found.total == 1


def test_blocks_of_a_part_that_was_written_again_are_others(root: Path) -> None:
    before = [block.digest for block in blocks(root)]
    part = RunFolder(root, 1).part_path(Table.PAIRS, 0)
    os.utime(part, ns=(1, 1))

    after = [block.digest for block in blocks(root)]

    assert before[0] == after[0]
    assert before[1] != after[1]


def everything(pairs: Pairs, filters: Filters) -> list[int]:
    """Page after page."""
    found = pairs.listing(filters, Place())
    numbers = [entry.key.number for entry in found.entries]
    while found.last < found.total:
        found = pairs.listing(filters, Place(after=numbers[-1]))
        assert found.first == len(numbers) + 1
        numbers += [entry.key.number for entry in found.entries]
    return numbers


@pytest.mark.parametrize("order", Order)
def test_listing_page_after_page_shows_each_pair_once(root: Path, tmp_path: Path, order: Order) -> None:
    with browsed(root, tmp_path / "cache") as pairs:
        numbers = everything(pairs, Filters(order=order))

        assert len(set(numbers)) == len(numbers) == 33
        back = pairs.listing(Filters(order=order), Place(before=numbers[20]))
        assert [entry.key.number for entry in back.entries] == numbers[:20]
        around = pairs.neighbours(Filters(order=order), numbers[5])
        assert [key.number for key in around if key] == [numbers[4], numbers[6]]


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ({"cause": "loop", "round": "1"}, 10),
        ({"rule": "none"}, 22),
        ({"rule": "exact", "rejected": "greedy"}, 11),
        ({"least": "1", "most": "1.95"}, 7),
        ({"disagreement": "0.5"}, 10),
        ({"source": "<b>$odd$</b>\\x00 詩"}, 1),
        ({"source": "nowhere"}, 0),
        ({"chosen": "t0", "rejected": "t1"}, 20),
        ({"text": "ABOUT NUMBER 12?"}, 1),
        ({"text": "old yeast, DRY"}, 10),
        ({"text": "<script>"}, 1),
        ({"text": "' OR 1 --"}, 0),
        ({"text": "answer t0", "cause": "jury"}, 20),
        ({"mark": "unmarked"}, 33),
        ({"mark": "right"}, 0),
        ({"order": "random", "sample": "7"}, 7),
        ({"order": "disputed", "sample": "50"}, 33),
    ],
)
def test_listing_holds_what_meets_the_filters(root: Path, tmp_path: Path, asked: dict[str, str], count: int) -> None:
    with browsed(root, tmp_path / "cache") as pairs:
        found = pairs.listing(read_filters(asked), Place())

        assert found.total == count
        assert len(everything(pairs, read_filters(asked))) == count


def test_listing_sorts_the_disputed_ones_first(root: Path, tmp_path: Path) -> None:
    with browsed(root, tmp_path / "cache") as pairs:
        found = pairs.listing(Filters(order=Order.DISPUTED, round=1), Place())

    assert [entry.disagreement for entry in found.entries] == [0.5] * 10 + [0.0] * 10
    margins = [entry.margin or 0.0 for entry in found.entries[:10]]
    assert margins == sorted(margins)


def test_listing_two_seeds_draw_two_samples_and_one_seed_draws_one(root: Path, tmp_path: Path) -> None:
    with browsed(root, tmp_path / "cache") as pairs:
        drawn = [everything(pairs, Filters(order=Order.RANDOM, sample=10, seed=seed)) for seed in (1, 1, 2)]

    assert drawn[0] == drawn[1] != drawn[2]
