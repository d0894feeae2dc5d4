"""What the fuzzer feeds: sound files and replies, and every way to spoil them, as hypothesis strategies.

The rule that its reader must not break: an input is a function of what hypothesis draws, so that a fault is found again and
shrinks to the least that shows it.
"""

import gzip
import io
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from factory import store
from schemas.chat import Completion, Message, Role, TokenAlternative
from schemas.manifest import PartFile, Provenance, RunManifest, StageRecord
from schemas.rows import Constraint, Prompt
from schemas.tables import Table

RECIPES = Path(__file__).parent.parent / "recipes"

TOKENS = (
    b"\0", b"\n", b"\r", b"\x1b[2J", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", "\u2028\x85".encode(), b"\\ud800",
    b'"', b"'", b"{", b"}", b"[", b"]", b":", b",", b"&a ", b"*a", b"!!python/name:os.system ", b"<<: ", b"--- ", b"|\n", b"#",
    b"null", b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"-1", b"0.1", b"true", b"[" * 3000, b'{"a":' * 1500, b"../" * 9,
    b"/etc/passwd", b"prompt", b"messages", b"role", b"content", b"tools", b"kwargs", b"choices", b"PAR1", b"ARROW1",
)  # fmt: skip
ODD = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON = st.recursive(
    ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def spoilt(draw: DrawFn, sound: Sequence[bytes]) -> bytes:
    """One of the sound texts after a few edits: cut, doubled, overwritten, spliced with what trips readers."""
    data = draw(st.sampled_from(list(sound)))
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 1, 1, 2, 8, 64, 4096])))
        piece = draw(
            st.one_of(st.sampled_from(TOKENS), st.binary(max_size=8), st.just(b""), st.just(data[start:end] * 2))
        )
        data = data[:start] + piece + data[end:]
    return data


def cells(typical: SearchStrategy[object]) -> SearchStrategy[object]:
    """Mostly what belongs there, and sometimes anything that JSON has."""
    return st.one_of(typical, typical, JSON)


def prompt_rows() -> SearchStrategy[dict[str, object]]:
    message = st.fixed_dictionaries(
        {"role": cells(st.sampled_from(["system", "user", "assistant", "tool"])), "content": cells(st.text())}
    )
    return st.fixed_dictionaries(
        {},
        optional={
            "prompt": cells(st.text()),
            "messages": cells(st.lists(message, max_size=3)),
            "system": cells(st.text(max_size=5)),
            "tools": cells(st.just([{"type": "function", "function": {"name": "f"}}])),
            "answer": cells(st.integers()),
            "constraints": cells(st.just([{"id": "punctuation:no_comma", "kwargs": "{}"}])),
            "instruction_id_list": cells(st.just(["a:b"])),
            "kwargs": cells(st.just([{"n": None}])),
            "language": cells(st.sampled_from(["en", "de-AT", "x"])),
        },
    )


def lines(rows: SearchStrategy[dict[str, object]]) -> SearchStrategy[bytes]:
    return st.lists(rows, max_size=4).map(lambda found: b"".join(json.dumps(row).encode() + b"\n" for row in found))


_COLUMNS: Sequence[Callable[[], pa.Array]] = (
    lambda: pa.array(["a", None], pa.string()),
    lambda: pa.array(["a", "b"], pa.large_string()),
    lambda: pa.array(["a", "b"], pa.string_view()),
    lambda: pa.array(["a", "b"]).dictionary_encode(),
    lambda: pa.array([b"\xff\xfe", b"b"], pa.binary()),
    lambda: pa.array([1, None], pa.int8()),
    lambda: pa.array([2**63, 1], pa.uint64()),
    lambda: pa.array([1.5, float("nan")], pa.float64()),
    lambda: pa.array([True, None]),
    lambda: pa.array([date(2000, 1, 1), None], pa.date32()),
    lambda: pa.array([1, 2], pa.timestamp("ns", "UTC")),
    lambda: pa.array([1, 2], pa.duration("s")),
    lambda: pa.array(["1.10", None]).cast(pa.decimal128(5, 2)),
    lambda: pa.nulls(2),
    lambda: pa.array([["a"], None], pa.list_(pa.string())),
    lambda: pa.array([[("k", "v")], []], pa.map_(pa.string(), pa.string())),
    lambda: pa.array([{"role": "user", "content": "a"}, None]),
    lambda: pa.array([[{"role": "user", "content": "a"}], []]),
    lambda: pa.array([[{"role": "user", "content": "a", "tool_calls": None}], None]),
    lambda: pa.array([[1.0, None], [2.0]]),
    lambda: pa.array(["a\0b", "\u2028"]),
)


