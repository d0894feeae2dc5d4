"""What people say of pairs: written line by line, read whatever befalls the file, and the same to Python and to SQL.

prefactory query RUN "SELECT mark, count(*) FROM human GROUP BY ALL"
"""

import json
import multiprocessing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factory.ledger.marks import LONGEST, digest_of_marks, read_marks, standing_marks, standing_when, write_mark
from factory.looking import queries
from factory.run import RunFolder
from schemas.errors import Fixable, StorageError
from schemas.marks import HumanMark, Mark
from schemas.rows import Loop

AT = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
RIGHT = HumanMark("p", 0, "p:0:t0", "p:0:t1", Mark.RIGHT, "", "ann", AT)
FLIPPED = replace(RIGHT, mark=Mark.FLIPPED, why="Die zweite ist besser 🏔️")
OTHER = HumanMark("q", 1, "q:1:t0", "q:1:t1", Mark.BOTH_BAD, "", "bob", AT)


def seen(root: Path, round_: int | None = None) -> list[tuple[object, ...]]:
    sql = "SELECT round, prompt_id, chosen_id, rejected_id, mark, why FROM human ORDER BY ALL"
    return list(queries.ask(root, sql, round_=round_).rows)


def test_marks_are_read_as_they_were_written_and_the_last_on_a_pair_counts(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for mark in (RIGHT, OTHER, FLIPPED):
        write_mark(run, mark, Loop.CLEAN)

    assert read_marks(run) == [RIGHT, OTHER, FLIPPED]
    assert standing_marks(run) == {FLIPPED.key: FLIPPED}
    assert standing_marks(RunFolder(tmp_path, 1)) == {OTHER.key: OTHER}
    assert seen(tmp_path) == [
        (0, "p", "p:0:t0", "p:0:t1", "flipped", FLIPPED.why),
        (1, "q", "q:1:t0", "q:1:t1", "both_bad", ""),
    ]
    assert seen(tmp_path, 1) == seen(tmp_path)[1:]


def test_marks_one_that_was_withdrawn_counts_as_none(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    write_mark(run, RIGHT, None)
    write_mark(run, replace(RIGHT, mark=Mark.WITHDRAWN), None)

    assert standing_marks(run) == {}
    assert seen(tmp_path) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-20],  # a kill between two writes
        lambda whole: whole[:-20] + b"\0" * 9,  # a power cut
        lambda whole: whole + b"null\n{}\n[1]\nnot json\n",
        lambda whole: whole.replace(b'"flipped"', b'"perhaps"'),
    ],
)
def test_marks_a_line_that_is_none_costs_itself_alone(tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    run = RunFolder(tmp_path)
    write_mark(run, OTHER, None)
    write_mark(run, RIGHT, None)
    write_mark(run, FLIPPED, None)
    whole = run.human_path.read_bytes()
    run.human_path.write_bytes(damage(whole))
    write_mark(run, replace(OTHER, prompt_id="r"), None)

    expected = RIGHT if damage(whole) != whole + b"null\n{}\n[1]\nnot json\n" else FLIPPED
    assert [mark.prompt_id for mark in read_marks(run)][-1] == "r"
    assert standing_marks(run) == {expected.key: expected}
    assert [(row[1], row[4]) for row in seen(tmp_path)] == [
        ("p", expected.mark),
        ("q", "both_bad"),
        ("r", "both_bad"),
    ]


def test_marks_a_loop_is_never_made_the_chosen_answer(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)

    with pytest.raises(Fixable, match="is never chosen"):
        write_mark(run, FLIPPED, Loop.HARD)

    assert not run.human_path.exists()
    write_mark(run, replace(FLIPPED, mark=Mark.BOTH_BAD), Loop.HARD)


def test_marks_a_note_is_kept_without_what_does_not_print(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    write_mark(run, replace(RIGHT, why=" a\0b\u202ec\nd\x1b[31m " + "x" * 2 * LONGEST), None)

    (kept,) = read_marks(run)
    assert kept.why.startswith("abc\nd[31m xxx")
    assert len(kept.why) == LONGEST


def test_marks_are_never_written_through_a_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    run = RunFolder(tmp_path / "run")
    run.root.mkdir()
    run.human_path.symlink_to(outside)

    with pytest.raises(StorageError):
        write_mark(run, RIGHT, None)

    assert outside.read_text() == "mine"


def _write_many(root: Path, name: str) -> None:
    for number in range(60):
        write_mark(RunFolder(root), replace(RIGHT, prompt_id=f"{name}{number}", why=name * 1500), None)


def test_marks_of_several_writers_do_not_mix(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    writers = [context.Process(target=_write_many, args=(tmp_path, name)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    lines = RunFolder(tmp_path).human_path.read_text().splitlines()
    assert len(lines) == 180
    assert all(set(json.loads(line)["why"]) == {json.loads(line)["prompt_id"][0]} for line in lines)


marks = st.builds(
    HumanMark, st.sampled_from("pqr"), st.just(0), st.just("a"), st.just("b"), st.sampled_from(Mark),
    st.text(), st.text(), st.datetimes(timezones=st.just(UTC)),
)  # fmt: skip


@given(st.lists(marks, max_size=6), st.randoms())
def test_marks_digest_knows_what_is_said_and_nothing_else(said: list[HumanMark], draw: object) -> None:
    again = [replace(mark, why="other words", marked_by="somebody else", marked_at=AT) for mark in reversed(said)]

    assert digest_of_marks(again) == digest_of_marks(said)
    assert digest_of_marks([*said, OTHER]) != digest_of_marks(said)


def test_marks_a_pair_is_two_answers_whichever_was_the_chosen_one(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    again = replace(RIGHT, chosen_id=RIGHT.rejected_id, rejected_id=RIGHT.chosen_id, mark=Mark.BOTH_BAD)
    for mark in (FLIPPED, again):
        write_mark(run, mark, None)

    assert standing_marks(run) == {again.key: again}
    assert [row[2:5] for row in seen(tmp_path)] == [(again.chosen_id, again.rejected_id, "both_bad")]
    write_mark(run, replace(FLIPPED, mark=Mark.WITHDRAWN), None)
    assert standing_marks(run) == {}
    assert seen(tmp_path) == []


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(marks, min_size=1, max_size=6), st.data())
def test_marks_that_stood_once_are_found_again_by_their_digest(
    tmp_path: Path, said: list[HumanMark], draw: st.DataObject
) -> None:
    run = RunFolder(tmp_path)
    run.human_path.unlink(missing_ok=True)
    when = draw.draw(st.integers(0, len(said)))
    stood = standing_marks(run)
    for number, mark in enumerate(said, 1):
        write_mark(run, mark, None)
        stood = standing_marks(run) if number == when else stood

    found = standing_when(run, digest_of_marks(stood.values()))

    assert found is not None
    assert {key: mark.mark for key, mark in found.items()} == {key: mark.mark for key, mark in stood.items()}
    assert standing_when(run, "of nothing") is None
