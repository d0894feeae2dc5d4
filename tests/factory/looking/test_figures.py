"""The figures of a run are what its rows say, counted here once more by hand.

figures(root).slots[0].hard      # of 6 million rollouts too: one scan of the table
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.looking.figures import figures, tally
from factory.run import RunFolder
from schemas.rows import Dropped, DropReason, Loop, LoopRule, Rollout
from schemas.tables import Table
from tests.samples import a_prompt, a_rollout


@st.composite
def rollouts(draw: st.DrawFn) -> list[Rollout]:
    rows = []
    for number in range(draw(st.integers(0, 12))):
        kind = draw(st.sampled_from([*Loop, None]))
        rule = draw(st.sampled_from([*LoopRule])) if kind in (Loop.HARD, Loop.SOFT) else None
        row = a_rollout(
            f"p{number}", draw(st.sampled_from(["greedy", "t0", "t4"])), draw(st.sampled_from(["x", "", None]))
        )
        ids = draw(st.none() | st.lists(st.integers(0, 9), max_size=4).map(tuple))
        reason = draw(st.sampled_from(["stop", "tool_calls", "length", "repetition", "odd", "", None]))
        error = draw(st.sampled_from([None, "it broke"]))
        rows.append(replace(row, loop=kind, loop_rule=rule, token_ids=ids, finish_reason=reason, error=error))
    return rows


@settings(max_examples=25)
@given(rollouts())
def test_figures_of_rollouts_are_what_the_rows_say(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Rollout]
) -> None:
    run = RunFolder(tmp_path_factory.mktemp("run"))
    run.write_part(Table.ROLLOUTS, 0, rows[:5])
    run.write_part(Table.ROLLOUTS, 1, rows[5:])

    found = figures(run.root)

    decodings = {"greedy" if row.slot == "greedy" else "sampled" for row in rows}
    assert [slot.decoding for slot in found.slots] == sorted(decodings)
    for slot in found.slots:
        own = [row for row in rows if (row.slot == "greedy") == (slot.decoding == "greedy")]
        answers = [row for row in own if row.text is not None]
        assert slot.answers == len(answers)
        assert slot.hard == sum(row.loop is Loop.HARD for row in own)
        assert slot.soft == sum(row.loop is Loop.SOFT for row in own)
        assert slot.unfinished == sum(row.finish_reason not in ("stop", "tool_calls", None) for row in answers)
        assert slot.errors == sum(row.error is not None for row in own)
        assert slot.tokens == sum(len(row.token_ids or ()) for row in own)
    stopped = [row for row in rows if row.finish_reason == "repetition"]
    others = [row for row in rows if row.finish_reason not in ("repetition", None)]
    assert found.loops.stopped == len(stopped)
    assert found.loops.confirmed == sum(row.loop is Loop.HARD for row in stopped)
    assert found.loops.only_detector == sum(row.loop is Loop.HARD for row in others)
    assert found.loops.stopped_tokens == sum(len(row.token_ids or ()) for row in stopped)
    counted = Counter((str(row.loop), str(row.loop_rule)) for row in rows if row.loop_rule)
    assert {(kind, rule): count for kind, rule, count in found.loops.rules} == counted


def test_tally_counts_prompts_and_drops_and_figures_say_the_same(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write_part(Table.PROMPTS, 0, [a_prompt("a"), a_prompt("b"), a_prompt("c")])
    run.write_part(Table.DROPPED, 0, [Dropped("a", DropReason.ALL_LOOPS), Dropped("b", DropReason.ALL_LOOPS)])

    found = tally(run.root)

    assert (found.prompts, found.pairs, found.drops, found.dropped) == (3, 0, 2, {"all_loops": 2})
    whole = figures(run.root)
    assert (whole.prompts, whole.causes, whole.dropped, whole.trust) == (3, {}, {"all_loops": 2}, None)
