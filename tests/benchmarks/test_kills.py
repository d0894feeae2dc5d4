"""What the bench of kills counts: each figure is nought only where nothing was lost, sent again, or left."""

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from benchmarks.asked import ARRIVED, PROBED, arrived, writer
from benchmarks.kill_points import Event, Fuse
from benchmarks.killed_run import NEVER, Kill, Life, Point, Scene, drawn, live, living, lost_rows, serving
from benchmarks.kills import KINDS, STAGES, Told, row_of, stage_of, summary, write_recipe
from benchmarks.real_kills import accounted, greedy_of, on_disk
from factory.ledger.journal import Journal
from factory.run import RunFolder
from schemas.chat import Completion
from schemas.rows import Dropped, DropReason, Prompt
from schemas.tables import Table
from tests.samples import a_rollout

QUIET = Kill("start", 10.0, 0, 0, 0.1)


def a_life(arrived: Sequence[tuple[float, str]], *kills: Kill) -> Life:
    return Life(kills=list(kills), requests=len(arrived), arrived=list(arrived))


# Requests


def test_repeated_is_what_came_more_often_than_undisturbed() -> None:
    life = a_life([(1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "new")])

    assert life.repeated({"a": 1, "b": 1, "c": 1}) == {"a": 2, "new": 1}
    assert life.repeated(life.counts()) == {}


def test_beyond_question_that_was_under_way_at_a_kill_is_explained() -> None:
    life = a_life([(1, "a"), (11, "a")], replace(QUIET, under_way=1))

    assert life.beyond({"a": 1}, 16) == 0


def test_beyond_no_more_than_was_under_way_is_explained() -> None:
    life = a_life([(1, "a"), (1, "b"), (11, "a"), (11, "b")], replace(QUIET, under_way=1))

    assert life.beyond({"a": 1, "b": 1}, 16) == 1


def test_beyond_no_more_than_the_window_is_explained() -> None:
    life = a_life([(1, "a"), (1, "b"), (11, "a"), (11, "b")], replace(QUIET, under_way=9))

    assert life.beyond({"a": 1, "b": 1}, 1) == 1


def test_beyond_question_that_one_process_sent_twice_is_no_kills_fault() -> None:
    """The kill comes before either."""
    life = a_life([(11, "a"), (12, "a")], replace(QUIET, under_way=1))

    assert life.beyond({"a": 1}, 16) == 1


def test_beyond_each_kill_explains_only_its_own() -> None:
    """The first kill had nothing under way: what was sent before it was paid."""
    kills = QUIET, Kill("later", 20.0, 5, 0, 0.1)
    life = a_life([(1, "a"), (11, "a"), (11, "b"), (21, "b")], *kills)

    assert life.beyond({"a": 1, "b": 1}, 16) == 1


# Rows


def test_lost_rows_counts_what_is_missing_changed_moved_or_too_much() -> None:
    whole = {"pairs": ["p", "q", "r"], "dropped": ["d"]}

    assert lost_rows(whole, whole) == 0
    assert lost_rows({"pairs": ["p", "q"], "dropped": ["d"]}, whole) == 1
    assert lost_rows({"pairs": ["p", "x", "r"], "dropped": ["d"]}, whole) == 1
    assert lost_rows({"pairs": ["q", "p", "r"], "dropped": ["d"]}, whole) == 2
    assert lost_rows({"pairs": ["p", "q", "r", "s"], "dropped": ["d"]}, whole) == 1
    assert lost_rows({}, whole) == 4


def finished(*dropped: str) -> dict[str, list[object]]:
    """Two prompts, and these as dropped."""
    rollouts = [
        replace(a_rollout(text=f"text of {name}"), prompt_id=name, rollout_id=f"{name}:0:greedy") for name in "pq"
    ]
    return {
        Table.PROMPTS: [Prompt(name, "file", ()) for name in "pq"],
        Table.PAIRS: [],
        Table.DROPPED: [Dropped(name, DropReason.ALL_SAME) for name in dropped],
        Table.ROLLOUTS: list(rollouts),
    }


@pytest.mark.parametrize(
    ("dropped", "unaccounted"), [("pq", 0), ("p", 1), ("", 2), ("ppq", 1), ("pqx", 1)], ids=lambda value: str(value)
)
def test_accounted_prompt_that_is_not_in_exactly_one_row_is_lost(dropped: str, unaccounted: int) -> None:
    kept = accounted(finished(*dropped), {}, {})

    assert (kept.prompts, kept.unaccounted, kept.lost) == (2, unaccounted, unaccounted)


def test_accounted_answer_that_lay_on_the_disk_must_stand_in_the_table() -> None:
    rows = finished(*"pq")
    before = {"p:0:greedy": "text of p", "q:0:greedy": "another", "gone": "x"}

    assert accounted(rows, {"p:0:greedy": "text of p"}, {}).changed == 0
    assert (accounted(rows, before, {}).answers, accounted(rows, before, {}).changed) == (3, 2)


def test_accounted_greedy_answers_must_be_those_of_an_undisturbed_run() -> None:
    greedy = greedy_of({"p:0:greedy": "text of p", "q:0:greedy": "another", "q:0:t0": "sampled"})
    kept = accounted(finished(*"pq"), {}, greedy)

    assert (kept.greedy, kept.otherwise, kept.lost) == (2, 1, 1)


