"""The dataset that a trainer loads: equal by either loader, split by prompt, with a card that tells no secrets."""

import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from factory import store
from factory.export import described, is_test, write_format
from factory.export_card import card, shared_form
from factory.formats import FORMATS
from factory.formats.base import Written
from factory.looking import queries
from factory.run import RunFolder
from schemas.chat import Message, Role
from schemas.errors import StorageError
from schemas.export import ExportFormat
from schemas.manifest import Provenance, RunManifest
from schemas.recipe import Recipe
from schemas.rows import Cause, Pair, Prompt
from schemas.tables import Table
from tests.samples import a_rollout

MESSAGES = (Message(Role.SYSTEM, "Be brief."), Message(Role.USER, 'Wie heißt es? 🏔️\n"quoted"'))
HEX = st.text("0123456789abcdef", min_size=32, max_size=32)


def a_recipe(share: float = 0.5, **policy: object) -> Recipe:
    document = {
        "name": "small",
        "prompts": {
            "sources": [{"path": "/home/somebody/prompts.jsonl"}],
            "decontaminate": {"paths": ["/home/somebody/evaluation.jsonl"]},
        },
        "policy": {"model": "org/model", "urls": ["http://user:geheim@10.0.0.1/v1"], "api_key_env": "MY_KEY"} | policy,
        "jury": {
            "judges": [
                {"judge": "clarity"},
                {"judge": "helpfulness", "model": {"model": "judge", "urls": ["http://10.0.0.2/v1"]} | policy},
            ]
        },
        "export": {"test_share": share},
        "machine": {"runs": "/home/somebody/runs"},
    }
    return Recipe.model_validate(document)


def a_manifest() -> RunManifest:
    time = datetime.now(UTC)
    made_from = Provenance(models={"policy": "sha256:0123456789abcdef"}, rubrics={}, sources={}, detector="1")
    return RunManifest(
        name="small", created=time, updated=time, identity={}, provenance=made_from,
        prompts=0, shards=0, pairs=0, dropped={}, seconds={},
    )  # fmt: skip


def a_pair(prompt_id: str, **changes: Any) -> Pair:
    pair = Pair(
        prompt_id=prompt_id,
        messages=MESSAGES,
        chosen=f"good {prompt_id}\n",
        rejected=" bad\u2028",
        chosen_id=f"{prompt_id}:0:t0",
        rejected_id=f"{prompt_id}:0:t1",
        chosen_score=1.5,
        rejected_score=-0.5,
        margin=2.0,
        agreement=1.0,
        cause=Cause.JURY,
        prompt_token_ids=(1, 2),
        chosen_token_ids=(3,),
        rejected_token_ids=None,
        rejected_trimmed=False,
        rejected_ended=True,
    )
    return replace(pair, **changes)


def a_run(root: Path, pairs: list[Pair], round_: int = 0) -> RunFolder:
    run = RunFolder(root, round_)
    prompts = [Prompt(pair.prompt_id, "file", pair.messages, tools='[{"a": 1}]') for pair in pairs]
    run.write_part(Table.PROMPTS, 0, prompts)
    run.write_part(Table.PAIRS, 0, pairs)
    return run


def exported(run: RunFolder, recipe: Recipe) -> Path:
    """The dataset's folder."""
    write_format(run, recipe, a_manifest(), FORMATS[ExportFormat.TRL])
    return run.export_path("trl")


