"""A run folder: who may work in it, and what counts as done."""

import math
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from factory.files import spill_of
from factory.ledger.identity import refuse_drift
from factory.ledger.journal import Journal
from factory.ledger.syncing import SYNCER
from factory.run import RunFolder
from factory.work import versions
from schemas.chat import Completion, TokenAlternative
from schemas.errors import DriftError, Fixable, SchemaError, StorageError
from schemas.manifest import UNASKED, PartFile, Provenance, RunManifest, StageRecord
from schemas.rows import Dropped, DropReason
from schemas.tables import Table

HOLD = """
import sys
from pathlib import Path
from factory.run import RunFolder
with RunFolder(Path(sys.argv[1])).locked():
    print("held", flush=True)
    input()
"""


def a_record(outputs: list[PartFile], fingerprint: str = "f", stage: str = "pairs", shard: int = 0) -> StageRecord:
    time = datetime.now(UTC)
    return StageRecord(
        stage=stage,
        shard=shard,
        fingerprint=fingerprint,
        inputs=[],
        outputs=outputs,
        started=time,
        ended=time,
        requests=0,
        notes={"sigma": 0.1, "what": "x"},
        versions=versions(),
    )


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


# The lock


def holder(run: RunFolder) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_locked_folder_that_is_no_run_is_refused_and_left_alone(run: RunFolder) -> None:
    run.root.mkdir()
    (run.root / "thesis.tex").write_text("mine")

    with pytest.raises(Fixable, match="holds something that is no run"), run.locked():
        pytest.fail("it was taken")

    assert [path.name for path in run.root.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    "made", ["nothing", "an empty folder", "logs", "a run", "a run that was copied without its lock"]
)
def test_locked_new_folder_and_run_are_taken(run: RunFolder, made: str) -> None:
    if made != "nothing":
        run.root.mkdir()
    if made == "logs":
        (run.root / "logs").mkdir()
    if made.startswith("a run"):
        run.write_manifest(a_manifest())
    if made == "a run":
        (run.root / ".lock").touch()

    with run.locked():
        assert run.root.is_dir()


LINKS = [
    ".lock",
    "logs",
    "logs/server-x.log",
    "export",
    "round=0",
    "round=0/pairs",
    "round=0/_journal/rollouts-0.jsonl",
]


@pytest.mark.parametrize("link", [*LINKS, "recipe.yaml"])
def test_locked_link_in_the_folder_is_refused_and_what_it_leads_to_left_alone(
    run: RunFolder, tmp_path: Path, link: str
) -> None:
    run.root.mkdir()
    run.write_manifest(a_manifest())
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("mine")
    (run.root / link).parent.mkdir(parents=True, exist_ok=True)
    (run.root / link).symlink_to(tmp_path / "outside" / ("" if link.count(".") == 0 else "file"))

    with pytest.raises(Fixable, match="a link, through which"), run.locked():
        pytest.fail("it was taken")

    assert (tmp_path / "outside" / "file").read_text() == "mine"


def test_locked_run_folder_that_is_a_link_itself_is_the_users_own(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "large disk").mkdir()
    run.root.symlink_to(tmp_path / "large disk")

    with run.locked():
        assert (tmp_path / "large disk" / ".lock").exists()


def test_locked_second_process_is_refused_until_the_first_has_ended(run: RunFolder) -> None:
    with holder(run) as other:
        named = rf"another process works on this run \(process {other.pid} on .* since 2.* UTC: "
        with pytest.raises(Fixable, match=named), run.locked():
            pytest.fail("both hold it")
        other.communicate("\n")

    with run.locked():
        assert run.root.is_dir()


def test_locked_killed_owner_holds_nothing(run: RunFolder) -> None:
    with holder(run) as other:
        other.kill()
        other.communicate()

    with run.locked():
        assert (run.root / ".lock").exists()


def test_locked_who_waits_gets_it_when_its_owner_has_gone(run: RunFolder) -> None:
    said: list[str] = []
    with holder(run) as other:

        def stop(line: str) -> None:
            said.append(line)
            other.kill()

        with run.locked(patience=30, say=stop):
            assert "waiting for the process that works on this run (process" in said[0]


def test_locked_who_waits_too_long_is_refused(run: RunFolder) -> None:
    with holder(run) as other:
        with pytest.raises(Fixable, match="another process"), run.locked(patience=0.3):
            pytest.fail("both hold it")
        other.communicate("\n")


