"""What a report is made from, on rows that are known.

run_report(root).loops[Cut.SOURCE]     # from a small cube: no text of a million is read for it
"""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.looking.report_figures import SHOWN, Bin, Cut, Measured, Rate, Side, StageCost, Unit, rates, run_report
from factory.run import RunFolder
from schemas.errors import Fixable
from schemas.rows import TrustFigure
from schemas.tables import Table
from tests.reports import SOURCES, a_manifest, a_run

CUBE = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["greedy", "t0", "t10", "t2"]),
        st.sampled_from([0.0, 0.3, 1.0]),
        st.sampled_from(["x", "y"]),
        st.integers(0, 5),
        st.integers(5, 9),
    )
)


@given(CUBE)
def test_rates_sum_to_the_whole_by_every_cut(cube: list[tuple[int, str, float, str, int, int]]) -> None:
    for found in rates(cube).values():
        assert sum(rate.hits for rate in found) == sum(row[4] for row in cube)
        assert sum(rate.trials for rate in found) == sum(row[5] for row in cube)
        assert len({rate.name for rate in found}) == len(found)


def test_rates_are_in_an_order_that_a_person_expects() -> None:
    cube = [(10, "t10", 1.0, "few", 0, 1), (9, "t2", 0.3, "many", 0, 3), (0, "greedy", 0.0, "few", 1, 1)]

    found = {cut: [rate.name for rate in own] for cut, own in rates(cube).items()}

    assert found[Cut.SLOT] == ["greedy", "t2", "t10"]
    assert found[Cut.TEMPERATURE] == ["0", "0.3", "1"]
    assert found[Cut.SOURCE] == ["many", "few"]
    assert found[Cut.ROUND] == ["0", "9", "10"]


def test_rates_leave_out_what_has_no_answers() -> None:
    assert rates([(0, "greedy", 0.0, "x", 0, 0)])[Cut.SLOT] == ()


def test_run_report_is_what_the_rows_say(tmp_path: Path) -> None:
    found = run_report(a_run(tmp_path))

    assert found.loops[Cut.SLOT] == (Rate("greedy", 1, 4), Rate("t0", 0, 4))
    assert found.loops[Cut.SOURCE] == (Rate(SOURCES[1], 1, 4), Rate(SOURCES[0], 0, 4))
    assert found.rate("greedy") == Rate("greedy", 1, 4)
    assert found.margins == (Bin("jury", 2, 1), Bin("verifier", -6, 1))
    assert found.median_margins == {"jury": 0.6, "verifier": -1.4}
    assert found.jury["n_eff"] == Measured(1.1, None, None, 2)
    clarity, helpful = found.judges
    assert (clarity.judge, clarity.ok, clarity.failed, clarity.mean) == ("clarity", 3, 1, 5.0)
    assert clarity.trust["canaries"] == Measured(0.5, 0.2, 0.8, 10)
    assert helpful.value("length_slope") is None
    assert found.stages[0] == StageCost("rollouts", "policy", 8, None, None, None)
    assert found.stages[1] == StageCost("verdicts", "clarity", 4, 40, 4, None)


@pytest.mark.parametrize(("ids", "unit", "chosen"), [((1, 2), Unit.TOKENS, 8), (None, Unit.CHARACTERS, 23)])
def test_lengths_are_in_tokens_where_every_pair_has_them(
    tmp_path: Path, ids: tuple[int, ...] | None, unit: Unit, chosen: float
) -> None:
    lengths = run_report(a_run(tmp_path, token_ids=ids)).lengths

    assert lengths.unit is unit
    assert lengths.medians["loop", Side.CHOSEN] == chosen
    assert sum(one.count for one in lengths.bins if one.group == Side.CHOSEN) == 3


def test_examples_are_one_of_each_cause_with_texts_that_are_cut(tmp_path: Path) -> None:
    examples = run_report(a_run(tmp_path)).examples

    assert [one.cause for one in examples] == ["jury", "loop", "verifier"]
    assert [one.loop_rule for one in examples] == [None, "exact", None]
    assert max(len(text) for one in examples for text in (one.asked, one.chosen, one.rejected)) == SHOWN


def test_trust_is_of_the_last_round_alone(tmp_path: Path) -> None:
    RunFolder(a_run(tmp_path), 1).write_part(Table.TRUST, 0, [TrustFigure("n_eff", None, 2.0, n=3)])

    found = run_report(tmp_path)

    assert (found.trust_round, found.jury) == (1, {"n_eff": Measured(2.0, None, None, 3)})


def test_run_report_of_a_run_that_has_only_begun_has_nothing_to_show(tmp_path: Path) -> None:
    RunFolder(tmp_path).write_manifest(a_manifest())

    found = run_report(tmp_path)

    assert (found.examples, found.margins, found.trust_round, found.rate("greedy")) == ((), (), None, None)


def test_run_report_of_a_folder_that_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(Fixable, match="no run there"):
        run_report(tmp_path)
