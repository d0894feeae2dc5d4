"""The verb `verify`: what it finds of what can befall a run folder, and what --repair makes of it.

prefactory verify RUN             0 where all is well, 2 where something is wrong
prefactory verify RUN --repair    0 where no model is needed to mend it, 1 where the next run mends it
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from factory import store
from factory.ledger.identity import Stage
from factory.run import RunFolder
from schemas.manifest import RunManifest, StageRecord
from schemas.rows import Cause, Pair, Row
from schemas.semi_online import RoundOutcome, Story
from schemas.tables import Table
from tests.conftest import Command, RecipeWriter
from tests.fake_engine import FakeEngine
from tests.runs import Tables, assert_equal, make, tables

Damage = Callable[[RunFolder], object]


@dataclass(frozen=True)
class Made:
    """A finished run that is put back as it was before each test."""

    recipe: Path
    engine: FakeEngine
    folder: RunFolder
    rows: Tables

    @property
    def root(self) -> str:
        return str(self.folder.root)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    with FakeEngine() as engine:
        recipe = RecipeWriter(tmp_path_factory.mktemp("verify"), engine.url)({"jury.verifiers": ["language"]})
        root, _ = make(recipe, Stage.EXPORT)
        shutil.copytree(root, root.with_name("as it was"))
        yield Made(recipe, engine, RunFolder(root), tables(root))


@pytest.fixture
def made(whole: Made) -> Made:
    shutil.rmtree(whole.folder.root)
    shutil.copytree(whole.folder.root.with_name("as it was"), whole.folder.root)
    whole.engine.seen.clear()
    return whole


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    """One bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def with_rows(folder: RunFolder, stage: str, table: Table, rows: list[Row], shard: int = 0) -> None:
    """Other rows in the part of a shard, and a record that vouches for them."""
    part = folder.write_part(table, shard, rows)
    record = folder.record(stage, shard)
    assert record is not None
    outputs = [part if one.path == part.path else one for one in record.outputs]
    folder.write_record(StageRecord.model_validate(record.model_dump() | {"outputs": outputs}))


def swap_sides(folder: RunFolder) -> None:
    """Every pair of a shard prefers the worse answer, a loop among them."""
    shard = next(
        each for each in range(folder.shards()) if any(one.cause is Cause.LOOP for one in folder.read_rows(Pair, each))
    )
    pairs = folder.read_rows(Pair, shard)
    swapped: list[Row] = [
        Pair(**{name: getattr(pair, name) for name in Pair.__slots__} | {
            "chosen": pair.rejected, "rejected": pair.chosen, "chosen_id": pair.rejected_id, "rejected_id": pair.chosen_id,
        })
        for pair in pairs
    ]  # fmt: skip
    with_rows(folder, "pairs", Table.PAIRS, swapped, shard)


def lose_a_prompt(folder: RunFolder) -> None:
    with_rows(folder, "pairs", Table.PAIRS, list(folder.read_rows(Pair, 0)[1:]))


def add_a_part(folder: RunFolder) -> None:
    shutil.copy(folder.part_path(Table.PAIRS, 0), folder.part_path(Table.PAIRS, 99))


def another_form(folder: RunFolder) -> None:
    path = folder.part_path(Table.DROPPED, 0)
    pq.write_table(pa.table({"prompt_id": ["x"]}), path)
    with_file(folder, "pairs", path)


def with_file(folder: RunFolder, stage: str, path: Path) -> None:
    record = folder.record(stage, 0)
    assert record is not None
    part = folder.file(path, store.rows_of(path))
    outputs = [part if one.path == part.path else one for one in record.outputs]
    folder.write_record(StageRecord.model_validate(record.model_dump() | {"outputs": outputs}))


def other_count(folder: RunFolder) -> None:
    manifest = folder.manifest()
    assert manifest is not None
    folder.write_manifest(manifest.model_copy(update={"pairs": 1}))


def test_verify_finished_run_is_all_as_recorded(made: Made, prefactory: Command) -> None:
    ended = prefactory("verify", made.root)

    assert ended.code == 0, ended.err
    assert "all as recorded" in ended.out
    assert made.engine.seen == []