def test_locked_clears_up_what_a_dead_process_left_and_nothing_else(run: RunFolder) -> None:
    run.write_manifest(a_manifest())
    part = run.write_part(Table.DROPPED, 0, [])
    run.write_record(a_record([part]))
    run.journal("pairs", 0, "f").append(Completion("spent", "x", "stop"))
    run.journal("pairs", 0, "e").append(Completion("made from something else", "x", "stop"))
    run.journal("verdicts", 0, "f").append(Completion("not finished", "x", "stop"))
    (run.root / "export" / ".trl.7.tmp" / "data").mkdir(parents=True)
    left = [".catalog.duckdb.7.tmp", ".catalog.duckdb.7.tmp.wal", "round=0/dropped/.part-00000.parquet.7.tmp",
            "round=0/_records/.pairs-00000.json.7.tmp", "export/.trl.7.tmp/data/x"]  # fmt: skip
    kept = [".gitignore", "export/x.tmp", "notes.7.tmp"]
    for name in (*left, *kept):
        (run.root / name).touch()

    with run.locked():
        pass

    assert not any((run.root / name).exists() for name in left)
    assert all((run.root / name).exists() for name in kept)
    assert run.whole(part)
    journals = {path.name for path in run.root.glob("round=0/_journal/*")}
    assert journals == {"pairs-00000-e.jsonl", "verdicts-00000-f.jsonl"}


def test_locked_keeps_what_a_living_process_spills_and_no_other(run: RunFolder) -> None:
    run.write_manifest(a_manifest())
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as looking:
        living = [run.root / f".spill-0badcafe-3.{looking.pid}.tmp", spill_of(run.root)]
        dead = [run.root / f".spill-0badcafe-3.{pid}.tmp" for pid in (2**22 + 1, os.getpid())]
        for folder in (*living, *dead):
            folder.mkdir()

        with run.locked():
            assert [folder.exists() for folder in (*living, *dead)] == [True, True, False, False]
        looking.communicate(b"\n")


def test_locked_keeps_the_journal_of_a_shard_that_may_still_be_asked_about(run: RunFolder) -> None:
    run.write_manifest(a_manifest())
    record = a_record([])
    run.write_record(record.model_copy(update={"notes": {UNASKED: 3.0}}))
    run.journal("pairs", 0, "f").append(Completion("r", "x", "stop"))

    with run.locked():
        assert set(run.journal("pairs", 0, "f").kept) == {"r"}


def test_locked_second_time_in_one_process_is_refused(run: RunFolder) -> None:
    with run.locked(), pytest.raises(Fixable, match="another process works on this run"), run.locked():
        pytest.fail("both hold it")


def test_locked_error_of_the_work_gives_the_folder_back(run: RunFolder) -> None:
    with pytest.raises(KeyError), run.locked():
        raise KeyError

    with run.locked():
        pass


@pytest.mark.parametrize("error", [ConnectionResetError("gone"), TimeoutError("late"), FileNotFoundError(2, "no vllm")])
def test_locked_error_of_the_work_is_not_taken_for_one_of_the_folder(run: RunFolder, error: OSError) -> None:
    with pytest.raises(type(error)) as caught, run.locked():
        raise error

    assert caught.value is error


@pytest.mark.parametrize("folder", ["file/run", "/proc/run"], ids=["below a file", "where nobody may write"])
def test_locked_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StorageError, match=f"{folder}: cannot be written"), RunFolder(tmp_path / folder).locked():
        pytest.fail("there is no such folder")


def test_locked_lock_is_the_kernels(run: RunFolder) -> None:
    """A lock file that lies there from before holds nobody up."""
    run.root.mkdir()
    (run.root / ".lock").write_text("12345")

    with run.locked(), pytest.raises(TimeoutError), FileLock(run.root / ".lock", timeout=0):
        pytest.fail("both hold it")


# Records


def test_write_record_ends_the_journals_of_its_shard_and_no_others(run: RunFolder) -> None:
    names = [("pairs", 0, "f" * 64), ("pairs", 0, "g" * 64), ("pairs", 1, "f" * 64), ("verdicts", 0, "f" * 64)]
    for stage, shard, wanted in names:
        run.journal(stage, shard, wanted).append(Completion("r", "x", "stop"))

    run.write_record(a_record([]))

    assert [len(run.journal(stage, shard, wanted).kept) for stage, shard, wanted in names] == [0, 0, 1, 1]


def test_journal_of_another_fingerprint_has_none_of_its_answers(run: RunFolder) -> None:
    run.journal("rollouts", 0, "f" * 64).append(Completion("r", "x", "stop"))

    assert run.journal("rollouts", 0, "g" * 64).kept == {}
    assert run.journal("rollouts", 1, "f" * 64).kept == {}
    assert set(run.journal("rollouts", 0, "f" * 64).kept) == {"r"}


@pytest.mark.parametrize("content", ["", "{", "{}", "null", '{"stage": "pairs", "what": 1}'])
def test_record_that_is_none_is_refused_with_the_mend(run: RunFolder, content: str) -> None:
    run.write_record(a_record([]))
    run.record_path("pairs", 0).write_text(content)

    with pytest.raises(SchemaError, match=r"pairs-00000\.json: not a record; its shard counts as not done"):
        run.record("pairs", 0)