IDS = [f"{number:02x}" * 16 for number in range(0, 256, 13)]
PAIRS = [
    a_pair(IDS[0], cause=Cause.LOOP, rejected_score=None, margin=None, agreement=None, rejected_trimmed=True),
    *(a_pair(prompt_id) for prompt_id in IDS[1:]),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return exported(a_run(tmp_path / "run", PAIRS), a_recipe())


def loaded(folder: Path, cache: Path) -> Iterator[tuple[str, list[dict[str, object]]]]:
    import datasets

    for split, rows in sorted(datasets.load_dataset(str(folder), cache_dir=str(cache)).items()):
        yield str(split), rows.to_list()


def from_disk(folder: Path) -> Iterator[tuple[str, list[dict[str, object]]]]:
    import datasets

    for split, rows in sorted(datasets.load_from_disk(str(folder)).items()):
        yield split, rows.to_list()


# The rows


def test_export_both_loaders_give_equal_rows(folder: Path, tmp_path: Path) -> None:
    assert dict(loaded(folder, tmp_path / "cache")) == dict(from_disk(folder))


def test_export_rows_are_the_pairs_in_trls_form(folder: Path) -> None:
    rows = {row["prompt_id"]: row for _, split in from_disk(folder) for row in split}

    assert rows.keys() == set(IDS)
    assert rows[IDS[0]] == {
        "prompt": [{"role": message.role.value, "content": message.content} for message in MESSAGES],
        "chosen": [{"role": "assistant", "content": f"good {IDS[0]}\n"}],
        "rejected": [{"role": "assistant", "content": " bad\u2028"}],
        "prompt_id": IDS[0],
        "chosen_id": f"{IDS[0]}:0:t0",
        "rejected_id": f"{IDS[0]}:0:t1",
        "chosen_score": 1.5,
        "rejected_score": None,
        "margin": None,
        "agreement": None,
        "cause": "loop",
        "rejected_trimmed": True,
        "rejected_ended": True,
        "source": "file",
        "tools": '[{"a": 1}]',
    }


def test_export_every_pair_is_in_the_split_of_its_prompt(folder: Path) -> None:
    splits = {row["prompt_id"]: split for split, rows in from_disk(folder) for row in rows}

    assert splits == {prompt_id: "test" if is_test(prompt_id, 0.5) else "train" for prompt_id in IDS}
    assert set(splits.values()) == {"train", "test"}


def test_export_twice_is_the_same_rows(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", PAIRS)
    first = dict(from_disk(exported(run, a_recipe())))

    assert dict(from_disk(exported(run, a_recipe()))) == first


def test_export_later_round_moves_no_prompt_to_the_other_split(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", PAIRS)
    first = {row["prompt_id"]: split for split, rows in from_disk(exported(run, a_recipe())) for row in rows}
    second = a_run(tmp_path / "run", [a_pair("ee" * 16), *PAIRS[:3]], round_=1)

    rows = [(row["prompt_id"], split) for split, rows in from_disk(exported(second, a_recipe())) for row in rows]

    assert len(rows) == 4
    assert all(first.get(prompt_id, split) == split for prompt_id, split in rows)


def test_export_of_a_round_holds_its_pairs_alone_and_leaves_the_others(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", PAIRS)
    before = exported(run, a_recipe())
    there = list(from_disk(before))

    second = exported(a_run(tmp_path / "run", [a_pair("ee" * 16)], round_=1), a_recipe())

    assert [row["prompt_id"] for _, rows in from_disk(second) for row in rows] == ["ee" * 16]
    assert second != before
    assert list(from_disk(before)) == there


@pytest.mark.parametrize("share", [0.0, 0.000001])
def test_export_empty_split_is_left_out(tmp_path: Path, share: float) -> None:
    folder = exported(a_run(tmp_path / "run", PAIRS[5:]), a_recipe(share))

    assert [split for split, _ in loaded(folder, tmp_path / "cache")] == ["train"]
    assert [split for split, _ in from_disk(folder)] == ["train"]


def test_export_test_split_alone_is_a_dataset_too(tmp_path: Path) -> None:
    folder = exported(a_run(tmp_path / "run", PAIRS[:1]), a_recipe(0.9))

    assert [split for split, _ in loaded(folder, tmp_path / "cache")] == ["test"]
    assert dict(loaded(folder, tmp_path / "cache")) == dict(from_disk(folder))


@given(prompt_id=HEX, shares=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)))
def test_is_test_larger_share_keeps_what_the_smaller_one_tests(prompt_id: str, shares: tuple[float, float]) -> None:
    small, large = sorted(shares)

    assert is_test(prompt_id, small) <= is_test(prompt_id, large)
    assert not is_test(prompt_id, 0.0)


@given(ids=st.lists(HEX, min_size=1, max_size=5, unique=True), share=st.floats(0, 0.999))
@settings(max_examples=5, phases=[Phase.explicit, Phase.generate])
def test_is_test_is_what_the_written_splits_are_cut_by(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], share: float
) -> None:
    run = a_run(tmp_path_factory.mktemp("run"), [a_pair(prompt_id) for prompt_id in ids])
    folder = exported(run, a_recipe(share))

    splits = {row["prompt_id"]: split for split, rows in from_disk(folder) for row in rows}
    assert splits == {prompt_id: "test" if is_test(prompt_id, share) else "train" for prompt_id in ids}


# Whole or not at all


def test_export_names_its_files_with_their_sums(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", PAIRS)

    files = write_format(run, a_recipe(), a_manifest(), FORMATS[ExportFormat.TRL]).outputs

    there = {
        path.relative_to(run.root).as_posix() for path in (run.root / "export" / "trl").rglob("*") if path.is_file()
    }
    assert {file.path for file in files} == there
    assert {"export/trl/data/train.parquet", "export/trl/data/test.parquet", "export/trl/README.md"} <= there
    assert [file.sha256 for file in files] == [store.sha256_of(run.root / file.path) for file in files]
    assert sum(file.rows for file in files) == len(PAIRS)


def test_export_without_a_pair_leaves_no_dataset_of_before(tmp_path: Path) -> None:
    folder = exported(a_run(tmp_path / "run", PAIRS), a_recipe())
    run = a_run(tmp_path / "run", [])

    assert write_format(run, a_recipe(), a_manifest(), FORMATS[ExportFormat.TRL]).outputs == []
    assert not folder.exists()


def test_export_that_fails_leaves_the_old_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path / "run", PAIRS)
    folder = exported(run, a_recipe())
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("factory.export.card", full)
    with pytest.raises(StorageError, match="No space left on device"):
        exported(run, a_recipe())

    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["trl"]


def test_export_holds_nothing_but_the_dataset(folder: Path) -> None:
    names = {path.relative_to(folder).parts[0] for path in folder.rglob("*")}

    assert names == {"README.md", "data", "dataset_dict.json", "images", "test", "train"}


# The card


def a_card(tmp_path: Path, recipe: Recipe) -> str:
    run = a_run(tmp_path / "run", PAIRS)
    written = Written({"train": "data/train.parquet"}, {"train": 12}, {})
    return card(recipe, a_manifest(), described(run), FORMATS[ExportFormat.TRL], written)


def test_card_front_matter_is_what_the_hub_reads(folder: Path) -> None:
    from huggingface_hub import DatasetCard

    found = DatasetCard.load(folder / "README.md").data.to_dict()

    assert found["task_categories"] == ["text-generation"]
    assert found["size_categories"] == ["n<1K"]
    files = found["configs"][0]["data_files"]
    assert {entry["split"] for entry in files} == {"train", "test"}
    assert all((folder / entry["path"]).exists() for entry in files)


def test_card_shows_plots_that_lie_beside_it_and_says_what_they_show(folder: Path) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")

    shown = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", text)
    assert {path for _, path in shown} == {str(path.relative_to(folder)) for path in folder.rglob("*.png")}
    assert {path: said for said, path in shown}["images/from-prompts-to-pairs.png"] == (
        f"prompts. prompts {len(PAIRS)}; paired: jury {len(PAIRS) - 1}; paired: loop 1"
    )
    for _, path in shown:
        width, height = struct.unpack(">II", (folder / path).read_bytes()[16:24])
        assert 500 < width < 1000
        assert 150 < height < 1000


def test_card_images_hold_strangers_words_harmlessly(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", PAIRS)
    names = ("](x) <script>alert(1)</script>\x00\u202e\n# no", "詩" * 400)
    prompts = [Prompt(pair.prompt_id, names[at % 2], pair.messages) for at, pair in enumerate(PAIRS)]
    run.write_part(Table.PROMPTS, 0, prompts)
    run.write_part(Table.ROLLOUTS, 0, [a_rollout(pair.prompt_id, "t0") for pair in PAIRS])

    (image,) = (image for image in described(run).images if "kind-of-prompt" in image.path)

    said = image.markdown.removesuffix("](images/hard-loops-by-kind-of-prompt.png)\n").partition("![")[2]
    assert not set(said) & set("<>[]\n\x00\u202e")
    assert "&#60;script&#62;" in said


def test_card_names_sources_and_their_licences(tmp_path: Path) -> None:
    from huggingface_hub import DatasetCard

    document = a_recipe().model_dump(mode="json", exclude_none=True)
    document["prompts"]["sources"].append({"dataset": "org/data", "revision": "v1"})
    document["export"]["licences"] = {"org/data": "cc-by-4.0"}

    found = DatasetCard(a_card(tmp_path, Recipe.model_validate(document)))

    assert found.data["license"] == "cc-by-4.0"
    assert "- `prompts`: licence not stated\n- `org/data`, revision v1, split train: cc-by-4.0\n" in found.text


def test_card_counts_are_the_tables(folder: Path) -> None:
    text = (folder / "README.md").read_text()

    assert f"{len(PAIRS)} prompts gave {len(PAIRS)} pairs (jury {len(PAIRS) - 1}, loop 1) and 0 drops" in text


@pytest.mark.parametrize(
    "model",
    ["org/model", "/home/somebody/weights/model", "/home/somebody/checkpoint-12"],
    ids=["hub", "folder", "other"],
)
def test_card_names_no_folder_no_address_and_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret")

    text = a_card(tmp_path, a_recipe(model=model))

    for secret in ("/home", "somebody", "10.0.0.", "geheim", "MY_KEY", "sk-secret", str(tmp_path)):
        assert secret not in text
    assert Path(model).name in text


def test_card_in_the_folder_names_no_folder(folder: Path, tmp_path: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            assert str(tmp_path).encode() not in path.read_bytes(), path


def test_shared_form_is_a_recipe_again() -> None:
    document = yaml.safe_load(shared_form(a_recipe()))

    again = Recipe.model_validate(document)

    assert again.rollouts == a_recipe().rollouts
    assert again.jury.judges[0] == a_recipe().jury.judges[0]
    assert again.policy.urls == []
    assert again.prompts.sources[0].path == Path("prompts.jsonl")


def test_export_of_a_folder_of_any_name_is_the_same(tmp_path: Path) -> None:
    run = a_run(tmp_path / "it's a run", PAIRS)

    assert sum(len(rows) for _, rows in from_disk(exported(run, a_recipe()))) == len(PAIRS)


def test_query_gives_what_the_dataset_holds(folder: Path, tmp_path: Path) -> None:
    rows = queries.ask(tmp_path / "run", "SELECT prompt_id, chosen, rejected FROM pairs ORDER BY 1").rows

    held = [
        (row["prompt_id"], row["chosen"][0]["content"], row["rejected"][0]["content"])  # type: ignore[index]  # a list
        for _, split in from_disk(folder)
        for row in split
    ]
    assert sorted(held, key=str) == list(rows)
