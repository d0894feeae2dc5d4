"""A copy and its store made the same, file by file, against a server that speaks S3."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from factory.objects.bucket import Objects
from factory.objects.copying import Copy, as_it_comes, everything, heads, is_part, with_records
from factory.objects.index import Index
from factory.objects.place import copy_of
from schemas.errors import Busy, Fixable
from tests.object_store import BUCKET, ObjectStore

PART, RECORD, MANIFEST = "round=0/pairs/part-00000.parquet", "round=0/_records/pairs-00000.json", "manifest.json"
JOURNAL = "round=0/_journal/verdicts-00000-0123456789abcdef.jsonl"
Machine = Callable[[str], Copy]


@pytest.fixture
def machine(stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The copy of a machine of that name, as its next process finds it."""

    def copy(name: str) -> Copy:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        root = copy_of(f"{stored}/run")
        root.mkdir(exist_ok=True)
        return Copy(root, Objects(f"{stored}/run"), Index(root))

    return copy


def write(copy: Copy, path: str, text: str) -> None:
    """As the factory does: whole."""
    target = copy.root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.with_name(f".{target.name}.1.tmp").write_text(text)
    target.with_name(f".{target.name}.1.tmp").replace(target)


def append(copy: Copy, text: str) -> None:
    target = copy.root / JOURNAL
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("a") as file:
        file.write(text)


def files(copy: Copy) -> dict[str, str]:
    found = (path for path in copy.root.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(copy.root)): path.read_text() for path in found}


def gathered(copy: Copy) -> Copy:
    copy.pull(everything)
    copy.gather()
    return copy


def test_what_one_machine_sends_another_has(machine: Machine) -> None:
    one = gathered(machine("one"))
    for path in (PART, RECORD, MANIFEST, "recipe.yaml", "export/trl/data.parquet"):
        write(one, path, path)
    write(one, "catalog.duckdb", "of this machine alone")
    one.push()
    assert files(gathered(machine("two"))) == {name: text for name, text in files(one).items() if name == text}


def test_record_is_sent_after_its_part_and_the_manifest_after_it(machine: Machine, s3: ObjectStore) -> None:
    one = gathered(machine("one"))
    for path in (MANIFEST, RECORD, PART):
        write(one, path, path)
    before = len(s3.asked())
    one.push()
    puts = [asked.path.rpartition("/run/")[2] for asked in s3.asked()[before:] if asked.method == "PUT"]
    assert [path.partition("?")[0].replace("%3D", "=") for path in puts] == [PART, RECORD, MANIFEST]


def test_what_did_not_change_is_sent_and_fetched_once(machine: Machine, s3: ObjectStore) -> None:
    one = gathered(machine("one"))
    write(one, PART, "rows")
    write(one, MANIFEST, "{}")
    one.push()
    two = gathered(machine("two"))
    before = len(s3.asked())
    one.push()
    gathered(machine("one")).push()
    gathered(two).push()
    assert s3.counted(before) == {"LIST": 2}


def test_what_is_replaced_and_taken_away_here_is_so_in_the_store(machine: Machine, s3: ObjectStore) -> None:
    one = gathered(machine("one"))
    write(one, PART, "rows")
    write(one, RECORD, "{}")
    one.push()
    write(one, PART, "others")
    (one.root / RECORD).unlink()
    one.push()
    two = gathered(machine("two"))
    assert files(two) == {PART: "others"}
    write(two, PART, "again")
    two.push()
    assert files(gathered(machine("one"))) == {PART: "again"}


def test_what_a_killed_process_did_not_send_its_successor_sends(machine: Machine) -> None:
    one = gathered(machine("one"))
    write(one, PART, "rows")
    again = gathered(machine("one"))
    assert files(again) == {PART: "rows"}
    again.push()
    assert files(gathered(machine("two"))) == {PART: "rows"}


def test_where_both_sides_changed_a_file_the_store_has_it(machine: Machine) -> None:
    one = gathered(machine("one"))
    write(one, MANIFEST, "first")
    one.push()
    two = gathered(machine("two"))
    write(two, MANIFEST, "of two")
    two.push()
    write(one, MANIFEST, "of one, and later")
    assert files(gathered(machine("one"))) == {MANIFEST: "of two"}


