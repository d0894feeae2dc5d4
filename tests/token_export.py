"""Pairs with token ids, and the export that holds them, as it lies in a run's folder."""

from collections.abc import Sequence
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

from factory.training.token_pairs import TokenPair

WORDS = 64
END = 2
SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("prompt_ids", pa.list_(pa.int32())),
        ("chosen_ids", pa.list_(pa.int32())),
        ("rejected_ids", pa.list_(pa.int32())),
        ("chosen_ended", pa.bool_()),
        ("rejected_ended", pa.bool_()),
        ("cause", pa.string()),
        ("rejected_trimmed", pa.bool_()),
        ("margin", pa.float64()),
    ]
)


def pair(number: int, prompt: Sequence[int], chosen: Sequence[int], rejected: Sequence[int]) -> TokenPair:
    return TokenPair(
        prompt_id=f"{number:08x}",
        prompt_ids=tuple(prompt),
        chosen_ids=tuple(chosen),
        rejected_ids=tuple(rejected),
        chosen_ended=bool(chosen) and chosen[-1] == END,
        rejected_ended=bool(rejected) and rejected[-1] == END,
        cause="jury",
        rejected_trimmed=False,
        margin=0.5,
    )


def pairs(count: int, first: int = 0) -> list[TokenPair]:
    """Prompts that differ, answers of every length, some that end and some that were cut."""
    random = Random(first)

    def ids(size: int) -> list[int]:
        return [random.randrange(3, WORDS) for _ in range(size)]

    return [
        pair(
            first + number,
            ids(6 + number % 5),
            [*ids(1 + number % 9), END],
            [*ids(2 + number % 13), *([] if number % 2 else [END])],
        )
        for number in range(count)
    ]


def write_export(folder: Path, train: Sequence[TokenPair], test: Sequence[TokenPair] = ()) -> Path:
    for split, rows in (("train", train), ("test", test)):
        if rows:
            (folder / "data").mkdir(parents=True, exist_ok=True)
            columns = [{name: getattr(row, name) for name in SCHEMA.names} for row in rows]
            pq.write_table(pa.Table.from_pylist(columns, schema=SCHEMA), folder / "data" / f"{split}.parquet")
    return folder