@st.composite
def tables(draw: DrawFn, names: Sequence[str]) -> bytes:
    """A Parquet file whose columns have these names and any type."""
    chosen = draw(st.lists(st.sampled_from(list(names)), min_size=1, max_size=4, unique=True))
    table = pa.table({name: draw(st.sampled_from(_COLUMNS))() for name in chosen})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression=draw(st.sampled_from(["zstd", "snappy", "none"])))
    return sink.getvalue()


def completions(request_id: str) -> SearchStrategy[Completion]:
    """What a server may have said to a judge, and journals give back."""
    said = st.sampled_from(
        [
            "7",
            " 7",
            "10",
            "A",
            "B",
            '{"A": 5, "B": 3}',
            '{"A": 5}',
            '{"A": 5, "A": 6}',
            "[[[",
            "<think>7",
            "x</think>\n7",
            "",
            "７",
        ]
    )
    number = st.floats() | st.sampled_from([-9999.0, 0.0, -0.1, 1e308, float("nan"), float("inf"), -float("inf")])
    token = st.builds(
        TokenAlternative, st.sampled_from(["7", " 7", "▁9", "A", "B", "", "The", "10"]) | st.text(max_size=3), number
    )
    return st.builds(
        Completion,
        request_id=st.just(request_id),
        text=said | st.text(),
        finish_reason=st.sampled_from(["stop", "length", "repetition", "content_filter", "", "error", "abort"])
        | st.text(max_size=6),
        reasoning=st.none() | st.text(max_size=9),
        first_token=st.lists(token, max_size=6).map(tuple),
        prompt_tokens=st.none() | st.integers(-5, 2**40),
        completion_tokens=st.none() | st.integers(-5, 2**40),
        reward=st.none() | number,
    )


def chat_reply() -> SearchStrategy[bytes]:
    """A chat completion whose every field may be something else."""
    position = st.fixed_dictionaries(
        {
            "token": cells(st.just("7")),
            "logprob": cells(st.floats()),
            "top_logprobs": cells(st.just([{"token": "7", "logprob": -1}])),
        }
    )
    choice = st.fixed_dictionaries(
        {"message": cells(st.fixed_dictionaries({"content": cells(st.text()), "reasoning": cells(st.none())}))},
        optional={
            "finish_reason": cells(st.sampled_from(["stop", "length"])),
            "logprobs": cells(st.fixed_dictionaries({"content": cells(st.lists(position, max_size=2))})),
            "token_ids": cells(st.lists(st.integers(), max_size=3)),
        },
    )
    usage = st.fixed_dictionaries({"prompt_tokens": cells(st.integers()), "prompt_tokens_details": cells(st.none())})
    whole = st.fixed_dictionaries(
        {"choices": cells(st.lists(choice, max_size=2))},
        optional={
            "usage": cells(usage),
            "prompt_token_ids": cells(st.just([1, 2])),
            "data": cells(
                st.lists(st.fixed_dictionaries({"probs": cells(st.lists(st.floats(), max_size=2))}), max_size=2)
            ),
        },
    )
    return (whole | JSON).map(lambda document: json.dumps(document).encode())


def dates() -> SearchStrategy[str]:
    """What looks like an HTTP date, with any figure in its places."""
    figure = st.integers(0, 99).map("{:02d}".format) | st.integers(-(10**25), 10**25).map(str)
    month = st.sampled_from(["Jan", "Feb", "Dec", "Xyz", ""])
    zone = st.sampled_from(["GMT", "UTC", "+0000", "-2400", "+99999999999999999999", ""])
    year = st.sampled_from(["2026", "26", "9999", "10000", "0"]) | figure
    parts = st.tuples(figure, month, year, figure, figure, figure, zone)
    imf, old = "Mon, {0} {1} {2} {3}:{4}:{5} {6}", "Monday, {0}-{1}-{2} {3}:{4}:{5} {6}"
    forms = st.sampled_from([imf, old, "Mon {1} {0} {3}:{4}:{5} {2}"])
    return st.tuples(forms, parts).map(lambda drawn: drawn[0].format(*drawn[1]))


def error_headers() -> SearchStrategy[dict[str, str]]:
    """What trips who reads them, and what is no header of an error at all."""
    odd = ["nan", "inf", "-1", "1e9", "1e999", "9" * 5000, "soon", "http://x/\x00", "application/json; charset=nope"]
    packings = st.sampled_from(["gzip", "deflate", "br", "nope"])
    charsets = st.sampled_from(["hex", "idna", "utf-16", "utf-7", "undefined"]).map("text/plain; charset={}".format)
    return st.fixed_dictionaries(
        {},
        optional={
            "retry-after": st.sampled_from(odd) | dates(),
            "date": st.sampled_from(odd) | dates(),
            "location": st.sampled_from(odd),
            "content-type": st.sampled_from(odd) | charsets,
            "content-encoding": packings,
        },
    )


