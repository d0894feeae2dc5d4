"""Checkpoints merged into one, by a process of its own; found as it is where it was made already.

    <target>/                       a checkpoint like any other
    <target>/merged_from.json       the digests and weights that it was made from

The rule that must not break: nothing here imports torch. A folder under its name is whole, and is the merge that it says it is.
"""

import shutil
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Collection, Sequence
from pathlib import Path

from pydantic import ValidationError

from factory import store
from factory.files import make_folder, sync, temporary_of
from factory.training_process import training_environment, training_process
from schemas.errors import DriftError, ModelError
from schemas.manifest import Document

MADE_FROM = "merged_from.json"


class MergePlan(Document):
    folders: list[Path]  # the newest last
    weights: list[float]  # they sum up to 1
    target: Path


class MergedFrom(Document):
    digests: list[str]
    weights: list[float]


async def merge(
    folders: Sequence[Path], digests: Sequence[str], weights: Sequence[float], target: Path, withheld: Collection[str]
) -> None:
    """Make `target`. Raises DriftError where another merge lies there, ModelError where these cannot be merged.

    `withheld`: environment variables that the process must not see.
    """
    wanted = MergedFrom(digests=list(digests), weights=list(weights))
    if target.is_dir():
        if _known(target) == wanted:
            return
        raise DriftError(f"{target}: was merged from other checkpoints, or by other weights; take it away")
    building = temporary_of(target)
    shutil.rmtree(building, ignore_errors=True)
    plan = building.with_name(f"{building.name}.tmp")
    try:
        make_folder(target.parent)
        store.write_text(
            plan, MergePlan(folders=list(folders), weights=list(weights), target=building).model_dump_json()
        )
        await _run(plan, target, withheld)
        store.write_text(building / MADE_FROM, wanted.model_dump_json(indent=1))
        for file in building.iterdir():
            sync(file)
        building.rename(target)
        sync(target.parent)
    except OSError as error:
        raise store.storage_error(target, error) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
        plan.unlink(missing_ok=True)


def _known(target: Path) -> MergedFrom | None:
    try:
        return MergedFrom.model_validate_json((target / MADE_FROM).read_bytes())
    except (OSError, ValidationError):
        return None


async def _run(plan: Path, target: Path, withheld: Collection[str]) -> None:
    environment = training_environment("cpu", None, withheld)
    async with training_process("merge", plan, environment, DEVNULL, PIPE) as process:
        assert process.stderr is not None, "it is piped"
        errors = (await process.stderr.read()).decode(errors="replace").strip()
        code = await process.wait()
    if code:
        said = errors.splitlines()[-1] if errors else code
        raise ModelError(f"{target}: the checkpoints could not be merged: {said}")