OFFLINE: dict[str, tuple[Damage, str]] = {
    "a pair's part with a bit flipped": (lambda run: flip(run.part_path(Table.PAIRS, 1)), "pairs of shard 1"),
    "a part that is not there": (lambda run: run.part_path(Table.SCORECARDS, 0).unlink(), "is not there"),
    "an empty record": (lambda run: run.record_path("pairs", 2).write_bytes(b""), "is not a record"),
    "rollouts without their record": (lambda run: run.record_path("rollouts", 1).write_bytes(b"{"), "is not a record"),
    "verdicts without their record": (lambda run: run.record_path("verdicts", 1).write_bytes(b"{"), "is not a record"),
    "a record of NULs": (lambda run: run.record_path("pairs", 0).write_bytes(b"\0" * 900), "is not a record"),
    "a record of another shard": (
        lambda run: shutil.copy(run.record_path("pairs", 0), run.record_path("pairs", 1)), "pairs of shard 1",
    ),
    "no spreads": (lambda run: cut(run.record_path("spreads", 0)), "spreads of shard 0"),
    "worse preferred to better": (swap_sides, "a hard loop is chosen"),
    "a prompt without an end": (lose_a_prompt, "a prompt is not exactly once among pairs and drops"),
    "a part of another form": (another_form, "is not in the form of the table `dropped`"),
    "a part too many": (add_a_part, "part-00099.parquet: is of no shard"),
    "a dataset that was touched": (lambda run: flip(run.export_path("trl") / "README.md"), "README.md: has not the checksum"),
    "a dataset that is gone": (lambda run: shutil.rmtree(run.export_path("trl")), "export of shard 0"),
    "no catalog": (lambda run: run.catalog_path.unlink(), "catalog.duckdb: cannot be used"),
    "a catalog that is none": (lambda run: run.catalog_path.write_bytes(b"x" * 5000), "catalog.duckdb: cannot be used"),
    "a manifest that says something else": (other_count, "manifest.json: says"),
}  # fmt: skip


@pytest.mark.parametrize("case", OFFLINE)
def test_verify_what_needs_no_model_is_named_and_mended_at_once(made: Made, prefactory: Command, case: str) -> None:
    damage, named = OFFLINE[case]
    damage(made.folder)

    seen = prefactory("verify", made.root)
    mended = prefactory("verify", made.root, "--repair")

    assert seen.code == 2
    assert named in seen.out
    assert mended.code == 0, mended.out + mended.err
    assert "all as recorded" in mended.out
    assert_equal(tables(made.folder.root), made.rows)
    assert made.engine.seen == []


def rollouts_of(made: Made, shard: int) -> int:
    prompts = made.folder.record("prompts", 0)
    assert prompts is not None
    return 6 * prompts.outputs[shard].rows


PAID: dict[str, tuple[Damage, str, int]] = {  # the last: rollouts that are asked for again
    "rollouts with a bit flipped": (lambda run: flip(run.part_path(Table.ROLLOUTS, 1)), "has not the checksum", 30),
    "rollouts cut short": (lambda run: cut(run.part_path(Table.ROLLOUTS, 0)), "bytes, not", 30),
    "prompts without their record": (lambda run: run.record_path("prompts", 0).write_bytes(b"\0"), "is not a record", 0),
    "prompts with a bit flipped": (lambda run: flip(run.part_path(Table.PROMPTS, 2)), "prompts of shard 0", 0),
}  # fmt: skip


@pytest.mark.parametrize("case", PAID)
def test_verify_what_needs_a_model_is_taken_out_and_the_next_run_mends_it(
    made: Made, prefactory: Command, case: str
) -> None:
    damage, named, asked = PAID[case]
    damage(made.folder)

    seen = prefactory("verify", made.root)
    mended = prefactory("verify", made.root, "--repair")
    again = prefactory("run", made.recipe, "--plain")
    after = prefactory("verify", made.root)

    assert seen.code == 2
    assert named in seen.out
    assert mended.code == 1, mended.out + mended.err
    assert "prefactory run" in mended.error
    assert again.code == 0, again.err
    assert after.code == 0, after.out
    assert_equal(tables(made.folder.root), made.rows)
    assert len(made.engine.questions) == asked
    assert not any(question.is_judging for question in made.engine.questions)