def test_record_with_any_other_byte_is_none(run: RunFolder) -> None:
    run.write_record(a_record([run.write_part(Table.DROPPED, 0, [])]))
    path = run.record_path("pairs", 0)
    whole = path.read_bytes()
    assert run.record("pairs", 0) is not None

    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(SchemaError, match="not a record"):
            run.record("pairs", 0)


def test_record_file_changes_with_what_was_found_and_not_with_the_time(run: RunFolder) -> None:
    one, again, other = a_record([], "f"), a_record([], "f"), a_record([], "g")

    assert one.started != again.started
    assert run.record_file(one) == run.record_file(again)
    assert run.record_file(one).sha256 != run.record_file(other).sha256
    assert run.record_file(one).path == "round=0/_records/pairs-00000.json"


def test_record_of_another_shard_is_refused(run: RunFolder) -> None:
    run.write_record(a_record([], shard=1))
    run.record_path("pairs", 1).rename(run.record_path("pairs", 0))

    with pytest.raises(SchemaError, match=r"pairs-00000\.json: the record of pairs 1"):
        run.record("pairs", 0)


def test_whole_is_a_part_that_is_as_long_as_it_was(run: RunFolder) -> None:
    part = run.write_part(Table.DROPPED, 0, [Dropped("p", DropReason.ALL_SAME)])
    path = run.part_path(Table.DROPPED, 0)

    assert run.whole(part)
    path.write_bytes(path.read_bytes()[:-1])
    assert not run.whole(part)
    path.unlink()
    assert not run.whole(part)


