"""Token ids as they were generated: a trainer sees what the tables hold, and what has no ids is left out and counted."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from factory.export import write_format
from factory.formats import FORMATS
from factory.formats.trl_tokens import NO_TOKEN_IDS
from factory.run import RunFolder
from schemas.export import ExportFormat
from schemas.rows import Cause, Pair, Rollout
from schemas.tables import Table
from tests.factory.test_export import IDS, a_manifest, a_pair, a_recipe, a_run
from tests.samples import a_rollout

TOKENS = FORMATS[ExportFormat.TRL_TOKENS]
WHOLE = a_pair(IDS[0], rejected_token_ids=(7, 8, 2), rejected_ended=True)
LOOP = a_pair(
    IDS[1], cause=Cause.LOOP, chosen_token_ids=(4,), rejected_token_ids=(5, 5, 5), rejected_ended=False,
    rejected_trimmed=True, margin=None,
)  # fmt: skip


def chosen_of(pair: Pair, finish_reason: str) -> Rollout:
    return replace(a_rollout(), prompt_id=pair.prompt_id, rollout_id=pair.chosen_id, finish_reason=finish_reason)


def a_folder(tmp_path: Path, pairs: dict[Pair, str]) -> RunFolder:
    """A run with these pairs; the words say how each chosen answer ended."""
    run = a_run(tmp_path / "run", list(pairs))
    run.write_part(Table.ROLLOUTS, 0, [chosen_of(pair, end) for pair, end in pairs.items()])
    return run


def rows_of(run: RunFolder) -> dict[str, dict[str, object]]:
    files = sorted((run.export_path("trl-tokens") / "data").glob("*.parquet"))
    return {row["prompt_id"]: row for file in files for row in pq.read_table(file).to_pylist()}


def test_trl_tokens_rows_are_the_stored_ids_and_how_each_side_ended(tmp_path: Path) -> None:
    run = a_folder(tmp_path, {WHOLE: "stop", LOOP: "length"})

    exported = write_format(run, a_recipe(), a_manifest(), TOKENS)

    assert exported.left_out == {}
    assert rows_of(run) == {
        IDS[0]: {
            "prompt_id": IDS[0], "prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [7, 8, 2],
            "chosen_ended": True, "rejected_ended": True, "cause": "jury", "rejected_trimmed": False, "margin": 2.0,
        },
        IDS[1]: {
            "prompt_id": IDS[1], "prompt_ids": [1, 2], "chosen_ids": [4], "rejected_ids": [5, 5, 5],
            "chosen_ended": False, "rejected_ended": False, "cause": "loop", "rejected_trimmed": True, "margin": None,
        },
    }  # fmt: skip


def test_trl_tokens_columns_have_the_promised_types(tmp_path: Path) -> None:
    run = a_folder(tmp_path, {WHOLE: "stop"})
    write_format(run, a_recipe(0), a_manifest(), TOKENS)

    schema = pq.read_schema(run.export_path("trl-tokens") / "data" / "train.parquet")

    assert [f"{field.name}: {str(field.type).replace('element', 'item')}" for field in schema] == [
        "prompt_id: string", "prompt_ids: list<item: int32>", "chosen_ids: list<item: int32>",
        "rejected_ids: list<item: int32>", "chosen_ended: bool", "rejected_ended: bool", "cause: string",
        "rejected_trimmed: bool", "margin: double",
    ]  # fmt: skip


def test_trl_tokens_a_pair_without_ids_is_left_out_and_counted(tmp_path: Path) -> None:
    without = [
        a_pair(IDS[2]),
        replace(WHOLE, prompt_id=IDS[3], chosen_id="c3", chosen_token_ids=None),
        replace(WHOLE, prompt_id=IDS[4], chosen_id="c4", prompt_token_ids=None),
        replace(WHOLE, prompt_id=IDS[5], chosen_id="c5", chosen_token_ids=()),
    ]
    run = a_folder(tmp_path, {WHOLE: "stop", **dict.fromkeys(without, "stop")})

    exported = write_format(run, a_recipe(), a_manifest(), TOKENS)

    assert exported.left_out == {NO_TOKEN_IDS: 4}
    assert rows_of(run).keys() == {IDS[0]}
    assert (
        "- left out: 4 (the engine returned no token ids" in (run.export_path("trl-tokens") / "README.md").read_text()
    )


def test_trl_tokens_of_an_engine_without_ids_is_no_dataset(tmp_path: Path) -> None:
    run = a_folder(tmp_path, {a_pair(IDS[0]): "stop"})

    exported = write_format(run, a_recipe(), a_manifest(), TOKENS)

    assert (exported.outputs, exported.left_out) == ([], {NO_TOKEN_IDS: 1})
    assert not run.export_path("trl-tokens").exists()
