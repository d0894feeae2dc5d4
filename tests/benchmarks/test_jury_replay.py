"""What the replay of stored verdicts counts."""

import itertools
import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.jury_ceiling import Votes, ceiling
from benchmarks.jury_draws import accuracy, correct_together, drawn, kinds_of
from benchmarks.jury_replay import replay
from benchmarks.jury_votes import ALL_STYLES, Case, Style, read_styles
from schemas.errors import SourceError

Named = tuple[str, str]  # by the judge in the order given, and swapped


def files(folder: Path, rows: Sequence[tuple[str, str, str, Named]], better: dict[str, int]) -> tuple[Path, Path]:
    """Rows of (pair, judge, style, named)."""
    verdicts, gold = folder / "v.csv", folder / "g.jsonl"
    lines = [
        f"{p},{j},{s},{o},{w}" for p, j, s, named in rows for o, w in zip(("given", "swapped"), named, strict=True)
    ]
    verdicts.write_text("\n".join(["id,judge,strategy,order,winner", *lines]))
    gold.write_text("\n".join(json.dumps({"id": pair, "better": side}) for pair, side in better.items()))
    return verdicts, gold


def a_case(votes: Votes, better: str = "1") -> Case:
    worse = "2" if better == "1" else "1"
    return Case({f"j{n}": {better: (1 + v) / 2, worse: (1 - v) / 2} for n, v in enumerate(votes)}, better, worse)


def test_read_styles_winner_is_in_the_files_numbering_whatever_was_shown_first(tmp_path: Path) -> None:
    named: dict[str, Named] = {"both": ("2", "2"), "flips": ("1", "2"), "unread": ("1", "")}
    rows = [(pair, "j", "plain", own) for pair, own in named.items()]
    (style,) = read_styles(*files(tmp_path, rows, dict.fromkeys(named, 2)))
    assert [dict(case.blocks) for case in style.cases] == [{"j": {"1": 0.0, "2": 1.0}}, {"j": {"1": 0.5, "2": 0.5}}, {}]
    assert {(case.better, case.worse) for case in style.cases} == {("2", "1")}


def test_read_styles_several_are_also_put_together_as_shares_of_the_votes(tmp_path: Path) -> None:
    rows: list[tuple[str, str, str, Named]] = [("p", "j", "a", ("1", "1")), ("p", "j", "b", ("1", "2"))]
    styles = read_styles(*files(tmp_path, rows, {"p": 1}))
    assert [style.name for style in styles] == ["a", "b", ALL_STYLES]
    assert styles[-1].cases[0].blocks == {"j": {"1": 0.75, "2": 0.25}}


@pytest.mark.parametrize("row", ["q,j,s,given,1", "p,j,s,sideways,1", "p,j,s,given,A", "p,j,s,given,0"])
def test_read_styles_row_that_is_no_verdict_is_named(tmp_path: Path, row: str) -> None:
    verdicts, gold = files(tmp_path, [], {"p": 1})
    verdicts.write_text(f"id,judge,strategy,order,winner\n{row}\n")
    with pytest.raises(SourceError, match=f"v.csv:2: {row}"):
        read_styles(verdicts, gold)


def test_accuracy_open_pairs_are_half_right_and_equal_ones_are_counted_once() -> None:
    cases = [a_case((1, 1, -1))] * 3 + [a_case((-1, -1, 1), "2")] + [a_case((1, -1, 0), "2")] * 2
    panel = ("j0", "j1", "j2")
    kinds = kinds_of(cases, panel)
    assert sorted(number for _, number in kinds) == [1, 2, 3]
    found = accuracy("copeland", kinds, panel, {})
    assert (found.right, found.pairs) == (4.0, 6)
    assert accuracy("copeland", kinds, panel, {}, dict.fromkeys(panel, 0.0)).rate == 0.5


def test_drawn_scores_only_pairs_that_found_no_weights() -> None:
    """The judge is right about fifty pairs. Once those are its gold, it is wrong about all the others."""
    dice = random.Random(3)
    order = list(range(60))
    gold = set(random.Random(3).sample(order, 60)[:50])
    cases = tuple(a_case((1,) if number in gold else (-1,)) for number in order)
    one = drawn(Style("s", ("j0",), cases, {}), ["j0"], ["gold_log_odds"], dice)
    assert (one.refused, one.by_way["gold_log_odds"], one.single["j0"]) == (False, 0.0, 0.0)


def test_drawn_jury_that_gold_silences_is_a_coin_and_said_to_be_refused() -> None:
    cases = tuple(a_case((1,) if number % 2 else (-1,)) for number in range(100))
    one = drawn(Style("s", ("j0",), cases, {}), ["j0"], ["gold_log_odds"], random.Random(1))
    assert (one.refused, one.by_way["gold_log_odds"]) == (True, 0.5)


@pytest.mark.parametrize("seed", range(4))
def test_ceiling_is_what_trying_every_weight_finds(seed: int) -> None:
    dice = random.Random(seed)
    votes = [tuple(dice.choice((1, 1, 0, -1)) for _ in range(3)) for _ in range(25)]
    best = 0.0
    for weights in itertools.product(range(5), repeat=3):
        sums = [sum(weight * vote for weight, vote in zip(weights, own, strict=True)) for own in votes]
        best = max(best, sum((total > 0) + (total == 0) / 2 for total in sums) / len(votes))
    assert ceiling(votes) == pytest.approx(best)


def test_ceiling_without_votes_is_a_coin() -> None:
    assert ceiling([(0, 0)]) == 0.5


def test_replay_every_part_has_its_figures_and_no_gap_where_one_judge_knows_everything(tmp_path: Path) -> None:
    dice = random.Random(5)
    better = {f"p{n}": dice.choice((1, 2)) for n in range(120)}
    rows: list[tuple[str, str, str, Named]] = []
    for pair, side in better.items():
        rows.append((pair, "knows", "s", (str(side), str(side))))
        rows += [(pair, f"guesses{n}", "s", (dice.choice("12"), dice.choice("12"))) for n in range(3)]
    figures = replay(read_styles(*files(tmp_path, rows, better)))
    jury, panels = figures["jury"], figures["panels"]
    assert isinstance(jury, dict)
    assert isinstance(panels, dict)
    assert (jury["best_single"], jury["ceiling"], panels["panels"]) == ("knows", 1.0, 4)
    assert jury["gold"]["gold_log_odds"]["accuracy"] > 0.95 > jury["majority"]["accuracy"]
    assert panels["gaps"]["50"]["heard"]["worst"] > -0.2


def test_read_styles_real_verdicts_give_the_figures_that_are_known_of_them(shared: Path) -> None:
    """Six judges on LLMBar: the best single one, the plain majority, and how many independent judges they are worth."""
    style = read_styles(shared / "gold" / "llmbar_verdicts.csv", shared / "gold" / "llmbar.jsonl")[0]
    kinds = kinds_of(style.cases, style.judges)
    assert accuracy("copeland", kinds, style.judges, style.sigmas).rate == pytest.approx(0.603, abs=5e-4)
    assert accuracy("mean", kinds, ["GPT-4"], style.sigmas).rate == pytest.approx(0.845, abs=5e-4)
    assert correct_together(style) == pytest.approx(1.94, abs=5e-3)
