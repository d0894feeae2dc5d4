"""The doom-loop detector: whether an answer would go on repeating itself, by which rule, since where, and with what.

The rule that must not break: both faces are pure and agree. What they find depends on the text, the reason it ended, the
prompt and the token ids alone; a change that can alter any evidence changes DETECTOR_VERSION, which is part of a run's
identity. The rules stand in `factory.detector.loop_rules`, what excuses a loop in `factory.detector.asked_repetition`.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import pyarrow as pa

from factory.detector.asked_repetition import asked_for
from factory.detector.loop_rules import Answer, Finding, find_loop
from factory.detector.trimming import onset_token
from factory.detector.utf8 import utf8
from schemas.rows import Loop, LoopEvidence
from schemas.tables import LOOPS

DETECTOR_VERSION: Final = "2"

_CLEAN: Final = LoopEvidence()
_FIELDS: Final = {"loop": "kind"}  # the columns that are not named as the evidence is


def detect(text: str, finish_reason: str, *, prompt: str = "", token_ids: Sequence[int] | None = None) -> LoopEvidence:
    """The evidence for a loop in an answer of text `text`.

    `finish_reason` is the engine's: `length` where the answer ran into the cap, `repetition` where the engine ended it
    for repeating itself; every other one says that it ended by itself. `prompt` is what the user said: a hard loop is
    soft where the prompt asks for it (`factory.detector.asked_repetition`). `token_ids` are the answer's; without them, where
    they show no such run, or where the copies differ as they stand, the evidence has no `onset_token`. The onset counts
    characters, the period UTF-8 bytes of `text`; where only the masked text repeats, the period is the length of the
    second copy as it stands, and where the copies are near duplicates, the commonest distance between two of them.
    """
    finding = find_loop(Answer(utf8(text), finish_reason))
    return _CLEAN if finding is None else _evidence(finding, prompt, token_ids)


def detect_batch(answers: pa.RecordBatch) -> pa.RecordBatch:
    """The columns `schemas.tables.LOOPS` for a batch of answers, row by row in the same order.

    `answers` has the columns `text` (any string type, or binary, of which what is no UTF-8 is read as U+FFFD) and
    `finish_reason` (any string type; NULL is read as `length`), and if known `prompt` (any string type) and `token_ids`
    (any list of integers). Where the text is NULL, every column of its row is. KeyError where one of the first two is
    missing. The texts are searched as the bytes they are; prompts and ids are read for the rows with a loop alone.
    """
    columns = {name: answers.column(name) for name in answers.schema.names}
    prompts, ids = columns.get("prompt"), columns.get("token_ids")
    rows: list[LoopEvidence | None] = []
    for row, (raw, finish_reason) in enumerate(
        zip(_bytes(columns["text"]), columns["finish_reason"].to_pylist(), strict=True)
    ):
        finding = None if raw is None else find_loop(Answer(raw, finish_reason or "length"))
        if finding is None:
            rows.append(None if raw is None else _CLEAN)
            continue
        prompt = "" if prompts is None else prompts[row].as_py() or ""
        rows.append(_evidence(finding, prompt, None if ids is None else ids[row].as_py()))
    return _columns(rows)


def _bytes(texts: pa.Array) -> list[bytes | None]:
    """UTF-8 of each text."""
    if pa.types.is_dictionary(texts.type):
        texts = texts.dictionary_decode()
    raws: list[bytes | None] = texts.cast(pa.large_binary()).to_pylist()
    if pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type) or pa.types.is_string_view(texts.type):
        return raws
    return [None if raw is None else utf8(raw.decode(errors="replace")) for raw in raws]


def _columns(rows: Sequence[LoopEvidence | None]) -> pa.RecordBatch:
    fields = {name: _FIELDS.get(name, name.removeprefix("loop_")) for name in LOOPS.names}
    return pa.RecordBatch.from_pydict(
        {name: [None if row is None else getattr(row, field) for row in rows] for name, field in fields.items()},
        schema=LOOPS,
    )


def _evidence(finding: Finding, prompt: str, token_ids: Sequence[int] | None) -> LoopEvidence:
    """What was found, in the light of the prompt and of the ids."""
    evidence = finding.evidence
    if evidence.kind is Loop.HARD and asked_for(prompt, evidence.unit or "", evidence.repeats or 0.0):
        evidence = replace(evidence, kind=Loop.SOFT)
    if token_ids is None or not finding.verbatim:
        return evidence
    return replace(evidence, onset_token=onset_token(token_ids, evidence))
