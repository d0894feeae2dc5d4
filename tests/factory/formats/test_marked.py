"""What an export makes of the marks that people put on pairs.

export: {marks: exclude}     without the pairs that are called flipped or both bad
export: {marks: flip}        with their sides exchanged where they are called flipped
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from factory.export import Exported, rows_of, write_format
from factory.formats import FORMATS
from factory.formats.base import RowsOf
from factory.ledger.identity import Stage
from factory.ledger.marks import write_mark
from factory.looking import queries
from factory.looking.sql import literal
from factory.run import RunFolder
from schemas.export import Export, ExportFormat
from schemas.marks import HumanMark, Mark, MarksUse
from schemas.rows import Cause, Loop, Pair, Prompt
from schemas.tables import Table
from tests.conftest import Command, RecipeWriter
from tests.factory.test_export import MESSAGES, a_manifest, a_pair, a_recipe
from tests.fake_engine import FakeEngine
from tests.runs import make, tables
from tests.samples import a_rollout

RIGHT, FLIPPED, BAD, LOOPED, PLAIN = (f"{number:032x}" for number in range(5))
MARKS = {RIGHT: Mark.RIGHT, FLIPPED: Mark.FLIPPED, BAD: Mark.BOTH_BAD, LOOPED: Mark.FLIPPED}
OF_PAIRS = [name for name, form in FORMATS.items() if form.rows_of is RowsOf.PAIRS]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Five pairs, four of them marked; one is a loop that a line calls the better answer, as no writer of ours would."""
    run = RunFolder(tmp_path / "run")
    ids = (RIGHT, FLIPPED, BAD, LOOPED, PLAIN)
    run.write_part(Table.PROMPTS, 0, [Prompt(one, "file", MESSAGES) for one in ids])
    pairs = [a_pair(one, rejected_token_ids=(4, 5), margin=0.5, chosen_score=1.0, rejected_score=0.5) for one in ids]
    run.write_part(Table.PAIRS, 0, [by_loop(pair) if pair.prompt_id == LOOPED else pair for pair in pairs])
    rollouts = [
        replace(a_rollout(one, slot), rollout_id=f"{one}:0:{slot}", finish_reason="length" if slot == "t0" else "stop")
        for one in ids
        for slot in ("t0", "t1")
    ]
    rejected = f"{LOOPED}:0:t1"
    run.write_part(
        Table.ROLLOUTS, 0, [replace(one, loop=Loop.HARD) if one.rollout_id == rejected else one for one in rollouts]
    )
    for prompt_id, mark in MARKS.items():
        key = (prompt_id, 0, f"{prompt_id}:0:t0", f"{prompt_id}:0:t1")
        write_mark(run, HumanMark(*key, mark, "", "ann", datetime.now(UTC)), None)
    return run


def by_loop(pair: Pair) -> Pair:
    return replace(
        pair, cause=Cause.LOOP, rejected_score=None, margin=None, rejected_trimmed=True, rejected_ended=False
    )


def written(run: RunFolder, name: ExportFormat, use: MarksUse) -> tuple[Exported, dict[str, Mapping[str, object]]]:
    """The rows by prompt id."""
    recipe = a_recipe()
    recipe = recipe.model_copy(update={"export": Export(test_share=0, marks=use.value)})
    exported = write_format(run, recipe, a_manifest(), FORMATS[name])
    files = [run.root / part.path for part in exported.outputs if part.rows]
    answer = queries.ask(run.root, f"FROM read_parquet({literal(str(files[0]))})")
    rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
    return exported, {str(row["prompt_id"]): row for row in rows}


def test_exclude_leaves_out_what_people_call_flipped_or_bad(run: RunFolder) -> None:
    exported, rows = written(run, ExportFormat.TRL, MarksUse.EXCLUDE)

    assert set(rows) == {RIGHT, PLAIN}
    assert exported.left_out == {"marked_both_bad": 1, "marked_flipped": 2}
    card = (run.export_path("trl") / "README.md").read_text()
    assert "left out: 1 (pairs of which a person says that both answers are bad)" in card


