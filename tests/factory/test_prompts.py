"""How the prompts of a run are gathered: each once, mixed by weight, in an order that the seed decides."""

import hashlib
import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.gathering.raw_prompts import RawPrompt
from factory.progress import Silent
from factory.prompts import Collected, SourceCounts, collect, normalise, prompt_id, quotas, source_digests, source_names
from judges.registry import find_verifier
from schemas.chat import Message, Role
from schemas.errors import SourceError
from schemas.recipe import Decontaminate, NearDuplicates, Prompts, Source

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("PREFACTORY_SHARED", ROOT.parent / "shared"))


def file_of(folder: Path, name: str, *rows: str | dict[str, object], weight: float = 1.0) -> Source:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"prompt": row} if isinstance(row, str) else row) + "\n" for row in rows)
    path.write_text("".join(lines))
    return Source(path=path, weight=weight)


def said(collected: Collected) -> list[str]:
    return [prompt.messages[-1].content for prompt in collected.prompts]


def user(text: str) -> tuple[Message, ...]:
    return (Message(Role.USER, text),)


def test_collect_small_run_looks_like_this(tmp_path: Path) -> None:
    sources = [
        file_of(tmp_path, "a.jsonl", "One?", "Two?", " One?\r\n"),
        file_of(tmp_path, "b.jsonl", "Two?", "Three?"),
    ]

    collected = collect(Prompts(sources=sources), 0, Silent())

    assert sorted((prompt.source, prompt.messages[0].content) for prompt in collected.prompts) == [
        ("a", "One?"),
        ("a", "Two?"),
        ("b", "Three?"),
    ]
    assert collected.counts == (SourceCounts("a", 3, 1, 0, 0, 0, 2), SourceCounts("b", 2, 1, 0, 0, 0, 1))


def test_collect_prompt_that_a_verifier_could_never_check_is_refused(tmp_path: Path) -> None:
    misspelt: dict[str, object] = {"prompt": "Two?", "constraints": [{"id": "punctuation:no_coma"}]}
    prompts = Prompts(sources=[file_of(tmp_path, "a.jsonl", "One?", misspelt)])

    assert len(collect(prompts, 0, Silent(), [find_verifier("language")]).prompts) == 2
    said = (
        r"a\.jsonl:2: constraints\.0\.id: got 'punctuation:no_coma'; write 'punctuation:no_comma'; or leave constraints"
    )
    with pytest.raises(SourceError, match=said):
        collect(prompts, 0, Silent(), [find_verifier("language"), find_verifier("constraints")])


def test_prompt_id_is_pinned() -> None:
    """Ids stand in stored tables and in other people's data: another value is another format."""
    assert prompt_id(user(" Hi\r\n"), None) == hashlib.sha256(b'[[["user","Hi"]],null]').hexdigest()[:32]


@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from([" ", "\n", "\r\n\t", "\u3000"]))
def test_prompt_id_composition_line_ends_and_outer_whitespace_are_nothing(text: str, outside: str) -> None:
    variants = [unicodedata.normalize("NFD", text), outside + text, text + outside, text.replace("\n", "\r\n")]

    assert {prompt_id(user(variant), None) for variant in variants} == {prompt_id(user(text), None)}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (user("a"), user("A")),
        (user("a b"), user("a  b")),
        (user("a"), (Message(Role.TOOL, "a"),)),
        (user("a"), (Message(Role.SYSTEM, "s"), *user("a"))),
        (user("a") + user("b"), user("b") + user("a")),
        (user("a") + user("b"), user('a"],["user","b')),
    ],
)
def test_prompt_id_another_conversation_is_another_id(one: tuple[Message, ...], other: tuple[Message, ...]) -> None:
    assert prompt_id(one, None) != prompt_id(other, None)


def test_prompt_id_tools_count_but_their_layout_does_not() -> None:
    plain = prompt_id(user("a"), None)

    assert prompt_id(user("a"), '[{"x": 1, "y": 2}]') == prompt_id(user("a"), '[{"y":2,"x":1}]') != plain


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_normalise_id_is_that_of_what_is_stored(text: str) -> None:
    prompt = normalise(RawPrompt("x:1", user(text), tools='[{"b": 1, "a": 2}]'), "x")

    assert prompt_id(prompt.messages, prompt.tools) == prompt.prompt_id
    assert normalise(RawPrompt("x:1", prompt.messages, tools=prompt.tools), "x") == prompt
    assert prompt.tools == '[{"b": 1, "a": 2}]'


