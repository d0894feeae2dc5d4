"""Whether what a run keeps beside its rounds is what was written there: the counters, the story of the rounds, checkpoints.

The rule that must not break: nothing here is made anew or taken out. A checkpoint is compared by its weights, which are read.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from factory.client.spending import read_spent
from factory.ledger.found import Fault, Kind
from factory.run import RunFolder
from factory.semi_online import read_story
from factory.serving.models import weights_digest
from schemas.errors import ModelError, SchemaError, StorageError
from schemas.semi_online import Story

TRAINING = "training"  # in the place of a stage: a command of its own makes it
NO_SHARD = -1
RESULTS = ("train/**/result.json", "grpo/result.json")
CHECKPOINT = "checkpoint"  # beside its result


def kept(run: RunFolder) -> Iterator[Fault]:
    """A fault for each thing that is not what it was, of the whole run."""
    yield from _unreadable(run, run.spent_path, lambda: read_spent(run.spent_path))
    yield from _unreadable(run, run.story_path, lambda: read_story(run))
    said = dict(_trained(run)) | dict(_promoted(run))
    for folder, digest in sorted(said.items()):
        if why := _wrong(folder, digest):
            yield Fault(Kind.CHECKPOINT, TRAINING, NO_SHARD, str(folder.relative_to(run.root)), why)


def promotes(run: RunFolder, file: str) -> bool:
    """Whether the story of the rounds rests on that checkpoint."""
    return any(one.folder == file for one in _story(run).promoted)


def _unreadable(run: RunFolder, path: Path, read: Callable[[], object]) -> Iterator[Fault]:
    try:
        read()
    except (SchemaError, StorageError) as error:
        why = str(error).removeprefix(f"{path}: ")
        yield Fault(Kind.KEPT, TRAINING, NO_SHARD, str(path.relative_to(run.root)), why)


def _trained(run: RunFolder) -> Iterator[tuple[Path, str]]:
    """Each checkpoint that a training says it has made, and the digest of its weights."""
    for pattern in RESULTS:
        for result in run.root.glob(pattern):
            try:
                digest = json.loads(result.read_bytes()).get("digest")
            except (OSError, ValueError, AttributeError):
                continue  # the trainer takes it for one that was not finished
            if isinstance(digest, str):
                yield result.with_name(CHECKPOINT), digest


def _promoted(run: RunFolder) -> Iterator[tuple[Path, str]]:
    for one in _story(run).promoted:
        if one.folder is not None and one.promoted is not None:
            yield run.root / one.folder, one.promoted


def _story(run: RunFolder) -> Story:
    try:
        return read_story(run)
    except SchemaError:
        return Story()


def _wrong(folder: Path, digest: str) -> str | None:
    try:
        seen = weights_digest(folder)
    except (ModelError, OSError, ValueError) as error:
        return f"is no whole checkpoint ({error})"
    return None if seen == digest else f"has the digest {seen[:16]}, and was made with {digest[:16]}"
