"""Every format against its golden file, and what holds for all of them: nothing is lost without being counted."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from factory.export import is_test, rows_of, write_format
from factory.formats import FORMATS
from factory.formats.base import Files
from factory.formats.ftpo import NO_ALTERNATIVE, NO_ONSET
from factory.run import RunFolder
from schemas.export import ExportFormat
from schemas.rows import Loop
from schemas.tables import Table
from tests.format_cases import ALONE, CASES, a_manifest, a_recipe, a_run, rollouts_of
from tests.samples import a_rollout

GOLDEN = Path(__file__).parent / "formats"
PAIRED = [name for name in ExportFormat if name not in (ExportFormat.KTO, ExportFormat.FTPO, ExportFormat.GRPO)]
ANSWERED = [
    name for name in ExportFormat if name not in (ExportFormat.TRL_TOKENS, ExportFormat.FTPO, ExportFormat.GRPO)
]
BESIDE = {
    ExportFormat.LLAMA_FACTORY: "dataset_info.json",
    ExportFormat.AXOLOTL: "axolotl.yaml",
    ExportFormat.NEMO_RL: "nemo_rl.yaml",
    ExportFormat.TORCHTUNE: "torchtune.yaml",
    ExportFormat.LEAP_FINETUNE: "leap_finetune.yaml",
}


def rows_in(folder: Path) -> dict[str, list[dict[str, object]]]:
    """Split -> rows, as they lie there."""
    lines = {path.stem: path.read_text().split("\n")[:-1] for path in sorted(folder.glob("*.jsonl"))}
    found = {split: [json.loads(line) for line in rows] for split, rows in lines.items()}
    return found | {path.stem: pq.read_table(path).to_pylist() for path in sorted(folder.glob("data/*.parquet"))}


def written(root: Path, name: ExportFormat) -> tuple[RunFolder, dict[str, list[dict[str, object]]], dict[str, int]]:
    run = a_run(root)
    exported = write_format(run, a_recipe(), a_manifest(), FORMATS[name])
    return run, rows_in(run.export_path(name)), dict(exported.left_out)


# What is written


@pytest.mark.parametrize("name", ExportFormat)
def test_format_rows_are_the_golden_ones(tmp_path: Path, name: ExportFormat) -> None:
    _, rows, left_out = written(tmp_path, name)

    assert rows | {"left_out": left_out} == json.loads((GOLDEN / f"{name}.golden.json").read_text())


@pytest.mark.parametrize("name", BESIDE)
def test_format_brings_along_what_its_trainer_reads(tmp_path: Path, name: ExportFormat) -> None:
    run, _, _ = written(tmp_path, name)

    beside = (run.export_path(name) / BESIDE[name]).read_text()

    assert beside == (GOLDEN / f"{name}.{BESIDE[name]}").read_text()
    assert all(f"{split}.jsonl" in beside for split in ("train", "test"))
    assert yaml.safe_load(beside)


@pytest.mark.parametrize("name", PAIRED)
def test_format_pairs_are_written_once_or_counted(tmp_path: Path, name: ExportFormat) -> None:
    run, rows, left_out = written(tmp_path, name)

    ids = [row["prompt_id"] for split in rows.values() for row in split]

    assert len(ids) == len(set(ids))
    assert len(ids) + sum(left_out.values()) == len(CASES)
    assert rows_of(run, FORMATS[name]) == len(ids)


@pytest.mark.parametrize("name", ExportFormat)
def test_format_rows_are_in_the_split_of_their_prompt(tmp_path: Path, name: ExportFormat) -> None:
    _, rows, _ = written(tmp_path, name)

    for split, held in rows.items():
        assert {is_test(str(row["prompt_id"]), 0.5) for row in held} == {split == "test"}


@pytest.mark.parametrize("name", ExportFormat)
def test_format_card_says_how_many_and_what_is_left_out(tmp_path: Path, name: ExportFormat) -> None:
    run, rows, left_out = written(tmp_path, name)

    card = (run.export_path(name) / "README.md").read_text()

    assert (
        f"splits by prompt id: {', '.join(f'{split} {len(rows[split])}' for split in ('train', 'test') if split in rows)}\n"
        in card
    )
    for reason, count in left_out.items():
        assert f"- left out: {count} ({FORMATS[name].reasons[reason]})" in card
    assert set(left_out) <= set(FORMATS[name].reasons)


@pytest.mark.parametrize("name", ExportFormat)
def test_format_is_loaded_by_datasets(tmp_path: Path, name: ExportFormat) -> None:
    import datasets

    run, rows, _ = written(tmp_path / "run", name)

    loaded = datasets.load_dataset(str(run.export_path(name)), cache_dir=str(tmp_path / "cache"))

    assert {split: len(held) for split, held in loaded.items()} == {split: len(held) for split, held in rows.items()}
    if FORMATS[name].files is Files.PARQUET:
        assert loaded["train"].to_list() == datasets.load_from_disk(str(run.export_path(name)))["train"].to_list()


@pytest.mark.parametrize("name", ANSWERED)
def test_format_text_stands_as_it_was_written(tmp_path: Path, name: ExportFormat) -> None:
    _, rows, _ = written(tmp_path, name)

    said = json.dumps([row for split in rows.values() for row in split], ensure_ascii=False)

    for text in ("Die Alpen: 阿尔卑斯山 🏔️ “hoch”.", "<think>\\nWhy not?\\n</think>\\n\\nBecause it is so."):
        assert text in said


@pytest.mark.parametrize("name", ExportFormat)
def test_format_of_a_folder_that_is_written_again_is_the_same(tmp_path: Path, name: ExportFormat) -> None:
    run, rows, _ = written(tmp_path, name)

    write_format(run, a_recipe(), a_manifest(), FORMATS[name])

    assert rows_in(run.export_path(name)) == rows


# KTO


def test_kto_both_sides_of_a_pair_are_answers_with_their_label(tmp_path: Path) -> None:
    run = a_run(tmp_path, CASES[:1])

    write_format(run, a_recipe(), a_manifest(), FORMATS[ExportFormat.KTO])

    rows = rows_in(run.export_path("kto"))["test"]
    assert [(row["completion"][0]["content"], row["label"]) for row in rows] == [  # type: ignore[index]  # a list
        ("6 x 7 = 42.", True),
        ("It is 41.", False),
    ]


# FTPO

LOOP = next(case for case in CASES if case.pair.rejected_trimmed)


def ftpo(root: Path, others: list[tuple[int, ...]], **loop: object) -> tuple[list[dict[str, object]], dict[str, int]]:
    """The rows where a loop of 1 2 3 4 from its fifth token on stands beside clean answers with these ids."""
    looped, _ = rollouts_of(LOOP)
    looped = replace(
        looped, rollout_id="loop", loop=Loop.HARD, loop_onset_token=4, token_ids=(1, 2, 3, 4, 1, 2, 3, 4, 1), **loop  # type: ignore[arg-type]  # fields by name
    )  # fmt: skip
    clean = [replace(a_rollout(LOOP.pair.prompt_id, f"t{slot}"), token_ids=ids) for slot, ids in enumerate(others)]
    run = RunFolder(root)
    run.write_part(Table.PROMPTS, 0, [LOOP.prompt])
    run.write_part(Table.PAIRS, 0, [LOOP.pair])
    run.write_part(Table.ROLLOUTS, 0, [looped, *clean])
    exported = write_format(run, a_recipe(0.0), a_manifest(), FORMATS[ExportFormat.FTPO])
    return rows_in(run.export_path("ftpo")).get("train", []), dict(exported.left_out)


def test_ftpo_an_answer_that_shares_the_prefix_says_what_else_could_stand_there(tmp_path: Path) -> None:
    rows, left_out = ftpo(tmp_path, [(1, 2, 3, 4, 9), (1, 2, 3, 4, 8, 3, 4, 7), (5, 3, 4, 6)])

    assert left_out == {}
    assert rows == [
        {
            "prompt_ids": [108, 11, 1, 2, 3, 4], "rejected_token_id": 1, "chosen_ids": [8, 9], "shared": 4,
            "shares_prefix": True, "prompt_id": LOOP.pair.prompt_id, "rollout_id": "loop",
        }
    ]  # fmt: skip


def test_ftpo_without_a_shared_prefix_the_longest_shared_end_counts(tmp_path: Path) -> None:
    (row,), _ = ftpo(tmp_path, [(9, 2, 3, 4, 7), (5, 3, 4, 6, 3, 4, 1), (3, 4)])

    assert (row["chosen_ids"], row["shared"], row["shares_prefix"]) == ([6, 7], 2, False)


@pytest.mark.parametrize(
    "others", [[(9, 9, 9)], [(1, 2, 3, 4, 1, 5)], [(4, 6)], []], ids=["other", "same", "one", "none"]
)
def test_ftpo_a_loop_without_an_alternative_is_counted(tmp_path: Path, others: list[tuple[int, ...]]) -> None:
    assert ftpo(tmp_path, others) == ([], {NO_ALTERNATIVE: 1})


@pytest.mark.parametrize(
    "unknown",
    [{"loop_onset_token": None}, {"token_ids": None}, {"prompt_token_ids": None}],
    ids=lambda unknown: next(iter(unknown)),
)
def test_ftpo_a_loop_whose_beginning_is_not_known_is_counted(tmp_path: Path, unknown: dict[str, object]) -> None:
    run = a_run(tmp_path, (LOOP,))
    chosen, rejected = rollouts_of(LOOP)
    run.write_part(Table.ROLLOUTS, 0, [chosen, replace(rejected, **unknown)])  # type: ignore[arg-type]  # fields by name

    exported = write_format(run, a_recipe(), a_manifest(), FORMATS[ExportFormat.FTPO])

    assert exported.left_out == {NO_ONSET: 1}


# GRPO


def test_grpo_has_every_prompt_and_what_it_is_checked_by(tmp_path: Path) -> None:
    _, rows, _ = written(tmp_path, ExportFormat.GRPO)
    held = {row["prompt_id"]: row for split in rows.values() for row in split}

    assert held.keys() == {ALONE.prompt_id, *(case.prompt.prompt_id for case in CASES if case.prompt.tools is None)}
    assert held[CASES[8].prompt.prompt_id]["constraints"] == [{"id": "punctuation:no_comma", "kwargs": "{}"}]
    assert held[ALONE.prompt_id]["answer"] == "7"
    assert held[CASES[4].prompt.prompt_id]["language"] == "de"