def test_part_record_and_journal_reach_the_disk_in_this_order(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is synced, and so is the folder that names it, before the next step: a power cut between two costs nothing."""
    run.journal("pairs", 0, "f" * 64).append(Completion("r", "x", "stop"))
    steps: list[str] = []
    SYNCER.now()
    sync, replace, unlink = os.fsync, Path.replace, Path.unlink

    def synced(handle: int) -> None:
        steps.append(f"sync {Path(f'/proc/self/fd/{handle}').readlink().name}")
        sync(handle)

    def replaced(path: Path, target: Path) -> Path:
        steps.append(f"name {target.name}")
        return replace(path, target)

    def removed(path: Path, missing_ok: bool = False) -> None:
        if path.exists():
            steps.append(f"remove {path.name}")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    monkeypatch.setattr(Path, "unlink", removed)
    run.write_record(a_record([run.write_part(Table.DROPPED, 0, [])]))

    own = str(os.getpid())
    assert [step for step in steps if step not in ("sync run", "sync round=0")] == [
        f"sync .part-00000.parquet.{own}.tmp", "name part-00000.parquet", "sync dropped",
        f"sync .pairs-00000.json.{own}.tmp", "name pairs-00000.json", "sync _records",
        f"remove pairs-00000-{'f' * 16}.jsonl",
    ]  # fmt: skip


def test_part_file_is_known_by_its_place_in_the_folder(run: RunFolder) -> None:
    part = run.write_part(Table.DROPPED, 12, [Dropped("p", DropReason.ALL_SAME)])

    assert part.path == "round=0/dropped/part-00012.parquet"
    assert part.rows == 1
    assert run.read_rows(Dropped, 12) == [Dropped("p", DropReason.ALL_SAME)]
    assert a_record([part]).output(Table.DROPPED) == part
    with pytest.raises(KeyError):
        a_record([part]).output(Table.PAIRS)


def test_shards_are_what_the_prompts_were_cut_into(run: RunFolder) -> None:
    assert run.shards() == 0
    parts = [run.write_part(Table.PROMPTS, shard, []) for shard in range(3)]
    assert run.shards() == 0

    run.write_record(a_record(parts, stage="prompts"))

    assert run.shards() == 3


# Manifest and drift


def a_manifest() -> RunManifest:
    time = datetime.now(UTC)
    made_from = Provenance(models={"policy": "d"}, rubrics={}, sources={}, detector="1")
    return RunManifest(
        name="n", created=time, updated=time, identity={"seed": "7"}, provenance=made_from,
        prompts=0, shards=0, pairs=0, dropped={}, seconds={},
    )  # fmt: skip


def test_manifest_comes_back_as_it_was(run: RunFolder) -> None:
    assert run.manifest() is None
    manifest = a_manifest()

    run.write_manifest(manifest)

    assert run.manifest() == manifest


def test_manifest_that_is_none_is_refused_with_its_name(run: RunFolder) -> None:
    run.write_manifest(a_manifest())
    run.manifest_path.write_text("{}")

    with pytest.raises(SchemaError, match=r"manifest\.json"):
        run.manifest()


def test_refuse_drift_names_folder_field_and_mend(tmp_path: Path) -> None:
    with pytest.raises(DriftError, match=rf"{tmp_path}: .*rollouts\.max_tokens: 192 -> 256.*another `name`"):
        refuse_drift(tmp_path, ["rollouts.max_tokens: 192 -> 256"])


def test_refuse_drift_without_a_change_says_nothing(tmp_path: Path) -> None:
    refuse_drift(tmp_path, [])


def test_journal_counts_no_line_twice(run: RunFolder) -> None:
    """An id that is answered again stands for its last answer."""
    path = run.root / "j.jsonl"
    journal = Journal(path)
    journal.append(Completion("r", "one", "stop"))
    journal.append(Completion("r", "two", "stop"))

    assert Journal(path).kept == {"r": Completion("r", "two", "stop")}


def test_journal_reply_with_forbidden_tokens_is_not_lost(run: RunFolder) -> None:
    """They come back as -Infinity from some engines, and JSON has no word for it."""
    alternatives = (TokenAlternative("7", -0.1), TokenAlternative("The", -math.inf))
    journal = run.journal("verdicts", 0, "f")
    journal.append(Completion("r", "7", "stop", first_token=alternatives))
    journal.append(Completion("s", "", "stop", reward=math.inf))

    kept = run.journal("verdicts", 0, "f").kept

    assert kept["r"].first_token == alternatives
    assert kept["s"].reward == math.inf


# A journal that something happened to

ANSWERS = [Completion(f"r{number}", f"text {number} \n\0\u2028 ü", "stop", token_ids=(1, 2)) for number in range(5)]


def a_journal(path: Path) -> list[bytes]:
    journal = Journal(path)
    for answer in ANSWERS:
        journal.append(answer)
    return path.read_bytes().splitlines(keepends=True)


@given(at=st.integers(0), junk=st.binary(max_size=60))
def test_journal_bytes_overwritten_cost_the_lines_that_they_touch_alone(
    tmp_path_factory: pytest.TempPathFactory, at: int, junk: bytes
) -> None:
    path = tmp_path_factory.mktemp("journal") / "j.jsonl"
    lines = a_journal(path)
    content = bytearray(b"".join(lines))
    start = at % len(content)
    content[start : start + len(junk)] = junk[: len(content) - start]
    path.write_bytes(content)

    kept = Journal(path).kept

    assert all(ANSWERS[int(name[1:])] == answer for name, answer in kept.items())
    touched = {
        number
        for number in range(len(lines))
        if sum(map(len, lines[:number])) - 1 <= start + len(junk) and start <= sum(map(len, lines[: number + 1]))
    }
    assert {f"r{number}" for number in range(len(lines)) if number not in touched} <= set(kept)


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (lambda lines: b"".join(lines)[:-1], {0, 1, 2, 3, 4}),
        (lambda lines: b"".join(lines)[:-9], {0, 1, 2, 3}),
        (lambda lines: lines[0][:20] + b"\n" + b"".join(lines[1:]), {1, 2, 3, 4}),
        (lambda lines: lines[0] + b"\0" * 4096 + lines[2] + lines[3] + lines[4], {0, 2, 3, 4}),
        (lambda lines: lines[0] + lines[1][:30] + b"\0" * 99 + lines[3], {0, 3}),
        (lambda lines: lines[0].replace(b"text", b"lies") + lines[1], {1}),
        (lambda lines: b"\0" * 4096, set()),
        (lambda lines: b"", set()),
        (lambda lines: b"{}\n[]\nnull\n00000000 {}\n\xff\xfe", set()),
    ],
    ids=["no end", "cut", "cut in front", "hole", "hole in a line", "other words", "NULs", "empty", "garbage"],
)
def test_journal_damage_costs_itself_alone_and_answers_go_on(
    run: RunFolder, content: Callable[[list[bytes]], bytes], kept: set[int]
) -> None:
    path = run.root / "j.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(content(a_journal(path)))

    assert Journal(path).kept == {f"r{number}": ANSWERS[number] for number in kept}
    Journal(path).append(Completion("more", "x", "stop"))
    assert set(Journal(path).kept) == {*(f"r{number}" for number in kept), "more"}


def test_journal_without_room_is_a_storage_error_and_loses_nothing(run: RunFolder) -> None:
    path = run.root / "j.jsonl"
    lines = a_journal(path)
    journal = Journal(path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (sum(map(len, lines)) + 20, before[1]))
    try:
        with pytest.raises(StorageError, match=r"j\.jsonl: cannot be written"):
            journal.append(Completion("late", "x", "stop"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    journal.append(Completion("later", "x", "stop"))

    assert set(Journal(path).kept) == {*(answer.request_id for answer in ANSWERS), "later"}
