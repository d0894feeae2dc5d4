"""The detector over batches: the same rows in the same order, however many processes look."""

import os
from collections.abc import Iterator

import pyarrow as pa
import pytest

from factory.loops import detect_batch
from factory.survey.detecting import PUBLISHED, detect_batches, each_batch, survey_batch
from schemas.errors import Transient
from schemas.tables import LOOPS

UNIT = "and then she said it to him once more, "


def batch(*texts: str | None) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"text": texts, "finish_reason": ["length"] * len(texts)})


def dies(answers: pa.RecordBatch) -> pa.RecordBatch:
    if answers.num_rows == 2:
        os._exit(9)
    return answers


def test_detect_batches_in_two_processes_gives_what_one_does_in_order() -> None:
    batches = [batch(f"Answer {number}: " + UNIT * number, None, "short") for number in range(0, 30, 3)]

    alone, together = (list(detect_batches(iter(batches), processes)) for processes in (1, 2))

    assert together == alone == [detect_batch(answers) for answers in batches]
    assert {kind for found in alone for kind in found.column("loop").to_pylist()} == {"hard", "clean", None}


def test_detect_batches_holds_no_more_batches_than_twice_the_processes() -> None:
    taken = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal taken
        for _ in range(20):
            taken += 1
            yield batch("short")

    found = detect_batches(batches(), 2)
    next(found)

    assert taken == 4
    assert len(list(found)) == 19


def test_each_batch_process_that_dies_is_said_in_one_line() -> None:
    with pytest.raises(Transient, match="try again with --processes 1"):
        list(each_batch(dies, [batch("a"), batch("a", "b"), batch("c")], 2))


def test_survey_batch_adds_the_published_rule_over_tokens_where_they_are_known() -> None:
    answers = pa.RecordBatch.from_pydict(
        {
            "text": [UNIT * 80, UNIT * 80, "short", None],
            "finish_reason": ["length"] * 4,
            "token_ids": [None, [1, 2, 3], [7] * 49, [7] * 49],
        }
    )

    found = survey_batch(answers)

    assert found.schema.names == [*LOOPS.names, PUBLISHED]
    assert found.column(PUBLISHED).to_pylist() == [True, False, True, None]