def test_on_disk_finds_answers_in_journals(tmp_path: Path) -> None:
    Journal(tmp_path / "round=0" / "_journal" / "rollouts-00000-ab.jsonl").append(Completion("p:0:t0", "kept", "stop"))
    Journal(tmp_path / "round=0" / "_journal" / "verdicts-00000-ab.jsonl").append(Completion("p:0:t0:j", "7", "stop"))

    assert on_disk(tmp_path) == {"p:0:t0": "kept"}
    assert RunFolder(tmp_path).shards() == 0


# Figures


@pytest.mark.parametrize(
    ("where", "stage"),
    [
        ("answer /tmp/kills-1/run-2/runs/killed/round=0/_journal/rollouts-00000-ab.jsonl", "rollouts, answers"),
        ("open /x/runs/killed/round=0/rollouts/.part-00000.parquet.7.tmp", "rollouts, closing"),
        ("os.rename /x/runs/killed/round=0/_records/.verdicts-00001.json.7.tmp", "judging, closing"),
        ("os.mkdir /x/runs/killed/round=0/pairs", "pairing"),
        ("os.mkdir /x/runs/killed/round=0/prompts", "prompts"),
        ("open /x/runs/killed/.manifest.json.7.tmp", "manifest and catalog"),
        ("open /rollouts/runs/killed/.lock", "start"),
    ],
)
def test_stage_of_is_read_off_the_path_below_the_runs(where: str, stage: str) -> None:
    assert stage_of(where) == stage
    assert stage == "start" or stage in STAGES.values()


def test_told_adds_up_what_the_lives_went_through() -> None:
    told = Told("runs")
    told.add(
        a_life([(1, "a"), (11, "a"), (12, "b"), (13, "b")], replace(QUIET, under_way=1, orphans=2)), Counter("ab"), 3
    )
    told.add(Life(code=2, said="first\nlast\n", left=["x.tmp"]), Counter("ab"), 0)

    shown = summary([told], 7.4)
    wanted = {"runs": 2, "kills": 1, "requests": 4, "repeated": 2, "beyond": 1, "under_way": 1, "lost": 3, "orphans": 2}
    assert {name: shown[name] for name in wanted} == wanted == {name: row_of(told)[name] for name in wanted}
    assert (shown["left"], shown["failed"], shown["stages"], shown["seconds"]) == (1, 1, {"start": 1}, 7)
    assert told.failed == ["last"]


# Points, and what is killed there


def test_drawn_points_are_as_many_as_wanted_and_the_seeds() -> None:
    points = [list(drawn(random.Random(seed), 40, (300, 90))) for seed in (1, 1, 2)]

    assert points[0] == points[1] != points[2]
    assert len(points[0]) == 40
    assert {point.kind for point in points[0]} == {Event.FILE, Event.ANSWER}
    assert all(point.count <= (100 if point.kind is Event.FILE else 30) for point in points[0])


def test_fuse_counts_files_of_the_run_and_no_others(tmp_path: Path) -> None:
    fuse = Fuse(Event.NONE, 1, 0.0, tmp_path / "note", f"{tmp_path}/runs")
    fuse.audit("open", (f"{tmp_path}/runs/x", "w", 0o101))
    fuse.audit("open", (f"{tmp_path}/runs/x", "r", 0))
    fuse.audit("os.rename", (f"{tmp_path}/runs/x", f"{tmp_path}/runs/y", -1, -1))
    fuse.audit("os.remove", (f"{tmp_path}/elsewhere", -1))
    fuse.audit("subprocess.Popen", ("python", ["python", "-m", "vllm.entrypoints.openai.api_server"], None, None))
    fuse.audit("subprocess.Popen", ("python", ["python", "-m", "something"], None, None))

    assert fuse.seen == {Event.FILE: 2, Event.SERVER: 1}


def test_fuse_tells_a_judges_answers_from_all(tmp_path: Path) -> None:
    fuse = Fuse(Event.NONE, 1, 0.0, tmp_path / "note", f"{tmp_path}/runs")
    append = fuse.watching(lambda _, __: None)
    append(Journal(tmp_path / "rollouts-00000-ab.jsonl"), Completion("p:0:t0", "x", "stop"))
    append(Journal(tmp_path / "verdicts-00000-ab.jsonl"), Completion("p:0:t0:j", "7", "stop"))

    assert fuse.seen == {Event.ANSWER: 2, Event.VERDICT: 1}


def test_asked_log_has_questions_and_no_probes(tmp_path: Path) -> None:
    write = writer(tmp_path / "log")
    write(ARRIVED, "a:0:t0")
    write(PROBED, "p")
    write(ARRIVED, "b:0:t0")

    assert [name for _, name in arrived(tmp_path / "log")] == ["a:0:t0", "b:0:t0"]
    assert arrived(tmp_path / "nothing") == []


def test_living_is_who_has_not_ended() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as process:
        one = psutil.Process(process.pid)
        assert living([one]) == [one.pid]
        process.communicate(b"\n")
    assert living([one]) == []


def test_live_run_that_is_killed_at_an_answer_is_started_again_until_it_is_done(tmp_path: Path) -> None:
    kind, log = KINDS[0], tmp_path / "log"
    seen: list[float] = []
    with serving(log, 0.0, kind.without) as url:
        scene = Scene(tmp_path, write_recipe(tmp_path, kind, url), ("--plain",), log, tmp_path / "bytecode")
        life = live(scene, [Point(Event.ANSWER, 20, 0.0), NEVER], lambda: seen.append(time.monotonic()))

    assert (life.code, len(life.kills), len(seen)) == (0, 1, 1)
    assert stage_of(life.kills[0].where).endswith("answers")
    assert life.kills[0].orphans == 0
    assert life.left == []
    assert life.beyond(Counter(dict.fromkeys(life.counts(), 1)), 16) == 0
