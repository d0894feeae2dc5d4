"""The detector over many batches of answers: in this process, or in several.

The rule that must not break: what comes out is in the order of what went in and the same whatever the number of
processes, and no more batches are held at a time than there are processes to work on them, and as many again.
"""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Final

import pyarrow as pa

from factory.detector.published_rules import repeats_ngram
from factory.loops import detect_batch
from factory.processes import process_context
from schemas.errors import Transient
from schemas.tables import LOOPS

PUBLISHED: Final = "published"  # the column of `published_batches`
_SLOW_IMPORTS: Final = (__name__, "pandas")  # where it is installed, Arrow imports pandas when it makes its first array
BatchWork = Callable[[pa.RecordBatch], pa.RecordBatch]


def detect_batches(batches: Iterable[pa.RecordBatch], processes: int) -> Iterator[pa.RecordBatch]:
    """`factory.loops.detect_batch` of each batch, in order. Raises Transient where a process dies.

    With more than one process, about twice as many batches as processes are held at a time.
    """
    return each_batch(detect_batch, batches, processes)


def survey_batches(batches: Iterable[pa.RecordBatch], processes: int) -> Iterator[pa.RecordBatch]:
    """As `detect_batches`, with the column PUBLISHED: whether `repeats_ngram` holds, NULL where there is no text."""
    return each_batch(survey_batch, batches, processes)


def survey_batch(answers: pa.RecordBatch) -> pa.RecordBatch:
    """The columns LOOPS and PUBLISHED. The n-grams are of token ids where they are known, and of words elsewhere."""
    texts = answers.column("text").to_pylist()
    names = answers.schema.names
    ids = answers.column("token_ids").to_pylist() if "token_ids" in names else [None] * len(texts)
    published = [
        None if text is None else repeats_ngram(text.split() if tokens is None else tokens)
        for text, tokens in zip(texts, ids, strict=True)
    ]
    loops = detect_batch(answers)
    columns = [*loops.columns, pa.array(published, pa.bool_())]
    return pa.RecordBatch.from_arrays(columns, names=[*LOOPS.names, PUBLISHED])


def each_batch(work: BatchWork, batches: Iterable[pa.RecordBatch], processes: int) -> Iterator[pa.RecordBatch]:
    """What `work`, a function of a module, makes of each batch, in order. Raises Transient where a process dies."""
    return map(work, batches) if processes == 1 else _in_processes(work, batches, processes)


def _in_processes(work: BatchWork, batches: Iterable[pa.RecordBatch], processes: int) -> Iterator[pa.RecordBatch]:
    pool = ProcessPoolExecutor(processes, process_context(_SLOW_IMPORTS), _leave_interrupts_to_the_parent)
    waiting: deque[Future[bytes]] = deque()
    try:
        for batch in batches:
            waiting.append(pool.submit(_worked, work, _packed(batch)))
            if len(waiting) >= 2 * processes:
                yield _unpacked(waiting.popleft().result())
        while waiting:
            yield _unpacked(waiting.popleft().result())
    except BrokenProcessPool as error:
        raise Transient(
            "a process that looked for loops was ended from outside, most often because memory ran out: "
            "try again with --processes 1"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _worked(work: BatchWork, packed: bytes) -> bytes:
    return _packed(work(_unpacked(packed)))


def _packed(batch: pa.RecordBatch) -> bytes:
    """Arrow's own form for travel: pickle would send all of a batch of which this is a slice."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def _unpacked(packed: bytes) -> pa.RecordBatch:
    with pa.ipc.open_stream(packed) as stream:
        return stream.read_next_batch()


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
