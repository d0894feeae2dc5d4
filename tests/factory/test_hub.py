"""A push: what is put on the Hub, what a second one changes there, and what it leaves alone."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from huggingface_hub import DatasetCard

from factory.export import write_format
from factory.formats import FORMATS
from factory.hub import push
from factory.run import RunFolder
from schemas.errors import Fixable, HubUnavailable
from schemas.export import ExportFormat
from schemas.manifest import StageRecord
from tests.factory.test_export import IDS, a_manifest, a_pair, a_recipe, a_run
from tests.fake_hub import FakeHub

REPO = "org/pairs"
TRL = FORMATS[ExportFormat.TRL]
IMAGES = {f"images/{name}.png" for name in ("from-prompts-to-pairs", "margins", "lengths-of-both-sides")}
OURS = {"README.md", "prefactory.json", "data/train.parquet", "data/test.parquet", *IMAGES}


def exported(root: Path, ids: list[str], round_: int = 0, share: float = 0.5) -> RunFolder:
    run = a_run(root, [a_pair(prompt_id) for prompt_id in ids], round_)
    made = write_format(run, a_recipe(share), a_manifest(), TRL)
    time = datetime.now(UTC)
    run.write_record(
        StageRecord(
            stage="export", shard=0, fingerprint="f", inputs=[], outputs=made.outputs, started=time, ended=time,
            requests=0, notes={}, versions={},
        )
    )  # fmt: skip
    return RunFolder(root)


def front_matter(text: bytes) -> dict[str, object]:
    return dict(yaml.safe_load(text.split(b"---\n")[1]))


def test_push_makes_a_private_dataset_of_the_export_without_its_copies(tmp_path: Path, fake_hub: FakeHub) -> None:
    run = exported(tmp_path / "run", IDS)

    pushed = push(run, TRL, REPO, public=False)

    assert fake_hub.private == {REPO: True}
    assert fake_hub.repos[REPO].keys() == OURS | {".gitattributes"}
    assert (
        fake_hub.repos[REPO]["data/train.parquet"] == (run.export_path("trl") / "data" / "train.parquet").read_bytes()
    )
    assert (pushed.files, pushed.removed, pushed.card_kept) == (6, (), False)
    assert [path.name for path in (run.root / "export").iterdir()] == ["trl"]
    assert (run.export_path("trl") / "README.md").read_bytes() != b""


def test_push_again_of_the_same_changes_nothing_there(tmp_path: Path, fake_hub: FakeHub) -> None:
    run = exported(tmp_path / "run", IDS)
    push(run, TRL, REPO, public=True)
    before = dict(fake_hub.repos[REPO])

    push(run, TRL, REPO, public=True)

    assert fake_hub.private == {REPO: False}
    assert fake_hub.repos[REPO] == before
    assert len(fake_hub.commits) == 1


def test_push_of_a_later_round_adds_its_files_and_one_card_names_all(tmp_path: Path, fake_hub: FakeHub) -> None:
    run = exported(tmp_path / "run", IDS[::2])
    push(run, TRL, REPO, public=True)
    exported(tmp_path / "run", IDS[1::2], round_=1)

    push(run, TRL, REPO, public=True)

    later = {f"round-1/{name}" for name in OURS - {"prefactory.json"}}
    assert fake_hub.repos[REPO].keys() == OURS | later | {".gitattributes"}
    changed = {name for _, done in fake_hub.commits[1:] for name in done}
    assert changed == {"file README.md", "file prefactory.json", *(f"file {name}" for name in later)}
    card = DatasetCard(fake_hub.repos[REPO]["README.md"].decode())
    assert card.data["configs"][0]["data_files"] == [
        {"split": "train", "path": ["data/train.parquet", "round-1/data/train.parquet"]},
        {"split": "test", "path": ["data/test.parquet", "round-1/data/test.parquet"]},
    ]
    assert f"{len(IDS)} rows in all" in card.text
    assert "](round-1/images/margins.png)" in card.text
    assert "](images/" not in card.text  # what is shown is of the round that is spoken of


def test_push_removes_what_an_earlier_one_made_and_nothing_else(tmp_path: Path, fake_hub: FakeHub) -> None:
    push(exported(tmp_path / "first", IDS), TRL, REPO, public=True)
    fake_hub.repos[REPO]["data/theirs.parquet"] = b"theirs"

    pushed = push(exported(tmp_path / "second", IDS, share=0.0), TRL, REPO, public=True)

    assert pushed.removed == ("data/test.parquet",)
    assert fake_hub.repos[REPO].keys() == OURS - {"data/test.parquet"} | {"data/theirs.parquet", ".gitattributes"}


def test_push_keeps_a_card_that_was_written_on_by_hand_each_time(tmp_path: Path, fake_hub: FakeHub) -> None:
    run = exported(tmp_path / "run", IDS[::2])
    push(run, TRL, REPO, public=True)
    fake_hub.repos[REPO]["README.md"] = (
        b"---\nlicense: mit\nconfigs: []\nsize_categories: [n>1M]\n---\nWritten by hand.\n"
    )
    exported(tmp_path / "run", IDS[1::2], round_=1)

    kept = [push(run, TRL, REPO, public=True).card_kept for _ in range(2)]

    assert kept == [True, True]
    assert fake_hub.repos[REPO]["README.md"].endswith(b"Written by hand.\n")
    header = front_matter(fake_hub.repos[REPO]["README.md"])
    assert header["license"] == "mit"
    assert header["size_categories"] == ["n<1K"]
    assert "round-1/data/train.parquet" in str(header["configs"])


def test_push_onto_somebody_elses_dataset_is_refused(tmp_path: Path, fake_hub: FakeHub) -> None:
    fake_hub.repos[REPO] = {"README.md": b"theirs"}

    with pytest.raises(Fixable, match=r"holds README\.md, which no push of prefactory has made"):
        push(exported(tmp_path / "run", IDS), TRL, REPO, public=True)

    assert fake_hub.repos[REPO] == {"README.md": b"theirs"}


def test_push_to_a_hub_that_is_out_of_order_is_gone_on_with(tmp_path: Path, fake_hub: FakeHub) -> None:
    run = exported(tmp_path / "run", IDS)
    fake_hub.failing = 100
    with pytest.raises(HubUnavailable, match=r"500.*the same command goes on"):
        push(run, TRL, REPO, public=True)
    assert fake_hub.commits == []

    fake_hub.failing = 0
    push(run, TRL, REPO, public=True)

    assert fake_hub.repos[REPO].keys() == OURS | {".gitattributes"}


def test_push_without_a_token_that_may_says_what_to_do(
    tmp_path: Path, fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "b" * 30)

    with pytest.raises(Fixable, match=r"the Hub answers 401.*hf auth login") as refused:
        push(exported(tmp_path / "run", IDS), TRL, REPO, public=True)

    assert "bbb" not in str(refused.value)


def test_push_of_what_is_not_exported_is_refused(tmp_path: Path, fake_hub: FakeHub) -> None:
    run = exported(tmp_path / "run", IDS)

    with pytest.raises(Fixable, match="nothing is exported there"):
        push(run, FORMATS[ExportFormat.KTO], REPO, public=True)


@pytest.mark.parametrize(("repo", "said"), [("pairs", "write ORG/NAME"), ("a/b/c", "--push a/b/c"), ("a/..", "--push")])
def test_push_to_a_name_that_cannot_be_is_refused(tmp_path: Path, repo: str, said: str) -> None:
    with pytest.raises(Fixable, match=said):
        push(RunFolder(tmp_path), TRL, repo, public=True)
