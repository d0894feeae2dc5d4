"""What the benchmark of a jury's cost counts, and what it compares."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.cascade_replay import agreement, beside, calls, court_of, curve, moved, outcomes, replayed
from benchmarks.jury_cost import JURIES, PART, POINTWISE, Kept
from benchmarks.serving import Counters, read_counters
from factory.judging.hearing import Case
from schemas.chat import Completion, TokenAlternative
from schemas.recipe import Cascade
from tests.samples import a_prompt, a_rollout

METRICS = """# HELP vllm:prompt_tokens_total Number of prefill tokens processed.
vllm:prompt_tokens_total{engine="0",model_name="m"} 1.2e+03
vllm:generation_tokens_total{engine="0",model_name="m"} 9.0
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 1200.0
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 800.0
vllm:prefix_cache_hits_created{engine="0",model_name="m"} 1.7e+09
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 2.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="m"} 7.0
"""


def test_counters_are_summed_over_their_labels() -> None:
    assert read_counters(METRICS) == Counters(9, 1200, 9, 1200, 800)
    assert read_counters(METRICS).prefilled == 400


def test_counters_that_are_missing_are_named() -> None:
    with pytest.raises(ValueError, match=r"no vllm:request_success_total, vllm:prefix_cache_hits_total;"):
        read_counters("\n".join(METRICS.splitlines()[:4]))


def test_counters_since_are_what_came_in_between() -> None:
    assert Counters(9, 1200, 9, 1200, 800).since(Counters(2, 200, 1, 200, 0)) == Counters(7, 1000, 8, 1000, 800)


def graded(cases: Sequence[Case], grades: Mapping[str, Sequence[int]]) -> dict[str, Completion]:
    """The replies of each judge: its grade for the answers of every case, by their place."""
    court, found = court_of(POINTWISE), dict[str, Completion]()
    for case in cases:
        for name, judge in court.judges.items():
            for question, grade in zip(judge.ask(case.prompt, case.judged), grades[name], strict=True):
                asked = question.request.request_id
                found[asked] = Completion(asked, str(grade), "length", first_token=(TokenAlternative(str(grade), 0.0),))
    return found


def a_case(name: str) -> Case:
    return Case(a_prompt(name), tuple(a_rollout(name, f"t{n}", f"{name} {n}") for n in range(4)))


CLEAR = {"helpfulness": (9, 5, 5, 1), "correctness": (9, 5, 4, 1), "clarity": (8, 5, 5, 2)}
TURNED = {"helpfulness": (9, 5, 5, 1), "correctness": (1, 5, 5, 9), "clarity": (1, 5, 4, 9)}


def test_replay_without_a_cascade_asks_everybody_about_everything() -> None:
    cases = [a_case("p"), a_case("q")]
    assert calls(replayed(POINTWISE, cases, graded(cases, CLEAR)), cases, {}) == 24


def test_curve_where_the_first_judge_is_clear_and_right_costs_a_third() -> None:
    cases = [a_case("p"), a_case("q")]
    (one,) = curve(POINTWISE, [Cascade()], cases, graded(cases, CLEAR))
    assert (one.calls, one.full_calls, one.same, one.prompts, one.same_pairs, one.pairs) == (8, 24, 2, 2, 2, 2)


def test_curve_where_the_others_turn_the_first_judge_shows_the_wrong_pair() -> None:
    cases = [a_case("p")]
    (one,) = curve(POINTWISE, [Cascade()], cases, graded(cases, TURNED))
    assert (one.calls, one.same, one.same_pairs, one.pairs) == (4, 0, 0, 1)
    assert one.figures()["same"] == 0.0


@given(
    grades=st.fixed_dictionaries(
        {name: st.lists(st.integers(1, 9), min_size=4, max_size=4) for name in POINTWISE.seats}
    )
)
def test_curve_a_margin_that_holds_everybody_ends_where_the_whole_jury_ends(grades: dict[str, list[int]]) -> None:
    cases = [a_case("p")]
    (one,) = curve(POINTWISE, [Cascade(margin=1e9)], cases, graded(cases, grades))
    assert one.same == 1
    assert one.calls <= one.full_calls


def test_outcomes_are_the_pairs_that_a_run_would_make() -> None:
    cases = [a_case("p")]
    found = outcomes(court_of(POINTWISE), cases, graded(cases, TURNED))
    assert found == {"p": ("p:t3", "p:t0")}


def test_beside_tells_what_the_cascade_turns_from_what_asking_again_turns() -> None:
    cases, again = [a_case("p")], CLEAR | {"helpfulness": (1, 5, 5, 9)}
    found = beside(POINTWISE, JURIES["cascade"], cases, graded(cases, CLEAR), graded(cases, again))
    other, same, alone = found.values()
    assert (other.same, other.calls, other.full_calls) == (0, 4, 12)  # the first judge turned, and was clear
    assert same.same == 0  # beside replies of which the first judge's alone turned
    assert (alone.same, alone.calls) == (1, 12)  # the other two outvote it, whoever asks


def test_moved_is_in_units_of_each_judges_spread() -> None:
    cases, before = [a_case("p")], {"helpfulness": (9, 5, 5, 2), "correctness": (8, 5, 4, 2), "clarity": (7, 7, 5, 2)}
    after = {name: [grade - 1 for grade in grades] for name, grades in before.items()}
    first, second = graded(cases, before), graded(cases, after)
    assert moved(POINTWISE, cases, first, first) == 0
    squares = [1 / statistics.variance(grades) for grades in before.values()]
    assert moved(POINTWISE, cases, first, second) == pytest.approx(math.sqrt(statistics.fmean(squares)))


def test_agreement_two_drops_are_the_same_outcome_and_no_pair() -> None:
    one = agreement({"p": None, "q": ("a", "b"), "r": ("a", "b")}, {"p": None, "q": ("a", "b"), "r": None}, 5, 9)
    assert (one.same, one.prompts, one.same_pairs, one.pairs) == (2, 3, 1, 2)


def test_juries_ask_the_same_rubrics() -> None:
    assert [jury.seats for jury in JURIES.values()] == [POINTWISE.seats] * 3


def test_kept_units_cover_every_prompt_in_every_wave_and_each_protocol_has_its_own_folder(tmp_path: Path) -> None:
    kept = Kept(tmp_path, tuple(f"p{number}" for number in range(PART + 1)), 32)
    assert kept.units("pointwise") == ["pointwise-0-0000", f"pointwise-0-{PART:04}"]
    assert len(kept.units("cascade")) == 6
    assert len({kept.journal(kept.units(arm)[0]).parent for arm in JURIES}) == len(JURIES)


def test_kept_of_another_server_setting_or_prompt_is_not_taken(tmp_path: Path) -> None:
    one, other, shorter = (Kept(tmp_path, own, size) for own, size in ((("p",), 32), (("p",), 128), (("q",), 32)))
    assert one.answers == other.answers != shorter.answers
    assert len({kept.counters("pointwise-0-0000") for kept in (one, other, shorter)}) == 3


def test_kept_counters_are_added_up_over_the_units(tmp_path: Path) -> None:
    kept = Kept(tmp_path, tuple(f"p{number}" for number in range(PART + 1)), 32)
    for unit, counters in zip(
        kept.units("pointwise"), (Counters(1, 2, 3, 4, 1), Counters(10, 20, 30, 40, 10)), strict=True
    ):
        kept.counters(unit).parent.mkdir(exist_ok=True)
        kept.counters(unit).write_text(json.dumps(asdict(counters)), encoding="utf-8")
    assert kept.counted("pointwise") == Counters(11, 22, 33, 44, 11)
    assert not kept.whole()
