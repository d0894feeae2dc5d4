"""The weighted mean of checkpoints as one more checkpoint: `python -m factory.training.merge PLAN.json`, a process of its own.

The rule that must not break: the mean is taken in float32, tensor by tensor, in the order that the plan names them, so that the
same checkpoints and weights give the same bytes. Whatever is not a weight (config, tokenizer, template) is the last one's.
"""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from factory.merging import MergePlan

_WEIGHTS = "*.safetensors"


def main(plan: MergePlan) -> None:
    """Raises ValueError where the checkpoints are not of one shape."""
    newest = plan.folders[-1]
    shutil.copytree(newest, plan.target, ignore=shutil.ignore_patterns(_WEIGHTS, "*.bin", "*.index.json"))
    torch.set_num_threads(1)  # sums in one order on every machine
    parts = [_tensors(folder) for folder in plan.folders]
    names = sorted(parts[-1])
    for folder, part in zip(plan.folders, parts, strict=True):
        if sorted(part) != names:
            odd = next(iter(set(names) ^ set(part)))
            raise ValueError(f"{folder}: not of the same architecture as {newest}: {odd} is in one of them alone")
    merged = {name: _mean(name, parts, plan.weights) for name in names}
    save_file(merged, plan.target / "model.safetensors", metadata={"format": "pt"})


def _tensors(folder: Path) -> Mapping[str, Path]:
    """Tensor -> the file that holds it."""
    found: dict[str, Path] = {}
    for path in sorted(folder.glob(_WEIGHTS)):
        with safe_open(path, framework="pt") as file:
            found |= dict.fromkeys(file.keys(), path)
    return found


def _read(name: str, path: Path) -> torch.Tensor:
    with safe_open(path, framework="pt") as file:
        tensor: torch.Tensor = file.get_tensor(name)
    return tensor


def _mean(name: str, parts: Sequence[Mapping[str, Path]], weights: Sequence[float]) -> torch.Tensor:
    tensors = [_read(name, part[name]) for part in parts]
    newest = tensors[-1]
    if any(tensor.shape != newest.shape for tensor in tensors):
        raise ValueError(f"{name}: {', '.join(str(tuple(tensor.shape)) for tensor in tensors)} cannot be merged")
    if not newest.is_floating_point():
        return newest
    total = torch.zeros_like(newest, dtype=torch.float32)
    for tensor, weight in zip(tensors, weights, strict=True):
        total += tensor.to(torch.float32) * weight
    return total.to(newest.dtype).contiguous()


if __name__ == "__main__":
    try:
        main(MergePlan.model_validate(json.loads(Path(sys.argv[1]).read_bytes())))
    except (OSError, ValueError) as error:
        sys.exit(str(error))