@given(
    st.lists(st.tuples(st.integers(0, 40), st.floats(0.01, 100)), min_size=1, max_size=6),
    st.integers(0, 100),
)
def test_quotas_always_fill_up_and_never_ask_for_more_than_there_is(
    pools: list[tuple[int, float]], sample: int
) -> None:
    sizes, weights = [size for size, _ in pools], [weight for _, weight in pools]

    shares = quotas(sizes, weights, sample)

    assert sum(shares) == min(sample, sum(sizes))
    assert all(0 <= share <= size for share, size in zip(shares, sizes, strict=True))


@pytest.mark.parametrize(
    ("sizes", "weights", "sample", "shares"),
    [
        ([100, 100], [1, 1], 10, [5, 5]),
        ([100, 100], [3, 1], 100, [75, 25]),
        ([100, 2], [1, 1], 10, [8, 2]),
        ([100, 2, 100], [2, 5, 1], 11, [6, 2, 3]),
        ([100, 100, 100], [1, 1, 1], 10, [4, 3, 3]),
        ([3, 2], [1, 1], 10, [3, 2]),
        ([0, 5], [100, 1], 3, [0, 3]),
    ],
)
def test_quotas_follow_the_weights(sizes: list[int], weights: list[float], sample: int, shares: list[int]) -> None:
    assert quotas(sizes, weights, sample) == shares


def test_collect_sample_is_mixed_by_weight_and_filled_up(tmp_path: Path) -> None:
    many = file_of(tmp_path, "many.jsonl", *(f"m{number}" for number in range(200)), weight=1)
    few = file_of(tmp_path, "few.jsonl", *(f"f{number}" for number in range(30)), weight=3)

    small = collect(Prompts(sources=[many, few], sample=20), 0, Silent())
    large = collect(Prompts(sources=[many, few], sample=100), 0, Silent())

    assert [count.sampled for count in small.counts] == [5, 15]
    assert [count.sampled for count in large.counts] == [70, 30]
    assert set(said(small)) <= set(said(large))


def test_collect_order_mixes_the_sources_whatever_their_share(tmp_path: Path) -> None:
    many = file_of(tmp_path, "many.jsonl", *(f"m{number}" for number in range(1000)))
    few = file_of(tmp_path, "few.jsonl", *(f"f{number}" for number in range(100)))

    order = said(collect(Prompts(sources=[many, few], sample=200), 0, Silent()))

    first = sum(text[0] == "m" for text in order[:100])
    assert 30 <= first <= 70


def test_collect_seed_decides_the_sample_and_the_order(tmp_path: Path) -> None:
    prompts = Prompts(sources=[file_of(tmp_path, "a.jsonl", *map(str, range(100)))], sample=50)

    assert said(collect(prompts, 1, Silent())) == said(collect(prompts, 1, Silent()))
    assert set(said(collect(prompts, 1, Silent()))) != set(said(collect(prompts, 2, Silent())))
    everything = Prompts(sources=prompts.sources)
    assert said(collect(everything, 1, Silent())) != said(collect(everything, 2, Silent()))


