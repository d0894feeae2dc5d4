"""Where a training that was cut off goes on, and the checkpoint that it ends with.

The rule that must not break: a state counts when it is whole and on the disk, which a mark written last says; only then does
the one before it go. The final checkpoint appears in one piece.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from transformers import PreTrainedModel

from factory import store
from factory.files import sync, temporary_of
from factory.serving.models import NOT_READ

STATES = "state"  # folder of what only an unfinished training needs
CHECKPOINT = "checkpoint"
_WHOLE = "whole"
_STATE = re.compile(r"checkpoint-(\d+)")
_OWN = ("config.json", "generation_config.json", "*.safetensors", "*.bin", "*.index.json", *NOT_READ)


def last_whole_state(states: Path) -> tuple[int, Path] | None:
    """The step and the folder. What is newer and not whole is removed."""
    for step, folder in sorted(_states(states), reverse=True):
        if (folder / _WHOLE).exists():
            return step, folder
        shutil.rmtree(folder)
    return None


def mark_whole(states: Path, step: int) -> None:
    """The state of this step is complete: put it on the disk, and remove those before it."""
    folder = states / f"checkpoint-{step}"
    for file in folder.rglob("*"):
        if file.is_file():
            sync(file)
    sync(folder)
    store.write_text(folder / _WHOLE, "")
    for earlier, old in _states(states):
        if earlier < step:
            shutil.rmtree(old)


def _states(states: Path) -> Iterator[tuple[int, Path]]:
    for folder in states.glob("checkpoint-*"):
        if found := _STATE.fullmatch(folder.name):
            yield int(found[1]), folder


def write_checkpoint(model: PreTrainedModel, base: Path, folder: Path) -> None:
    """Weights and configuration of `model`, and all else of `base` as it is: tokenizer, chat template, code, decoding.

    In float32, which is what was trained: rounded to bfloat16, most of what one round changes in a weight would be lost.
    """
    building = temporary_of(folder)
    shutil.rmtree(building, ignore_errors=True)
    try:
        model.save_pretrained(building)
        for file in base.iterdir():
            if file.is_file() and not any(file.match(pattern) for pattern in _OWN):
                shutil.copyfile(file, building / file.name)
        decoding = base / "generation_config.json"
        if decoding.exists():
            shutil.copyfile(decoding, building / decoding.name)
        for file in building.iterdir():
            sync(file)
        shutil.rmtree(folder, ignore_errors=True)
        building.replace(folder)
        sync(folder.parent)
    except OSError as error:
        raise store.storage_error(folder, error) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