def test_flip_exchanges_the_sides_with_all_that_is_said_of_them(run: RunFolder) -> None:
    exported, rows = written(run, ExportFormat.TRL, MarksUse.FLIP)
    _, ids = written(run, ExportFormat.TRL_TOKENS, MarksUse.FLIP)

    assert set(rows) == {RIGHT, FLIPPED, PLAIN}
    assert exported.left_out == {"marked_both_bad": 1, "marked_flipped": 1}  # the loop is never the chosen side
    flipped, plain = rows[FLIPPED], rows[PLAIN]
    assert (flipped["chosen_id"], flipped["rejected_id"]) == (f"{FLIPPED}:0:t1", f"{FLIPPED}:0:t0")
    assert flipped["chosen"] == plain["rejected"]
    assert (flipped["chosen_score"], flipped["rejected_score"], flipped["margin"]) == (0.5, 1.0, -0.5)
    assert (flipped["cause"], flipped["agreement"], flipped["rejected_ended"]) == ("human", None, False)
    assert (plain["cause"], plain["rejected_ended"]) == ("jury", True)
    assert (ids[FLIPPED]["chosen_ids"], ids[FLIPPED]["rejected_ids"]) == ([4, 5], [3])
    assert (ids[FLIPPED]["chosen_ended"], ids[FLIPPED]["rejected_ended"]) == (True, False)


def test_unused_writes_every_pair_as_it_is(run: RunFolder) -> None:
    exported, rows = written(run, ExportFormat.TRL, MarksUse.UNUSED)

    assert set(rows) == {RIGHT, FLIPPED, BAD, LOOPED, PLAIN}
    assert exported.left_out == {}
    assert rows[FLIPPED]["chosen_id"] == f"{FLIPPED}:0:t0"


@pytest.mark.parametrize("use", MarksUse)
@pytest.mark.parametrize("name", ExportFormat)
def test_every_format_has_rows_for_as_many_pairs_as_the_marks_leave(
    run: RunFolder, name: ExportFormat, use: MarksUse
) -> None:
    form = FORMATS[name]
    left = queries.ask(run.root, "SELECT count(*) FROM human WHERE mark <> 'right'", round_=0).rows[0][0]

    found = {one: rows_of(run, form, one) for one in (MarksUse.UNUSED, use)}

    if form.rows_of is not RowsOf.PAIRS:
        assert found[use] == found[MarksUse.UNUSED]
    if name is ExportFormat.TRL:
        assert found[use] == {MarksUse.UNUSED: 5, MarksUse.EXCLUDE: 5 - int(str(left)), MarksUse.FLIP: 3}[use]
    assert found[use] <= found[MarksUse.UNUSED] or name is ExportFormat.SFT  # whose chosen side may end better, flipped


def test_a_mark_makes_the_dataset_stale_and_the_same_command_writes_it_anew(
    prefactory: Command, write_recipe: RecipeWriter, fake_engine: FakeEngine
) -> None:
    recipe = write_recipe()
    root, _ = make(recipe, Stage.EXPORT)
    run, record = RunFolder(root), (root / "round=0/_records/export-00000.json").read_bytes()
    pair = next(pair for pair in tables(root).pairs if pair.cause is not Cause.LOOP)
    said = HumanMark(pair.prompt_id, 0, pair.chosen_id, pair.rejected_id, Mark.BOTH_BAD, "", "ann", datetime.now(UTC))
    write_mark(run, said, None)
    make(recipe, Stage.EXPORT)
    assert (root / "round=0/_records/export-00000.json").read_bytes() == record  # nobody asked for the marks

    marked = write_recipe({"export.marks": "exclude"}, name="marked")
    counts = []
    for mark in (Mark.BOTH_BAD, Mark.WITHDRAWN, Mark.FLIPPED):
        write_mark(run, replace(said, mark=mark), None)
        assert prefactory("verify", root).code == 0  # other marks are no damage
        assert prefactory("export", marked).code == 0
        assert prefactory("verify", root).code == 0
        found = run.record("export", 0)
        assert found is not None
        counts.append(sum(part.rows for part in found.outputs))
    whole = len(tables(root).pairs)
    assert counts == [whole - 1, whole, whole - 1]
    assert prefactory("export", recipe).code == 0
    again = run.record("export", 0)
    assert again is not None
    assert sum(part.rows for part in again.outputs) == whole