def test_collect_is_the_same_in_every_process_and_for_every_order_of_rows(tmp_path: Path) -> None:
    texts = [f"{word} {number} {word}s are over there" for number in range(20) for word in ("apple", "pear", "plum")]
    forward = file_of(tmp_path, "forward/x.jsonl", *texts)
    backward = file_of(tmp_path, "backward/x.jsonl", *reversed(texts))
    program = (
        "import sys; from pathlib import Path;"
        "from factory.prompts import collect; from factory.progress import Silent;"
        "from schemas.recipe import Prompts, Source;"
        "print([p.prompt_id for p in collect(Prompts(sources=[Source(path=Path(sys.argv[1]))], sample=30,"
        " near_duplicates={'threshold': 0.95}), 7, Silent()).prompts])"
    )

    elsewhere = subprocess.run(
        [sys.executable, "-c", program, str(forward.path)],
        env={"PYTHONHASHSEED": "12345"},
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    here = [
        [
            prompt.prompt_id
            for prompt in collect(
                Prompts(sources=[source], sample=30, near_duplicates=NearDuplicates(threshold=0.95)), 7, Silent()
            ).prompts
        ]
        for source in (forward, backward)
    ]

    assert here[0] == here[1]
    assert elsewhere.stdout.strip() == str(here[0])


def test_collect_near_duplicates_keep_the_first_and_need_the_same_instructions(tmp_path: Path) -> None:
    text = "Tell me in a few words how a heat pump warms a house in winter, please"
    source = file_of(
        tmp_path, "a.jsonl", text, text + "!", {"prompt": text + " .", "system": "Answer in French."}, text + " now"
    )

    collected = collect(Prompts(sources=[source], near_duplicates=NearDuplicates()), 0, Silent())

    assert sorted(said(collected)) == [text, text + " ."]
    assert collected.counts == (SourceCounts("a", 4, 0, 2, 0, 0, 2),)


def test_collect_evaluation_prompts_are_left_out(tmp_path: Path) -> None:
    long = "Natalia sold clips to 48 of her friends in April and then she sold half as many clips in May"
    evaluation = file_of(tmp_path, "evaluation.jsonl", {"prompt": long + ". How many?", "system": "You are helpful."})
    source = file_of(tmp_path, "a.jsonl", "Puzzle: " + long.lower(), {"prompt": "Hi", "system": "You are helpful."})
    assert evaluation.path

    prompts = Prompts(sources=[source], decontaminate=Decontaminate(paths=[evaluation.path]))

    assert said(collect(prompts, 0, Silent())) == ["Hi"]
    assert collect(prompts, 0, Silent()).counts[0].contaminated == 1
    with pytest.raises(SourceError, match="of 1 prompts none is left"):
        collect(prompts.model_copy(update={"sources": [evaluation]}), 0, Silent())


def test_source_names_are_unique(tmp_path: Path) -> None:
    paths = ["a/x.jsonl", "b/x.parquet", "x-2.jsonl", "v1.5", "c/x.jsonl"]
    sources = [Source(path=tmp_path / path) for path in paths] + [Source(dataset="some/x")]

    assert source_names(sources) == ("x", "x-2", "x-2-2", "v1.5", "x-3", "some/x")


def test_source_digests_follow_the_content_and_not_the_place(tmp_path: Path) -> None:
    def digests(place: str, text: str) -> dict[str, str]:
        file_of(tmp_path, f"{place}/folder/a.jsonl", "a")
        file_of(tmp_path, f"{place}/folder/b.jsonl", text)
        file_of(tmp_path, f"{place}/x.jsonl", "x")
        folder, file = tmp_path / place / "folder", tmp_path / place / "x.jsonl"
        sources = [Source(path=folder), Source(path=file)]
        return source_digests(Prompts(sources=sources, decontaminate=Decontaminate(paths=[file])))

    assert digests("here", "b") == digests("there", "b")
    assert list(digests("here", "b")) == ["folder", "x", "decontaminate/x"]
    assert [name for name, digest in digests("here", "c").items() if digest != digests("there", "b")[name]] == [
        "folder"
    ]


def test_shipped_prompts_are_all_read_and_nearly_all_distinct() -> None:
    sources = [Source(path=path) for path in sorted((ROOT / "data" / "prompts").glob("*.jsonl"))]

    collected = collect(Prompts(sources=sources, near_duplicates=NearDuplicates()), 0, Silent())

    assert len(sources) >= 5
    assert sum(count.duplicates + count.near_duplicates for count in collected.counts) == 0


def test_shipped_prompts_share_nothing_with_ifeval() -> None:
    ifeval = SHARED / "prompts" / "ifeval.jsonl"
    if not ifeval.is_file():
        pytest.skip(f"{ifeval} is not there: set PREFACTORY_SHARED to the folder that holds prompts/ifeval.jsonl")
    sources = [Source(path=path) for path in sorted((ROOT / "data" / "prompts").glob("*.jsonl"))]

    collected = collect(Prompts(sources=sources, decontaminate=Decontaminate(paths=[ifeval])), 0, Silent())

    assert sum(count.contaminated for count in collected.counts) == 0
