"""What the benchmark of rounds asks for, and how it shows what came out."""

import json
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.semi_online import (
    BESIDE,
    RUN,
    Checkpoint,
    Stand,
    _all_but_round_0,
    merged,
    recipe_of,
    rows_of,
    settings,
    without_twins,
)
from benchmarks.semi_online_table import kinds_table, loops_table, number, plot, price_table, rate
from schemas.recipe import Recipe


def answers(decoding: str, cap: int, hits: int) -> dict[str, object]:
    share = {"hits": hits, "of": 8, "rate": hits / 8, "interval": [0.0, 0.5]}
    nothing = {"hits": 0, "of": 0, "rate": None, "interval": [0.0, 1.0]}
    own = {"hard": share, "ended": share, "accuracy": nothing, "tokens": [3.0, 2.0], "distinct": [0.1, None, 0.3]}
    kinds = [{"source": "lists", "seen": True, "hard": share}, {"source": "rewriting", "seen": False, "hard": nothing}]
    return {"decoding": decoding, "max_tokens": cap, "repeated": 0.25, "kinds": kinds} | own


def figures(digest: str, hits: int) -> dict[str, object]:
    takes = [answers(how, cap, hits) for cap in (64, 160) for how in ("greedy", "sampled")]
    return {"digest": digest, "answers": takes, "perplexity": 12.5, "bits_per_byte": 1.0}


def report() -> dict[str, object]:
    wins = {"won": 3, "tied": 2, "lost": 3, "win_rate": {"hits": 4.0, "of": 8, "rate": 0.5, "interval": [0.2, 0.8]}}
    compared = [
        {"decoding": how, "max_tokens": cap, "wins_with_loops": wins if cap == 160 else None}
        for cap in (64, 160)
        for how in ("greedy", "sampled")
    ]
    tripped = [{"bound": "loops", "why": "went up"}]
    return {
        "figures": [figures("a", 4), figures("b", 1)],
        "against": [{"compared": compared, "tripped": tripped}],
        "trained": 20,
    }


def test_recipe_quick_and_whole_are_recipes_that_can_be_read(tmp_path: Path) -> None:
    for quick in (True, False):
        read = Recipe.model_validate(recipe_of(tmp_path, quick=quick))
        assert read.semi_online is not None
        assert all(source.path is not None and source.path.exists() for source in read.prompts.sources)
        assert read.export.formats == ["trl-tokens"]


def test_settings_that_are_kept_with_the_figures_name_no_place_on_this_machine() -> None:
    said = json.dumps(settings(quick=False))

    assert str(Path.home()) not in said
    assert str(Path(__file__).parents[2]) not in said


@pytest.mark.parametrize(("code", "printed"), [(1, "{}"), (2, "")])
def test_command_that_came_to_no_outcome_ends_the_benchmark(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int, printed: str
) -> None:
    ended = subprocess.CompletedProcess[str]([], code, printed)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: ended)

    with pytest.raises(SystemExit, match=f"train ended with {code}"):
        Stand(tmp_path, {}, Console(quiet=True)).command("train", may_end=(0, 2))


def test_recipe_of_every_training_beside_differs_in_what_it_says(tmp_path: Path) -> None:
    whole = recipe_of(tmp_path, quick=False)
    read = Recipe.model_validate(whole)
    for one in BESIDE:
        other = Recipe.model_validate(merged(whole, {"train": one.train, "pairing": one.pairs or {}}))
        assert (other.train != read.train) == bool(one.train)
        assert (other.pairing != read.pairing) == bool(one.pairs)


def test_merged_goes_into_sections_and_leaves_the_rest() -> None:
    assert merged({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 4}, "d": None}) == {"a": {"b": 4, "c": 2}, "d": None}


def test_copy_of_round_0_leaves_out_what_came_of_it() -> None:
    names = ["round=0", "round=1", "train", "manifest.json", "spent.json", ".lock"]

    assert _all_but_round_0(f"/x/{RUN}", names) == ["round=1", "train", ".lock"]
    assert _all_but_round_0(f"/x/{RUN}/round=0", ["train"]) == []


def test_without_twins_names_whom_each_other_equals() -> None:
    one, two, three = Checkpoint("a", "/a", "1"), Checkpoint("b", "/b", "2"), Checkpoint("c", "/c", "1")

    assert without_twins([one, two, three]) == ([one, two], {"c": "a"})


def test_table_and_plot_have_each_checkpoint_with_its_counts(tmp_path: Path) -> None:
    rows = rows_of([Checkpoint("round 0", "/a", "b", promoted=False)], report())

    loops, kinds, price = (
        [list(column.cells) for column in made(rows).columns] for made in (loops_table, kinds_table, price_table)
    )
    plot(rows, tmp_path / "plot.png")

    assert loops[0] == ["base", "round 0"]
    assert loops[1] == ["4/8 = 50.0% (0.0%-50.0%)", "1/8 = 12.5% (0.0%-50.0%)"]
    assert loops[-1] == ["-", "no"]
    assert kinds == [["lists", "rewriting"], ["yes", "no"], ["4/8", "0/0"], ["1/8", "0/0"]]
    assert price[2] == ["-", "4/8 = 50.0% (20.0%-80.0%)"]
    assert [cells[1] for cells in price[4:]] == ["3", "-", "12.5"]
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_figure_that_is_not_known_is_shown_as_such() -> None:
    assert rate({"hits": 0, "of": 0, "rate": None, "interval": [0.0, 1.0]}) == "-"
    assert number(None) == "-"
