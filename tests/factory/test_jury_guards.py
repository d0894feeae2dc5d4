"""What stops a judge, caps the loops, silences by gold, and confirms a pair."""

import json
from pathlib import Path

import pytest

from factory.client.breaker import BAD, WINDOW, Breaker
from factory.judging.gold import Accuracy, read_weights, weights_document
from factory.judging.loop_share import LoopCount, may_use_loop
from judges.pairwise import winner
from schemas.errors import RecipeError
from schemas.rows import Cause, Confirmation, Pair, VerdictStatus

OK, BADLY = VerdictStatus.OK, VerdictStatus.UNREADABLE


def test_breaker_stops_at_five_in_a_hundred_of_the_last_thousand() -> None:
    breaker = Breaker()
    stops = [breaker.note(str(n), BADLY if n % 20 == 0 else OK) for n in range(WINDOW)]
    assert stops.index(True) == (BAD - 1) * 20
    assert stops.count(True) == 1


def test_breaker_forgets_what_is_long_past() -> None:
    breaker = Breaker()
    for n in range(BAD - 1):
        breaker.note(str(n), BADLY)
    for n in range(WINDOW):
        breaker.note(str(n), OK)
    assert breaker.bad == 0
    assert not breaker.note("x", BADLY)


def a_pair(prompt_id: str, cause: Cause) -> Pair:
    return Pair(prompt_id, (), "a", "b", "x", "y", None, None, None, None, cause, None, None, None, False, False)


def test_loop_share_keeps_at_most_the_share_and_the_same_in_any_order() -> None:
    pairs = [a_pair(f"l{n}", Cause.LOOP) for n in range(60)] + [a_pair(f"j{n}", Cause.JURY) for n in range(40)]
    bounds = []
    for order in (pairs, pairs[::-1]):
        count = LoopCount()
        for pair in order:
            count.add(pair)
        bounds.append(count.bound(0.2))
    kept = sum(may_use_loop(f"l{n}", bounds[0]) for n in range(60))
    assert bounds[0] == bounds[1]
    assert kept == 10
    assert kept / (kept + 40) == pytest.approx(0.2)


def test_gold_judge_like_a_coin_is_not_heard() -> None:
    assert Accuracy(26, 50).weight == 0.0
    assert 1.0 < Accuracy(42, 50).weight < 2.0


def test_weights_file_is_read_back_and_one_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    path.write_text(weights_document({"clarity": Accuracy(42, 50), "helpfulness": Accuracy(20, 50)}))
    weights, digest = read_weights(path, ("clarity", "helpfulness"))
    assert weights["helpfulness"] == 0.0 < weights["clarity"]
    assert len(digest) == 64
    with pytest.raises(RecipeError, match="no weight for correctness"):
        read_weights(path, ("correctness",))
    path.write_text(json.dumps({"weights": {"clarity": -1}}))
    with pytest.raises(RecipeError, match="number of 0 or more"):
        read_weights(path, ("clarity",))


@pytest.mark.parametrize(
    ("first", "second", "said"), [(0.9, 0.8, 1.0), (0.2, 0.1, 0.0), (0.9, 0.1, 0.5), (0.5, 0.9, 0.5), (0.9, None, None)]
)
def test_winner_that_flips_with_the_order_is_a_tie(first: float, second: float | None, said: float | None) -> None:
    """`first`, `second`: probability of the chosen answer where it is shown first, and second."""
    rows = [
        Confirmation("p", "x", "y", "j", True, OK, first),
        Confirmation("p", "x", "y", "j", False, BADLY if second is None else OK, second),
    ]
    assert winner(rows) == said
