"""Models: found by name, folder or id, known by the content of their weights, converted once."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from factory.serving.models import LocalModel, converted, packaged_gguf, resolve_model, weight_files
from schemas.errors import ModelError
from schemas.recipe import ModelRef

# Converts slowly, and leaves a line beside the source each time that it does.
CONVERTER = """
import pathlib, sys, time
source, part = map(pathlib.Path, sys.argv[1:])
with source.with_suffix(".log").open("a") as log:
    log.write("converted\\n")
time.sleep(0.5)
(part / "config.json").write_text("{}")
(part / "model.safetensors").write_bytes(source.read_bytes())
"""
BROKEN = "import pathlib, sys; pathlib.Path(sys.argv[2], 'config.json').touch(); raise ValueError('not a GGUF file')"
# One of two processes that want the same folder: argv is SOURCE FOLDER CONVERTER.
WANTS_IT = """
import pathlib, sys
from factory.serving.models import converted
source, folder = map(pathlib.Path, sys.argv[1:3])
print(converted(source, folder, [sys.executable, "-c", sys.argv[3]], lambda line: None))
"""


def silent(_line: str) -> None:
    pass


def model_folder(folder: Path, **weights: bytes) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    for name, content in weights.items():
        (folder / f"{name}.safetensors").write_bytes(content)
    return folder


def resolved(folder: Path, cache: Path) -> LocalModel:
    return resolve_model(ModelRef(model=str(folder)), cache, silent)


def test_folder_is_known_by_the_content_of_its_weights_in_order_of_name(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", b=b"second", a=b"first")
    model = resolved(folder, tmp_path / "cache")
    assert model == LocalModel(str(folder), folder, hashlib.sha256(b"firstsecond").hexdigest())


def test_folder_elsewhere_with_equal_weights_has_the_same_digest(tmp_path: Path) -> None:
    one, other = (resolved(model_folder(tmp_path / name, a=b"w"), tmp_path / "cache") for name in ("one", "other"))
    assert one.digest == other.digest


def test_folder_overwritten_in_place_has_another_digest(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", a=b"before")
    before = resolved(folder, tmp_path / "cache")
    (folder / "a.safetensors").write_bytes(b"after!")
    assert resolved(folder, tmp_path / "cache").digest != before.digest


def test_digest_of_unchanged_weights_is_not_computed_again(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", a=b"before")
    first = resolved(folder, tmp_path / "cache")
    stat = (folder / "a.safetensors").stat()
    (folder / "a.safetensors").write_bytes(b"after!")  # the same size and, by the next line, the same time
    os.utime(folder / "a.safetensors", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert resolved(folder, tmp_path / "cache") == first


@pytest.mark.parametrize("torn", ["", "{", "[]", '{"files": []}', "null"])
def test_digest_with_a_torn_note_is_computed_again(tmp_path: Path, torn: str) -> None:
    folder = model_folder(tmp_path / "model", a=b"weights")
    first = resolved(folder, tmp_path / "cache")
    for note in (tmp_path / "cache" / "digests").iterdir():
        note.write_text(torn)
    assert resolved(folder, tmp_path / "cache") == first


def test_folder_without_a_configuration_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"{tmp_path} holds no config\.json"):
        resolved(tmp_path, tmp_path / "cache")


def test_folder_without_weights_is_refused_by_name(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    with pytest.raises(ModelError, match=rf"{folder} holds config\.json but neither \*\.safetensors nor \*\.bin"):
        resolved(folder, tmp_path / "cache")


def test_folder_that_lacks_a_shard_is_refused_by_the_shards_name(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", a=b"weights")
    index = {"weight_map": {"layer.0": "a.safetensors", "layer.1": "b.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"lacks b\.safetensors, which model\.safetensors\.index\.json names"):
        resolved(folder, tmp_path / "cache")


def test_weights_in_both_forms_are_the_safetensors(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", a=b"weights")
    (folder / "pytorch_model.bin").write_bytes(b"the same weights")
    assert [path.name for path in weight_files(folder)] == ["a.safetensors"]


@pytest.mark.parametrize("name", ["./checkpoints/last", "/no/such/folder", "~/no-such-folder", "runs/a/checkpoint"])
def test_folder_that_is_not_there_is_not_looked_up_on_the_hub(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="there is no such folder"):
        resolve_model(ModelRef(model=name), tmp_path, silent)


def test_hub_id_in_the_local_cache_is_taken_without_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, said = model_folder(tmp_path / "snapshot", a=b"weights"), list[str]()
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_args, **_rest: str(folder))
    model = resolve_model(ModelRef(model="owner/name"), tmp_path / "cache", said.append)
    assert (model.name, model.folder, said) == ("owner/name", folder, [])


def test_hub_id_that_cannot_be_had_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_args: object, **_rest: object) -> str:
        raise OSError("no\nroute to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(
        ModelError, match=r"owner/name is neither a folder nor to be had from the hub: no route"
    ) as caught:
        resolve_model(ModelRef(model="owner/name"), tmp_path / "cache", silent)
    assert "\n" not in str(caught.value)


def test_package_that_is_missing_is_refused_with_the_extra_to_install() -> None:
    with pytest.raises(ModelError, match=r"no-such-package, which is not installed: pip install -e '\.\[cpu\]'"):
        packaged_gguf("no-such-package")


def test_package_without_a_model_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match=r"pytest [\d.]+ holds no \.gguf file"):
        packaged_gguf("pytest")


def test_conversion_by_two_processes_at_once_happens_once(tmp_path: Path) -> None:
    source, folder = tmp_path / "model.gguf", tmp_path / "cache" / "model"
    folder.parent.mkdir()
    source.write_bytes(b"weights")
    command = [sys.executable, "-c", WANTS_IT, str(source), str(folder), CONVERTER]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0].strip() for process in both] == [str(folder)] * 2
    assert source.with_suffix(".log").read_text() == "converted\n"
    assert (folder / "model.safetensors").read_bytes() == b"weights"


def test_conversion_that_fails_is_refused_with_its_reason_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.gguf could not be converted: ValueError: not a GGUF file"):
        converted(tmp_path / "model.gguf", tmp_path / "model", [sys.executable, "-c", BROKEN], silent)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_conversion_after_a_kill_clears_what_was_left(tmp_path: Path) -> None:
    source, left = tmp_path / "model.gguf", tmp_path / ".model-killed.part"
    source.write_bytes(b"weights")
    left.mkdir()
    converted(source, tmp_path / "model", [sys.executable, "-c", CONVERTER], silent)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["model"]
