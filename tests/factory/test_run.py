"""A run folder: who may work in it, and what counts as done."""

import math
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from filelock import FileLock

from factory.run import Journal, RunFolder, refuse_drift, versions
from schemas.chat import Completion, TokenAlternative
from schemas.errors import DriftError, Fixable, SchemaError, StorageError
from schemas.manifest import PartFile, Provenance, RunManifest, StageRecord
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
        with pytest.raises(Fixable, match="another process works on this run"), run.locked():
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


def test_finished_wants_the_record_the_fingerprint_and_the_parts(run: RunFolder) -> None:
    assert run.finished("pairs", 0, "f") is None
    part = run.write_part(Table.DROPPED, 0, [Dropped("p", DropReason.ALL_SAME)])
    assert run.finished("pairs", 0, "f") is None
    record = a_record([part])
    run.write_record(record)

    assert run.finished("pairs", 0, "f") == record == run.record("pairs", 0)
    assert run.finished("pairs", 0, "g") is None
    assert run.finished("pairs", 1, "f") is None
    run.part_path(Table.DROPPED, 0).unlink()
    assert run.finished("pairs", 0, "f") is None


def test_finished_is_of_its_own_round(run: RunFolder) -> None:
    run.write_record(a_record([]))

    assert run.finished("pairs", 0, "f") is not None
    assert RunFolder(run.root, 1).finished("pairs", 0, "f") is None


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

    with pytest.raises(SchemaError, match=r"pairs-00000\.json: not a record; delete it"):
        run.record("pairs", 0)


def test_record_file_changes_with_the_record(run: RunFolder) -> None:
    run.write_record(a_record([], "f"))
    one = run.record_file("pairs", 0)
    run.write_record(a_record([], "g"))

    assert one.sha256 != run.record_file("pairs", 0).sha256
    assert one.path == "round=0/_records/pairs-00000.json"


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