def error_bodies() -> SearchStrategy[bytes]:
    """Errors and lists of models in OpenAI's form, whatever else is JSON, and what is nested without end."""
    field = cells(st.sampled_from(["it broke", "input_tokens", "context_length_exceeded", "insufficient_quota"]))
    named = st.fixed_dictionaries({}, optional=dict.fromkeys(("message", "param", "code"), field))
    document = st.fixed_dictionaries({"error": cells(named)}) | JSON
    models = st.lists(cells(st.fixed_dictionaries({"id": cells(st.text() | st.just("m" * 5000))})), max_size=4)
    documents = document | st.fixed_dictionaries({"data": models})
    whole = documents.map(lambda drawn: json.dumps(drawn).encode())
    opening = st.sampled_from([b"[", b'{"error":', b'{"error": {"message": [', b'{"data": ['])
    deep = st.tuples(opening, st.sampled_from([10, 1000, 200_000])).map(lambda drawn: drawn[0] * drawn[1])
    number = st.integers(1, 6000).map(lambda digits: b'{"error": {"message": %s}}' % (b"9" * digits))
    return st.one_of(whole, deep, number, chat_reply(), st.binary())


def loads() -> SearchStrategy[bytes]:
    """What a server says under /metrics."""
    name = st.sampled_from(["num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"])
    figure = st.floats().map(str) | st.sampled_from(["1e+-", "1e999", "-1e999", "1e308", "--", "9" * 400, "0.5"])
    line = st.tuples(name, figure).map(lambda drawn: f'vllm:{drawn[0]}{{engine="0"}} {drawn[1]}\n'.encode())
    return st.lists(line, max_size=6).map(b"".join)


def sound_files(scratch: Path) -> dict[str, list[bytes]]:
    """Files as they should be, by what they are, made below `scratch`."""
    rows: list[dict[str, object]] = [
        {"prompt": "What is rain?", "answer": "water", "language": "en"},
        {"messages": [{"role": "user", "content": "é🏔"}]},
    ]
    answers: list[dict[str, object]] = [
        {"text": "again and " * 90, "finish_reason": "length", "model": "m", "prompt": "p", "token_ids": [1, 2]}
    ]
    prompt = Prompt("p", "file", (Message(Role.USER, "What?"),), constraints=(Constraint("a:b", "{}"),))
    reply = {
        "choices": [{"message": {"content": "7"}, "finish_reason": "stop", "token_ids": [55]}],
        "usage": {"prompt_tokens": 3},
    }
    time = datetime(2026, 1, 1, tzinfo=UTC)
    part = PartFile(path="round=0/pairs/part-00000.parquet", sha256="0" * 64, rows=1, size=9)
    record = StageRecord(
        stage="pairs", shard=0, fingerprint="f", inputs=[part], outputs=[part], started=time, ended=time,
        requests=0, notes={"a": 1.0}, versions={"prefactory": "0"},
    )  # fmt: skip
    origin = Provenance(models={"policy": "d"}, rubrics={}, sources={}, detector="1")
    manifest = RunManifest(
        name="n", created=time, updated=time, identity={"seed": "7"}, provenance=origin,
        prompts=1, shards=1, pairs=1, dropped={}, seconds={},
    )  # fmt: skip
    gold = {"prompt": "p", "output_1": "a", "output_2": "b", "better": 1}
    store.write_part(scratch / "part.parquet", Table.PROMPTS, [prompt])
    return {
        "recipes": [path.read_bytes() for path in sorted(RECIPES.glob("*.yaml"))],
        "prompts": [_lines(rows), _lines(rows[:1])],
        "answers": [_lines(answers), gzip.compress(_lines(answers)), _parquet(answers)],
        "parquet": [_parquet([{"prompt": "a", "answer": None}] * 9), _parquet(rows[1:])],
        "saved": _saved(scratch),
        "records": [record.sealed().encode(), manifest.model_dump_json().encode()],
        "parts": [(scratch / "part.parquet").read_bytes()],
        "replies": [json.dumps(reply).encode(), json.dumps({"data": [{"probs": [0.5]}]}).encode()],
        "gold": [_lines([gold]), _lines([{"instruction": "p", "chosen": "a", "rejected": "b"}])],
        "weights": [json.dumps({"weights": {"clarity": 1.0, "helpfulness": 0.5}}).encode()],
    }


def _lines(rows: Sequence[Mapping[str, object]]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def _parquet(rows: Sequence[Mapping[str, object]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), sink)
    return sink.getvalue()


def _saved(scratch: Path) -> list[bytes]:
    """What a dataset that `datasets` saved is made of, Arrow file and descriptions."""
    from datasets import Dataset, disable_progress_bars  # takes seconds, and one reader of many wants it

    disable_progress_bars()
    Dataset.from_list([{"prompt": "a"}]).save_to_disk(str(scratch / "saved"))
    return [path.read_bytes() for path in sorted((scratch / "saved").iterdir())]
