"""Every reader of what strangers write, and what must hold of each, whatever it is fed.

A reader gives what it read, or raises the one error that it promises; any other exception is a fault, and so is a row that
is lost or changed without a word. The rule that its reader must not break: a reader here leaves nothing behind that the next
input could see, for a fault must come from its input alone.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic import TypeAdapter

from benchmarks.fuzz_inputs import (
    chat_reply,
    completions,
    error_bodies,
    error_headers,
    lines,
    loads,
    prompt_rows,
    sound_files,
    spoilt,
    tables,
)
from factory import store
from factory.client.probe import served_name
from factory.client.protocol import read_reply
from factory.client.server_load import read_load
from factory.client.transport import Link
from factory.gathering.sources import read_source
from factory.judging.calibration import read_gold
from factory.judging.gold import read_weights
from factory.ledger.journal import Journal
from factory.looking import queries
from factory.prompts import normalise
from factory.recipes.recipe_file import read_recipe, write_recipe
from factory.run import RunFolder
from factory.survey.answer_columns import Wanted
from factory.survey.answer_files import answer_files
from factory.survey.answer_output import check_output
from factory.survey.loop_survey import survey
from judges.base import Judge
from judges.listwise import ListwiseJudge
from judges.pairwise import PairwiseJudge
from judges.pointwise import PointwiseJudge
from judges.reward_model import RewardModel
from schemas.chat import Completion, Message, Request, Role, Sampling, Task
from schemas.errors import FactoryError, Fixable, RecipeError, SchemaError, SourceError
from schemas.recipe import Source
from schemas.rows import Loop, Prompt, Rollout, VerdictStatus
from schemas.tables import Table

Input = TypeVar("Input")
COMPLETION = TypeAdapter(Completion)
KEY = "sk-0123456789abc"
PROMPT = Prompt("p", "file", (Message(Role.USER, "What is the capital of France?"),))
ROLLOUTS = tuple(
    Rollout(f"p:{slot}", "p", slot, 0.7, 1.0, 0.0, 1, "m", "d", text, None, "stop", None, None, Loop.CLEAN)
    for slot, text in (("t0", "Paris."), ("t1", "Lyon."))
)


@dataclass(frozen=True, slots=True)
class Reader:
    """`read` is given a folder of its own and an input, and raises where something does not hold."""

    name: str
    inputs: SearchStrategy[object]
    read: Callable[[Path, object], None]


def reader(name: str, inputs: SearchStrategy[Input], read: Callable[[Path, Input], None]) -> Reader:
    return Reader(name, inputs, read)  # type: ignore[arg-type]  # what it reads is what it is given


def _bounded(error: FactoryError, lines: int) -> None:
    said = str(error).split("\n")
    assert len(said) <= lines, f"an error of {len(said)} lines"
    assert max(map(len, said)) < 2000, "an error without end"


def _recipe(folder: Path, data: bytes) -> None:
    (folder / "recipe.yaml").write_bytes(data)
    try:
        recipe = read_recipe(folder / "recipe.yaml")
    except RecipeError as error:
        _bounded(error, lines=50)
        return
    write_recipe(recipe, folder / "again.yaml")
    assert read_recipe(folder / "again.yaml") == recipe, "what was read is not what is written"


def _prompts(folder: Path, path: Path, rows: int | None) -> None:
    """All rows, which are stored and come back; or a refusal. `rows`: how many there are, where that is known."""
    try:
        raw = list(read_source(Source(path=path)))
    except SourceError:
        return
    assert rows is None or len(raw) == rows, f"{len(raw)} of {rows} rows"
    found = [normalise(one, "source") for one in raw]
    store.write_part(folder / "part.parquet", Table.PROMPTS, found)
    assert store.read_part(folder / "part.parquet", Prompt) == found, "rows changed where they are stored"


def _prompt_lines(folder: Path, data: bytes) -> None:
    (folder / "x.jsonl").write_bytes(data)
    _prompts(
        folder, folder / "x.jsonl", sum(1 for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip())
    )


def _prompt_parquet(folder: Path, data: bytes) -> None:
    (folder / "x.parquet").write_bytes(data)
    _prompts(folder, folder / "x.parquet", None)


def _prompt_folder(folder: Path, files: dict[str, bytes]) -> None:
    where = folder / "data"
    for name, data in files.items():
        path = where / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    where.mkdir(exist_ok=True)
    _prompts(folder, where, None)


def _loops(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    out = folder.with_name("out.jsonl" if all("json" in name for name in files) else "out.parquet")
    try:
        read = answer_files(folder)
        check_output(out, folder, read)
        found = survey(read, Wanted(), 1, out)
    except Fixable:
        return
    assert found.rows == found.whole.answers + found.without_text, "rows that are neither answers nor without text"
    lines_out = out.suffix == ".jsonl"
    written = (
        out.read_bytes().count(b"\n")
        if lines_out
        else sum(len(batch) for batch in store.foreign_batches(out, None, 99, 10**6))
    )
    assert written == found.rows, "rows that were not written"


def _verdicts(judge: Judge) -> Callable[[Path, list[Completion]], None]:
    ids = [question.request.request_id for question in judge.ask(PROMPT, ROLLOUTS)]

    def read(_: Path, said: list[Completion]) -> None:
        replies = dict(zip(ids, said, strict=False))
        found = judge.read(PROMPT, ROLLOUTS, replies)
        assert [row.rollout_id for row in found] == [row.rollout_id for row in ROLLOUTS], "not one verdict each"
        for row in found:
            assert (row.status is VerdictStatus.OK) == (row.score is not None), f"{row.status} with {row.score}"
            assert row.score is None or math.isfinite(row.score), "a score that is no number"
            assert row.variance is None or row.variance >= 0, "a variance below nothing"
            assert row.mass is None or 0 <= row.mass <= 1, "a mass that is no probability"
        for reply in said:
            judge.worth(reply)

    return read


def _pairwise(_: Path, said: list[Completion]) -> None:
    judge = PairwiseJudge("clarity", "Be clear.")
    chosen, rejected = ROLLOUTS
    ids = [question.request.request_id for question in judge.ask(PROMPT, chosen, rejected)]
    for row in judge.read(chosen, rejected, dict(zip(ids, said, strict=False))):
        assert (row.status is VerdictStatus.OK) == (row.preference is not None)
        assert row.preference is None or 0 <= row.preference <= 1, "a preference that is no probability"


def _journal(folder: Path, drawn: tuple[list[Completion], bytes, bytes]) -> None:
    """The last whole line of each id survives whatever stands between and behind; what is appended then survives too."""
    kept, garbage, tail = drawn
    path = folder / "j.jsonl"
    written = Journal(path)
    for one in kept:
        written.append(one)
    sound = path.read_bytes().splitlines() if kept else []
    path.write_bytes(
        b"".join(line + b"\n" + garbage.replace(b"\n", b"") + b"\n" for line in sound) + tail.replace(b"\n", b"")
    )
    journal = Journal(path)
    last = {one.request_id: COMPLETION.dump_json(one) for one in kept}
    assert _written(journal) == last, "a whole line was lost or changed"
    added = Completion("added", "x", "stop")
    journal.append(added)
    again = _written(Journal(path))
    assert again.pop("added") == COMPLETION.dump_json(added), "what was appended behind a cut line was lost"
    assert again == last, "a whole line was lost or changed by appending"


def _written(journal: Journal) -> dict[str, bytes]:
    """Each answer as JSON, where a NaN equals itself."""
    return {name: COMPLETION.dump_json(one) for name, one in journal.kept.items()}


def _record(folder: Path, data: bytes) -> None:
    run = RunFolder(folder / "run")
    for path in (run.record_path("pairs", 0), run.manifest_path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for look in (lambda: run.record("pairs", 0), run.manifest):
        try:
            look()
        except SchemaError:
            continue


def _part(folder: Path, data: bytes) -> None:
    (folder / "part.parquet").write_bytes(data)
    try:
        store.read_part(folder / "part.parquet", Prompt)
    except SchemaError:
        return


def _reply(task: Task) -> Callable[[Path, bytes], None]:
    request = Request("r", PROMPT.messages, Sampling(16, 0), task=task)

    def read(_: Path, data: bytes) -> None:
        try:
            found = read_reply(request, data)
        except FactoryError:
            return
        assert found.request_id == "r"
        assert COMPLETION.validate_json(COMPLETION.dump_json(found)).text == found.text, "a journal would lose it"

    return read


def _faults(_: Path, drawn: tuple[int, dict[str, str], bytes]) -> None:
    status, headers, data = drawn

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers=headers, stream=httpx.ByteStream(data))

    async def ask() -> str:
        return await served_name(Link(httpx.MockTransport(answer), 60.0, KEY), "http://127.0.0.1:1/v1", "m")

    try:
        asyncio.run(ask())
    except FactoryError as error:
        _bounded(error, lines=1)


def _load(_: Path, data: bytes) -> None:
    found = read_load(data)
    assert found is None or isinstance(found.running + found.waiting, int)


def _gold(folder: Path, data: bytes) -> None:
    (folder / "gold.jsonl").write_bytes(data)
    try:
        read_gold(folder / "gold.jsonl")
    except SourceError:
        return


def _weights(folder: Path, data: bytes) -> None:
    (folder / "w.json").write_bytes(data)
    try:
        read_weights(folder / "w.json", ("clarity", "helpfulness"))
    except RecipeError:
        return


def _query(folder: Path, data: bytes) -> None:
    root = folder / "run"
    root.mkdir(exist_ok=True)
    before = sorted(folder.rglob("*"))
    try:
        queries.ask(root, data.decode("utf-8", "replace"))
    except FactoryError as error:
        _bounded(error, lines=1)
    assert sorted(folder.rglob("*")) == before, "a query wrote a file"


def readers(scratch: Path) -> Sequence[Reader]:
    """`scratch`: a folder for the sound files that inputs are made from."""
    sound = sound_files(scratch)
    rows = lines(prompt_rows())
    said = [COMPLETION.dump_json(Completion("a", "x", "stop", token_ids=(1,)))]
    answers = st.dictionaries(
        st.sampled_from(["a.jsonl", "b.parquet", "c.jsonl.gz", "d.json"]),
        st.one_of(
            rows, spoilt(sound["answers"]), tables(("text", "prompt", "finish_reason", "model", "token_ids", "loop"))
        ),
        max_size=2,
    )
    tree = st.dictionaries(
        st.sampled_from(
            ["train.jsonl", "x/test-0.parquet", "train/data.arrow", "train/state.json", "train/dataset_info.json"]
        )
        | st.sampled_from(["state.json", "dataset_dict.json", "dataset_info.json", "data-00000-of-00001.arrow"]),
        st.one_of(rows, spoilt(sound["saved"]), tables(("prompt",))),
        max_size=4,
    )
    queries = [
        b"SELECT * FROM prompts",
        b"WITH a AS (SELECT 1) SELECT * FROM a",
        b"COPY (SELECT 1) TO 'x'",
        b"EXPLAIN SELECT 1",
    ]
    judges: list[Judge] = [
        PointwiseJudge("clarity", "Be clear."),
        PointwiseJudge("samples", "Be clear.", samples=2),
        PointwiseJudge("thinking", "Be clear.", thinking_tokens=16),
        ListwiseJudge("listwise", "Be clear.", samples=2),
        RewardModel("reward_model"),
    ]
    replies = st.lists(completions("r"), max_size=4)
    answers_kept = st.sampled_from(["a", "b", "c", "\n\0"]).flatmap(completions)
    statuses = st.integers(200, 599) | st.sampled_from([400, 429, 500, 503])
    return [
        reader("recipe", spoilt(sound["recipes"]), _recipe),
        reader("prompts, JSONL rows", rows, _prompt_lines),
        reader("prompts, JSONL bytes", spoilt(sound["prompts"]), _prompt_lines),
        reader(
            "prompts, Parquet types",
            tables(("prompt", "messages", "system", "tools", "answer", "kwargs")),
            _prompt_parquet,
        ),
        reader("prompts, Parquet bytes", spoilt(sound["parquet"]), _prompt_parquet),
        reader("prompts, folders", tree, _prompt_folder),
        *(reader(f"verdicts, {judge.name}", replies, _verdicts(judge)) for judge in judges),
        reader("verdicts, pairwise", replies, _pairwise),
        reader("journal", st.tuples(st.lists(answers_kept, max_size=6), spoilt(said), spoilt(said)), _journal),
        reader("records", spoilt(sound["records"]), _record),
        reader("parts", spoilt(sound["parts"]), _part),
        reader("replies, chat", st.one_of(chat_reply(), spoilt(sound["replies"])), _reply(Task.CHAT)),
        reader("replies, reward", st.one_of(chat_reply(), spoilt(sound["replies"])), _reply(Task.REWARD)),
        reader("replies, errors", st.tuples(statuses, error_headers(), error_bodies()), _faults),
        reader("replies, load", st.one_of(loads(), st.binary()), _load),
        reader("loops", answers, _loops),
        reader("gold", spoilt(sound["gold"]), _gold),
        reader("weights", spoilt(sound["weights"]), _weights),
        reader("query", spoilt(queries), _query),
    ]