def test_who_lost_its_files_takes_nothing_away_from_the_store(machine: Machine) -> None:
    one = gathered(machine("one"))
    write(one, PART, "rows")
    one.push()
    (one.root / PART).unlink()
    again = gathered(machine("one"))
    again.push()
    assert files(again) == {PART: "rows"}


def test_who_only_asks_has_no_rows(machine: Machine) -> None:
    one = gathered(machine("one"))
    for path in (PART, RECORD, MANIFEST, "export/trl/data.parquet", "round=1/manifest.json"):
        write(one, path, path)
    one.push()
    two = machine("two")
    two.pull(heads)
    assert set(files(two)) == {MANIFEST, "round=1/manifest.json"}
    two.pull(with_records)
    assert set(files(two)) == {MANIFEST, "round=1/manifest.json", RECORD}
    two.push()
    assert PART in two.objects.list()


def test_journal_is_sent_in_segments_of_whole_lines(machine: Machine) -> None:
    one = gathered(machine("one"))
    append(one, "a\nb\nhalf")
    one.push(as_it_comes)
    append(one, " a line\nc\n")
    one.push(as_it_comes)
    segments = {path: item.size for path, item in one.objects.list().items()}
    assert sorted(segments.values()) == [4, 14]
    assert files(gathered(machine("two")))[JOURNAL] == "a\nb\nhalf a line\nc\n"


def test_journals_of_two_machines_become_one_on_each(machine: Machine) -> None:
    one = gathered(machine("one"))
    append(one, "a\n")
    one.push()
    two = gathered(machine("two"))
    append(two, "b\n")
    two.push()
    append(one, "never sent\n")
    again = gathered(machine("one"))
    assert sorted(files(again)[JOURNAL].splitlines()) == ["a", "b", "never sent"]
    again.push()
    assert sorted(files(gathered(machine("two")))[JOURNAL].splitlines()) == ["a", "b", "never sent"]
    assert sorted(files(gathered(machine("three")))[JOURNAL].splitlines()) == ["a", "b", "never sent"]


def test_who_may_not_send_any_more_sends_nothing(machine: Machine) -> None:
    one = gathered(machine("one"))
    write(one, PART, "rows")
    one.push()
    for path in (PART, RECORD, MANIFEST):
        write(one, path, "later")
    append(one, "a\n")

    def taken() -> None:
        raise Busy("taken over")

    one.may_send = taken
    with pytest.raises(Busy):
        one.push()
    assert files(gathered(machine("two"))) == {PART: "rows"}


def test_segments_go_with_their_journal(machine: Machine) -> None:
    one = gathered(machine("one"))
    append(one, "a\n")
    one.push()
    two = gathered(machine("two"))
    append(two, "b\n")
    two.push()
    (two.root / JOURNAL).unlink()
    write(two, RECORD, "{}")
    two.push()
    assert list(two.objects.list()) == [RECORD]
    append(two, "anew\n")
    two.push()
    assert files(gathered(machine("three")))[JOURNAL] == "anew\n"


def test_file_in_a_folder_that_was_looked_into_before_is_seen(machine: Machine) -> None:
    one = gathered(machine("one"))
    one.clock = lambda: 2**62  # a folder is old from the first
    write(one, PART, "rows")
    os.utime((one.root / PART).parent, ns=(0, 1))
    one.push()
    os.utime((one.root / PART).parent, ns=(0, 1))
    one.push()
    write(one, PART.replace("00000", "00001"), "more")
    one.push()
    assert sorted(one.objects.list()) == [PART, PART.replace("00000", "00001")]


@pytest.mark.parametrize("name", ["../outside", "a/../../b", "a//b", "a\\b"])
def test_name_that_leads_elsewhere_is_refused(name: str, machine: Machine, stored: str, s3: ObjectStore) -> None:
    key = f"{stored.removeprefix(f's3://{BUCKET}/')}/run/{name}"
    s3.client().put_object(Bucket=BUCKET, Key=key, Body=b"x")
    with pytest.raises(Fixable, match="which is no run's"):
        machine("one").pull(everything)


def test_parts_are_told_from_the_rest() -> None:
    assert is_part(PART)
    assert is_part(f"evaluation/one/{PART}")
    assert not any(map(is_part, (RECORD, MANIFEST, JOURNAL, "export/trl/data/train.parquet")))