def another_digit(path: Path) -> None:
    """In a checksum or fingerprint."""
    text = path.read_text()
    path.write_text(re.sub(r'("fingerprint": ")(.)', lambda found: found[1] + "10"[found[2] == "1"], text, count=1))


def forget(folder: RunFolder, *stages: str) -> None:
    for stage in stages:
        folder.record_path(stage, 1).unlink()


RUN: dict[str, tuple[Damage, int]] = {  # the last: rollouts that are asked for again
    "rollouts that are not there": (lambda run: run.part_path(Table.ROLLOUTS, 1).unlink(), 30),
    "rollouts cut short": (lambda run: cut(run.part_path(Table.ROLLOUTS, 0)), 30),
    "rollouts without their record": (lambda run: forget(run, "rollouts"), 0),
    "rollouts with another fingerprint": (lambda run: another_digit(run.record_path("rollouts", 0)), 0),
    "verdicts without their record": (lambda run: forget(run, "verdicts"), 0),
    "verdicts with a record of nothing": (lambda run: run.record_path("verdicts", 2).write_bytes(b""), 0),
    "verdicts with another fingerprint": (lambda run: another_digit(run.record_path("verdicts", 0)), 0),
    "nothing paid has its record": (lambda run: forget(run, "rollouts", "verdicts"), 0),
    "prompts with another fingerprint": (lambda run: another_digit(run.record_path("prompts", 0)), 0),
    "pairs cut short": (lambda run: cut(run.part_path(Table.PAIRS, 1)), 0),
    "drops that are not there": (lambda run: run.part_path(Table.DROPPED, 1).unlink(), 0),
    "pairs with another fingerprint": (lambda run: another_digit(run.record_path("pairs", 1)), 0),
    "spreads with another fingerprint": (lambda run: another_digit(run.record_path("spreads", 0)), 0),
}  # fmt: skip


@pytest.mark.parametrize("case", RUN)
def test_run_of_a_damaged_folder_mends_it_and_asks_for_no_more_than_was_lost(
    made: Made, prefactory: Command, case: str
) -> None:
    damage, asked = RUN[case]
    damage(made.folder)

    again = prefactory("run", made.recipe, "--plain")
    after = prefactory("verify", made.root)

    assert again.code == 0, again.err
    assert after.code == 0, after.out
    assert_equal(tables(made.folder.root), made.rows)
    assert [question.is_judging for question in made.engine.questions] == [False] * asked


def test_run_takes_no_part_without_a_record_that_was_made_from_something_else(made: Made, prefactory: Command) -> None:
    """Nothing is begun where no stage has a record: another recipe is no drift, and its answers are others."""
    for stage in ("rollouts", "verdicts", "spreads", "balance", "pairs", "trust", "export"):
        for path in made.folder.root.glob(f"round=0/_records/{stage}-*.json"):
            path.unlink()
    document = yaml.safe_load(made.recipe.read_text())
    document["rollouts"]["max_tokens"] = 399
    other = made.recipe.with_name("other.yaml")
    other.write_text(yaml.safe_dump(document))

    again = prefactory("rollout", other)

    assert again.code == 0, again.err
    assert len(made.engine.questions) == len(made.rows.rollouts)


@pytest.mark.parametrize("words", [["status"], ["query", "FROM funnel"]], ids=lambda words: words[0])
def test_look_at_a_part_that_cannot_be_read_names_it_and_what_mends_it(
    made: Made, prefactory: Command, words: list[str]
) -> None:
    cut(made.folder.part_path(Table.PAIRS, 1))

    ended = prefactory(words[0], made.root, *words[1:])

    assert ended.code == 2
    assert "pairs/part-00001.parquet" in ended.error
    assert f"`prefactory verify {made.root} --repair`" in ended.error


def test_run_that_stops_says_why_whatever_else_cannot_be_read(made: Made, prefactory: Command) -> None:
    cut(made.folder.part_path(Table.PAIRS, 1))
    made.folder.part_path(Table.ROLLOUTS, 0).unlink()
    document = yaml.safe_load(made.recipe.read_text())
    document["budget"] = {"max_requests": 1}
    spent = made.recipe.with_name("spent.yaml")
    spent.write_text(yaml.safe_dump(document))

    ended = prefactory("run", spent, "--plain")

    assert ended.code == 2
    assert "max_requests" in ended.error


