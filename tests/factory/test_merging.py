"""The weighted mean of checkpoints: by hand on small tensors, made once, and refused where it makes no sense."""

import asyncio
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
from safetensors.torch import load_file, save_file  # noqa: E402  # with torch alone

from factory.merging import merge  # noqa: E402
from schemas.errors import DriftError, ModelError  # noqa: E402


def checkpoint(folder: Path, values: list[float], name: str = "w") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(f'{{"of": "{folder.name}"}}')
    tensors = {name: torch.tensor(values, dtype=torch.bfloat16), "steps": torch.tensor([len(folder.name)])}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_merge_is_the_weighted_mean_with_the_newest_ones_files(tmp_path: Path) -> None:
    old, new = checkpoint(tmp_path / "old", [1.0, 2.0]), checkpoint(tmp_path / "newest", [3.0, -2.0])
    target = tmp_path / "train" / "merged"

    asyncio.run(merge([old, new], ["a", "b"], [0.25, 0.75], target, ()))
    first = (target / "model.safetensors").stat().st_mtime_ns
    asyncio.run(merge([old, new], ["a", "b"], [0.25, 0.75], target, ()))

    found = load_file(target / "model.safetensors")
    assert found["w"].tolist() == [2.5, -1.0]
    assert found["w"].dtype is torch.bfloat16
    assert found["steps"].tolist() == [6]
    assert (target / "config.json").read_text() == '{"of": "newest"}'
    assert (target / "model.safetensors").stat().st_mtime_ns == first
    assert sorted(path.name for path in target.parent.iterdir()) == ["merged"]
    with pytest.raises(DriftError, match="was merged from other checkpoints"):
        asyncio.run(merge([old, new], ["a", "c"], [0.25, 0.75], target, ()))


def test_merge_of_other_architectures_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    old, new = checkpoint(tmp_path / "old", [1.0]), checkpoint(tmp_path / "new", [1.0], "v")

    with pytest.raises(ModelError, match="not of the same architecture"):
        asyncio.run(merge([old, new], ["a", "b"], [0.5, 0.5], tmp_path / "merged", ()))

    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]
