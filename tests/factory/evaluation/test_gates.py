"""Which checkpoint may go on: what trips a gate, and what no noise, order or missing figure can do."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.evaluation.comparing import Compared, Wins
from factory.evaluation.figures import AnswerFigures, Figures
from factory.evaluation.gates import gates
from factory.evaluation.paired import Paired, Rate
from schemas.evaluation import Bounds

SAME = Paired(10, 0, 0, 90)
EVEN = Wins(30, 40, 30)
BOUNDS = Bounds()
OPEN = Bounds(loops=None, sampled_loops=None, accuracy=None, win_rate=None, perplexity=None, distinct=None)


def figures(perplexity: float | None = 13.0, distinct: float | None = 0.5) -> Figures:
    nothing = Rate(0, 100)
    answers = AnswerFigures(
        decoding="greedy",
        max_tokens=1024,
        answers=100,
        failed=0,
        hard=nothing,
        soft=nothing,
        ended=nothing,
        rules=(),
        accuracy=nothing,
        verifiers=(),
        passed_loops=0,
        tokens=None,
        distinct=(0.3, distinct, 0.7),
        repeated=None,
        kinds=(),
    )
    return Figures("c", "d", 100, 0, (answers, replace(answers, decoding="sampled")), perplexity, None)


def compared(
    loops: Paired = SAME, accuracy: Paired = SAME, wins: Wins | None = EVEN, decoding: str = "greedy"
) -> Compared:
    return Compared(decoding, 1024, loops, accuracy, wins, wins)


def tripped(*found: Compared, bounds: Bounds = BOUNDS, after: Figures | None = None) -> set[str]:
    """Where only one decoding is given, nothing has changed in the other."""
    given = {one.decoding for one in found}
    others = [compared(decoding=name) for name in ("greedy", "sampled") if name not in given]
    return {one.bound for one in gates(figures(), after or figures(), [*found, *others], bounds)}


def test_gates_nothing_changed_all_hold() -> None:
    assert tripped(compared(), compared(decoding="sampled")) == set()


def test_gates_one_more_greedy_loop_trips() -> None:
    assert tripped(compared(Paired(10, 0, 1, 89))) == {"loops"}


def test_gates_loops_count_at_the_largest_cap() -> None:
    earlier = replace(compared(Paired(3, 0, 1, 96)), max_tokens=256)
    assert tripped(earlier, compared(Paired(10, 5, 0, 85))) == set()
    assert tripped(replace(compared(Paired(3, 1, 0, 96)), max_tokens=256), compared(Paired(10, 0, 1, 89))) == {"loops"}


def test_gates_one_more_greedy_loop_within_the_bound_holds() -> None:
    assert tripped(compared(Paired(10, 0, 1, 89)), bounds=Bounds(loops=0.01)) == set()


def test_gates_few_more_sampled_loops_are_noise_and_many_are_not() -> None:
    assert tripped(compared(), compared(Paired(10, 1, 3, 86), decoding="sampled")) == set()
    assert tripped(compared(), compared(Paired(10, 1, 20, 69), decoding="sampled")) == {"sampled_loops"}


def test_gates_fewer_right_answers_trip_only_beyond_the_interval() -> None:
    assert tripped(compared(accuracy=Paired(10, 2, 0, 38))) == set()
    assert tripped(compared(accuracy=Paired(10, 15, 0, 25))) == {"accuracy"}


def test_gates_two_answers_that_became_wrong_are_too_few_to_trip() -> None:
    assert tripped(compared(accuracy=Paired(0, 2, 0, 0))) == set()


def test_gates_lost_comparisons_trip_only_beyond_the_interval() -> None:
    assert tripped(compared(wins=Wins(40, 5, 55))) == set()
    assert tripped(compared(wins=Wins(20, 5, 75))) == {"win_rate"}


@pytest.mark.parametrize(("perplexity", "trips"), [(14.2, False), (14.4, True), (10.0, False)])
def test_gates_perplexity_may_rise_by_a_tenth(perplexity: float, trips: bool) -> None:
    assert ("perplexity" in tripped(compared(), after=figures(perplexity=perplexity))) is trips


def test_gates_less_varied_answers_trip() -> None:
    assert tripped(compared(), after=figures(distinct=0.44)) == {"distinct"}


def test_gates_what_was_not_measured_is_shut_and_says_how_to_open_it() -> None:
    empty = Paired(0, 0, 0, 0)
    nothing = [compared(empty, empty, None, decoding) for decoding in ("greedy", "sampled")]
    for compared_ in (nothing, []):
        found = gates(figures(), figures(None, None), compared_, BOUNDS)
        assert [one.bound for one in found] == [*Bounds.model_fields]
        assert all(f"evaluation.bounds.{one.bound} to null" in one.why for one in found)


@pytest.mark.parametrize(("had", "trips"), [(100, set()), (95, set()), (94, {"loops"}), (1, {"loops"})])
def test_gates_loops_of_the_answers_that_came_say_nothing_where_too_many_did_not(had: int, trips: set[str]) -> None:
    assert tripped(compared(Paired(0, 0, 0, had))) == trips


def test_gates_sampled_answers_that_did_not_come_shut_their_own_gate() -> None:
    assert tripped(compared(), compared(Paired(0, 0, 0, 50), decoding="sampled")) == {"sampled_loops"}


@given(st.builds(Paired, *[st.integers(0, 50)] * 4), st.builds(Paired, *[st.integers(0, 50)] * 4))
def test_gates_that_are_open_never_trip(loops: Paired, accuracy: Paired) -> None:
    assert tripped(compared(loops, accuracy, None), bounds=OPEN, after=figures(None, None)) == set()


@given(st.builds(Paired, *[st.integers(0, 50)] * 4), st.integers(1, 50))
def test_gates_fewer_loops_never_trip_where_more_do_not(loops: Paired, fewer: int) -> None:
    better = replace(loops, after=max(0, loops.after - fewer), neither=loops.neither + min(loops.after, fewer))
    if "loops" not in tripped(compared(loops)):
        assert "loops" not in tripped(compared(better))