def another(path: Path, one: str, other: str) -> None:
    text = path.read_text()
    assert text.count(one) == 1
    path.write_text(text.replace(one, other))


@pytest.fixture
def manifest(made: Made) -> bytes:
    return made.folder.manifest_path.read_bytes()


def test_verify_of_a_manifest_with_another_identity_finds_that_alone_and_mends_it(
    made: Made, prefactory: Command, manifest: bytes
) -> None:
    another(made.folder.manifest_path, '"rollouts.max_tokens": "400"', '"rollouts.max_tokens": "401"')

    seen = prefactory("verify", made.root, "--json")
    mended = prefactory("verify", made.root, "--repair")

    (fault,) = json.loads(seen.out)["faults"]
    assert (fault["kind"], fault["file"]) == ("identity", "manifest.json")
    assert "rollouts.max_tokens: 401 -> 400" in fault["why"]
    assert mended.code == 0, mended.out + mended.err
    assert made.folder.known().identity == RunManifest.model_validate_json(manifest).identity
    assert not list(made.folder.root.glob("aside"))
    assert_equal(tables(made.folder.root), made.rows)
    assert made.engine.seen == []


def test_verify_of_a_folder_whose_ledger_has_another_form_repairs_nothing(made: Made, prefactory: Command) -> None:
    """None of its records can be read: a repair would have all of it paid for again."""
    another(made.folder.manifest_path, '"ledger": "2"', '"ledger": "1"')
    for record in made.folder.root.glob("round=0/_records/*.json"):
        record.write_text(record.read_text().rpartition(',\n "checksum"')[0] + "\n}")
    files = [path for path in made.folder.root.rglob("*") if path.is_file() and path.name != ".lock"]
    before = {path: path.read_bytes() for path in files}

    ended = prefactory("verify", made.root, "--repair")

    assert ended.code == 2
    assert "whose ledger has another form (ledger: 1 -> 2); give the recipe another `name`" in ended.error
    assert {path: path.read_bytes() for path in before} == before
    assert not (made.folder.root / "aside").exists()


SAID_WRONG: dict[str, tuple[str, str, str]] = {  # the file, what it says, and what it says then
    "recipe": ("recipe.yaml", "max_tokens: 400", "max_tokens: 401"),
    "provenance": ("manifest.json", '"policy": "remote:fake-model"', '"policy": "remote:fake-mode1"'),
}


@pytest.mark.parametrize("case", SAID_WRONG)
def test_verify_of_an_origin_that_the_records_contradict_is_left_to_a_run_of_the_recipe(
    made: Made, prefactory: Command, case: str
) -> None:
    name, *texts = SAID_WRONG[case]
    another(made.folder.root / name, *texts)

    refused = prefactory("verify", made.root, "--repair")
    again = prefactory("run", made.recipe, "--plain")
    after = prefactory("verify", made.root)

    assert refused.code == 2
    assert f"{name}: is not what the records were made from" in refused.error
    assert again.code == 0, again.err
    assert after.code == 0, after.out
    assert_equal(tables(made.folder.root), made.rows)
    assert made.engine.questions == []


def test_verify_repair_takes_nothing_out_where_all_of_a_paid_stage_was_made_from_something_else(
    made: Made, prefactory: Command, manifest: bytes
) -> None:
    another(made.folder.recipe_path, "max_tokens: 400", "max_tokens: 401")
    another(made.folder.manifest_path, '"rollouts.max_tokens": "400"', '"rollouts.max_tokens": "401"')

    ended = prefactory("verify", made.root, "--repair")

    assert ended.code == 2
    assert "all its rollouts were made from something else" in ended.error
    assert not list(made.folder.root.glob("aside"))
    assert_equal(tables(made.folder.root), made.rows)


def test_verify_repair_keeps_what_was_paid_for(made: Made, prefactory: Command) -> None:
    part = made.folder.part_path(Table.VERDICTS, 1)
    flip(part)
    damaged = part.read_bytes()

    prefactory("verify", made.root, "--repair")

    (kept,) = made.folder.root.glob("aside/*/round=0/verdicts/part-00001.parquet")
    assert kept.read_bytes() == damaged
    assert not part.exists()


