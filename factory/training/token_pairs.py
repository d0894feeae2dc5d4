"""Reads the export that holds token ids, and says which pairs a training can take whole.

The rule that must not break: ids are handed on as they are stored. A pair is used whole or not at all: nothing is cut,
nothing is added, and what is left out is named.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from factory import store
from schemas.errors import Fixable, SchemaError

FORMAT = "trl-tokens"
SPLITS = ("train", "test")
_BATCH = (4096, 1 << 26)  # rows, bytes
COLUMNS = (
    "prompt_id",
    "prompt_ids",
    "chosen_ids",
    "rejected_ids",
    "chosen_ended",
    "rejected_ended",
    "cause",
    "rejected_trimmed",
    "margin",
)


@dataclass(frozen=True, slots=True)
class TokenPair:
    """A pair as the policy's own server counted its tokens."""

    prompt_id: str
    prompt_ids: tuple[int, ...]
    chosen_ids: tuple[int, ...]
    rejected_ids: tuple[int, ...]
    chosen_ended: bool
    rejected_ended: bool
    cause: str
    rejected_trimmed: bool
    margin: float | None

    @property
    def longest(self) -> int:
        """Tokens of the longer side with its prompt."""
        return len(self.prompt_ids) + max(len(self.chosen_ids), len(self.rejected_ids))

    @property
    def tokens(self) -> int:
        return 2 * len(self.prompt_ids) + len(self.chosen_ids) + len(self.rejected_ids)


@dataclass(frozen=True, slots=True)
class TokenPairs:
    """Both splits, in the order of the files."""

    train: tuple[TokenPair, ...]
    test: tuple[TokenPair, ...]


def read_token_pairs(folder: Path) -> TokenPairs:
    """Both splits; one that has no file is empty. Raises Fixable where there is no export, SchemaError for a strange one."""
    files = {split: folder / "data" / f"{split}.parquet" for split in SPLITS}
    if not files["train"].is_file():
        raise Fixable(
            f"{folder}: no pairs with token ids there; `prefactory export RECIPE --format {FORMAT}` writes them"
        )
    found = {split: tuple(_pairs(path)) if path.is_file() else () for split, path in files.items()}
    return TokenPairs(found["train"], found["test"])


def _pairs(path: Path) -> Iterator[TokenPair]:
    try:
        missing = sorted(set(COLUMNS) - set(store.foreign_schema(path).names))
        if missing:
            raise SchemaError(f"{path}: lacks the columns {', '.join(missing)}; export it again")
        for batch in store.foreign_batches(path, COLUMNS, *_BATCH):
            for row in batch.to_pylist():
                yield _pair(path, **row)
    except (pa.ArrowException, OSError) as error:
        raise SchemaError(f"{path}: not a readable Parquet file: {error}; export it again") from error


def _pair(
    path: Path,
    prompt_id: str,
    prompt_ids: list[int],
    chosen_ids: list[int],
    rejected_ids: list[int],
    chosen_ended: bool,
    rejected_ended: bool,
    cause: str,
    rejected_trimmed: bool,
    margin: float | None,
) -> TokenPair:
    if not prompt_ids:
        raise SchemaError(f"{path}: {prompt_id}: has no token of a prompt; export it again")
    return TokenPair(
        prompt_id,
        tuple(prompt_ids),
        tuple(chosen_ids),
        tuple(rejected_ids),
        chosen_ended,
        rejected_ended,
        cause,
        rejected_trimmed,
        margin,
    )


def short_enough(pairs: Sequence[TokenPair], max_length: int) -> tuple[TokenPair, ...]:
    """The pairs whose two sides fit whole, each with the prompt."""
    return tuple(pair for pair in pairs if pair.longest <= max_length)


def digest_of(pairs: TokenPairs) -> str:
    """sha256 of the splits' pairs in their order."""
    digest = hashlib.sha256()
    for split, rows in zip(SPLITS, (pairs.train, pairs.test), strict=True):
        for pair in rows:
            digest.update(repr((split, pair)).encode())
    return digest.hexdigest()