def test_verify_speaks_json(made: Made, prefactory: Command) -> None:
    flip(made.folder.part_path(Table.PAIRS, 1))

    ended = prefactory("verify", made.root, "--json")

    (fault,) = json.loads(ended.out)["faults"]
    assert ended.code == 2
    assert (fault["kind"], fault["stage"], fault["shard"]) == ("part", "pairs", 1)
    assert fault["file"] == "round=0/pairs/part-00001.parquet"


def test_verify_unfinished_run_says_so_and_is_well(
    write_recipe: RecipeWriter, prefactory: Command, fake_engine: FakeEngine
) -> None:
    root, _ = make(write_recipe(), Stage.ROLLOUTS)

    ended = prefactory("verify", root)

    assert ended.code == 0, ended.err
    assert "not finished yet, in shards: verdicts 3" in ended.out


def test_verify_folder_that_is_no_run_is_one_line(prefactory: Command, tmp_path: Path) -> None:
    ended = prefactory("verify", tmp_path / "nothing")

    assert ended.code == 2
    assert "no run there" in ended.error
    assert not (tmp_path / "nothing").exists()


def test_verify_run_that_somebody_works_on_is_refused(made: Made, prefactory: Command) -> None:
    with made.folder.locked():
        ended = prefactory("verify", made.root)

    assert ended.code == 2
    assert "another process works on this run" in ended.error


def trained(folder: RunFolder, *, promoted: bool) -> Path:
    """A checkpoint as a trainer leaves it, as far as it is looked at here."""
    training = folder.train_path(0)
    checkpoint = training / "checkpoint"
    checkpoint.mkdir(parents=True)
    (checkpoint / "config.json").write_text("{}")
    (checkpoint / "model.safetensors").write_bytes(bytes(range(256)))
    digest = hashlib.sha256(bytes(range(256))).hexdigest()
    (training / "result.json").write_text(json.dumps({"status": "finished", "digest": digest}))
    if promoted:
        one = RoundOutcome(round=0, policy="p", reference="p", promoted=digest, folder="train/round-0/checkpoint")
        folder.story_path.write_text(Story(rounds=[one]).model_dump_json())
    return checkpoint


def test_verify_of_trained_checkpoints_as_they_were_is_well(made: Made, prefactory: Command) -> None:
    trained(made.folder, promoted=True)

    assert prefactory("verify", made.root).code == 0


@pytest.mark.parametrize("promoted", [False, True])
def test_verify_of_a_damaged_checkpoint_puts_it_and_what_rests_on_it_aside(
    made: Made, prefactory: Command, promoted: bool
) -> None:
    checkpoint = trained(made.folder, promoted=promoted)
    flip(checkpoint / "model.safetensors")

    looked = prefactory("verify", made.root)
    repaired = prefactory("verify", made.root, "--repair")

    assert looked.code == 2
    assert "train/round-0/checkpoint: has the digest" in looked.out
    assert repaired.code == 0
    assert [path.name for path in checkpoint.parent.iterdir()] == []
    assert not made.folder.story_path.exists()
    aside = sorted(path.name for path in made.folder.root.glob("aside/*/**/*") if path.is_file())
    assert aside == ["config.json", "model.safetensors", "result.json", *(["semi_online.json"] if promoted else [])]
    assert_equal(tables(made.folder.root), made.rows)


def test_verify_of_a_promoted_checkpoint_that_is_gone_names_it(made: Made, prefactory: Command) -> None:
    shutil.rmtree(trained(made.folder, promoted=True))

    looked = prefactory("verify", made.root)

    assert looked.code == 2
    assert "train/round-0/checkpoint: is no whole checkpoint" in looked.out


@pytest.mark.parametrize("name", ["spent.json", "semi_online.json"])
def test_verify_of_a_torn_file_of_the_run_puts_it_aside(made: Made, prefactory: Command, name: str) -> None:
    (made.folder.root / name).write_text('{"requests": ')

    looked = prefactory("verify", made.root)
    repaired = prefactory("verify", made.root, "--repair")

    assert looked.code == 2
    assert f"{name}: does not say what" in looked.out
    assert repaired.code == 0
    assert [path.name for path in made.folder.root.glob("aside/*/*")] == [name]
