"""Rounds above the first: fresh prompts, an identity of their own, and what may not differ between them.

opened = open_run(round_recipe(recipe, checkpoint), progress, round_=1)
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.ledger.identity import Stage
from factory.ledger.rounds import round_recipe, taken
from factory.looking import queries
from factory.looking.figures import tally
from factory.progress import Silent
from factory.prompts import collect
from factory.recipes.recipe_file import read_recipe
from factory.run import RunFolder
from schemas.errors import DriftError, Fixable, UsedUp
from schemas.recipe import ModelRef, NearDuplicates, Prompts, Source
from schemas.tables import Table
from tests.conftest import Command, RecipeWriter
from tests.fake_engine import FakeEngine
from tests.runs import make, make_later


@pytest.fixture
def later() -> Iterator[ModelRef]:
    """The checkpoint that answers a later round."""
    with FakeEngine(model="next-model") as engine:
        yield ModelRef(model="next-model", urls=[engine.url])


class Said(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def file_of(folder: Path, name: str, texts: Sequence[str]) -> Source:
    path = folder / name
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts), encoding="utf-8")
    return Source(path=path)


def took(prompts: Prompts, before: Mapping[str, int], progress: Silent | None = None) -> list[str]:
    return [prompt.prompt_id for prompt in collect(prompts, 3, progress or Silent(), taken=before).prompts]


def rounds_of(prompts: Prompts, count: int) -> list[list[str]]:
    found: list[list[str]] = []
    for _ in range(count):
        ids = [prompt_id for one in found for prompt_id in one]
        found.append(took(prompts, {prompt_id: ids.count(prompt_id) for prompt_id in ids}))
    return found


def test_collect_later_rounds_take_what_no_earlier_one_took(tmp_path: Path) -> None:
    source = file_of(tmp_path, "a.jsonl", [f"Question {number}?" for number in range(12)])

    found = rounds_of(Prompts(sources=[source], sample=4), 3)

    ids = [prompt_id for one in found for prompt_id in one]
    assert [len(one) for one in found] == [4, 4, 4]
    assert len(set(ids)) == 12


def test_collect_source_that_grew_gives_its_new_prompts_wherever_they_stand(tmp_path: Path) -> None:
    old = file_of(tmp_path, "a.jsonl", ["One?", "Two?"])
    first = took(Prompts(sources=[old]), {})
    grown = file_of(tmp_path, "b.jsonl", ["Three?", "Two?", "One?"])

    second = took(Prompts(sources=[grown]), dict.fromkeys(first, 1))

    assert len(second) == 1
    assert not set(first) & set(second)


def test_collect_near_duplicate_of_what_was_taken_is_not_fresh(tmp_path: Path) -> None:
    text = "Tell me in a few words how a heat pump warms a house in winter, please"
    near = NearDuplicates()
    first = took(Prompts(sources=[file_of(tmp_path, "a.jsonl", [text])], near_duplicates=near), {})
    grown = file_of(tmp_path, "b.jsonl", [text + "!", text, "What is a tree?"])

    second = took(Prompts(sources=[grown], near_duplicates=near), dict.fromkeys(first, 1))

    assert second == took(Prompts(sources=[file_of(tmp_path, "c.jsonl", ["What is a tree?"])]), {})


def test_collect_last_fresh_prompts_are_taken_and_that_is_said(tmp_path: Path) -> None:
    prompts = Prompts(sources=[file_of(tmp_path, "a.jsonl", [f"Question {number}?" for number in range(5)])], sample=4)
    progress = Said()

    second = took(prompts, dict.fromkeys(took(prompts, {}), 1), progress)

    assert len(second) == 1
    assert any("only 1 prompts are left" in line for line in progress.lines)


def test_collect_used_up_sources_are_refused_with_both_mends(tmp_path: Path) -> None:
    prompts = Prompts(sources=[file_of(tmp_path, "a.jsonl", ["One?", "Two?"])])

    with pytest.raises(UsedUp, match=r"each of 2 prompts.*prompts\.sources.*start_over"):
        took(prompts, dict.fromkeys(took(prompts, {}), 1))


@given(st.integers(1, 7), st.integers(1, 6), st.integers(1, 6))
def test_collect_starting_over_takes_each_equally_often(size: int, sample: int, rounds: int) -> None:
    counts: dict[str, int] = {}
    prompts = Prompts(sources=[Source(path=_LETTERS[size])], sample=sample, used_up="start_over")
    for _ in range(rounds):
        for prompt_id in took(prompts, counts):
            counts[prompt_id] = counts.get(prompt_id, 0) + 1

    every = [counts.get(prompt_id, 0) for prompt_id in took(Prompts(sources=[Source(path=_LETTERS[size])]), {})]
    assert max(every) - min(every) <= 1
    assert sum(every) == rounds * min(sample, size)


@pytest.fixture(autouse=True, scope="module")
def _letters(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("letters")
    for size in range(1, 8):
        path = file_of(folder, f"{size}.jsonl", [f"Letter {letter}?" for letter in "abcdefg"[:size]]).path
        assert path is not None
        _LETTERS[size] = path


_LETTERS: dict[int, Path] = {}


@pytest.fixture
def two_rounds(write_recipe: RecipeWriter, later: ModelRef) -> Path:
    """The recipe of a run with two finished rounds of 5 prompts, the second by another model."""
    recipe = write_recipe({"prompts.sample": 5})
    make(recipe, Stage.EXPORT)
    make_later(recipe, 1, later, Stage.EXPORT)
    return recipe


def root_of(recipe: Path) -> Path:
    return recipe.parent / "runs" / "small"


def test_round_above_0_has_its_own_prompts_answers_and_policy(two_rounds: Path) -> None:
    root = root_of(two_rounds)
    one, two = (RunFolder(root, number).manifest() for number in (0, 1))
    assert one is not None
    assert two is not None

    prompts = queries.ask(root, "SELECT round, count(*), count(DISTINCT prompt_id) FROM prompts GROUP BY 1 ORDER BY 1")
    models = queries.ask(root, "SELECT DISTINCT round, model_digest FROM rollouts ORDER BY 1")

    assert prompts.rows == ((0, 5, 5), (1, 5, 5))
    assert queries.ask(root, "SELECT count(DISTINCT prompt_id) FROM prompts").rows == ((10,),)
    assert models.rows == ((0, "remote:fake-model"), (1, "remote:next-model"))
    assert (one.provenance.models["policy"], two.provenance.models["policy"]) == (
        "remote:fake-model",
        "remote:next-model",
    )
    assert (one.prompts, two.prompts) == (5, 5)
    assert tally(root).prompts == 10


def test_round_above_0_is_judged_by_the_model_that_judged_the_first(two_rounds: Path) -> None:
    second = RunFolder(root_of(two_rounds), 1).manifest()

    assert second is not None
    assert second.provenance.models["helpfulness"] == "remote:fake-model"


def test_round_seeds_differ_between_rounds_of_one_prompt(write_recipe: RecipeWriter, later: ModelRef) -> None:
    recipe = write_recipe({"prompts.used_up": "start_over"}, [{"prompt": "What is a tree?"}])
    make(recipe, Stage.ROLLOUTS)
    make_later(recipe, 1, later, Stage.ROLLOUTS)

    found = queries.ask(
        root_of(recipe), "SELECT count(*), count(DISTINCT seed), count(DISTINCT rollout_id) FROM rollouts"
    )

    assert found.rows == ((12, 12, 12),)


def test_round_exports_lie_apart_and_hold_their_own_pairs(two_rounds: Path) -> None:
    root = root_of(two_rounds)
    exports = [RunFolder(root, number).export_path("trl") for number in (0, 1)]

    for number, folder in enumerate(exports):
        files = ", ".join(f"'{path}'" for path in sorted(folder.glob("data/*.parquet")))
        exported = queries.ask(root, f"SELECT prompt_id FROM read_parquet([{files}]) ORDER BY 1").rows
        assert exported == queries.ask(root, f"SELECT prompt_id FROM pairs WHERE round = {number} ORDER BY 1").rows


def test_verify_looks_at_every_round_and_repairs_the_one_at_fault(two_rounds: Path, prefactory: Command) -> None:
    root = root_of(two_rounds)
    sound = prefactory("verify", root)
    part = RunFolder(root, 1).part_path(Table.PAIRS, 0)
    before = part.read_bytes()
    part.write_bytes(before[:-3])

    broken = prefactory("verify", root, "--json")
    mended = prefactory("verify", root, "--repair")

    assert sound.code == 0, sound.out
    (fault,) = json.loads(broken.out)["faults"]
    assert (fault["file"], fault["round"]) == ("round=1/pairs/part-00000.parquet", 1)
    assert mended.code == 0, mended.out + mended.err
    assert part.read_bytes() == before


def test_verify_prompt_that_an_earlier_round_took_is_a_fault(two_rounds: Path, prefactory: Command) -> None:
    root = root_of(two_rounds)
    first, second = RunFolder(root), RunFolder(root, 1)
    part = first.part_path(Table.PROMPTS, 0)
    record = second.record("prompts", 0)
    assert record is not None
    second.part_path(Table.PROMPTS, 0).write_bytes(part.read_bytes())
    forged = second.file(second.part_path(Table.PROMPTS, 0), 5)
    second.write_record(record.model_copy(update={"outputs": [forged]}))

    ended = prefactory("verify", root)

    assert ended.code == 2
    assert "was taken by an earlier round" in ended.out


def test_round_whose_earlier_prompts_changed_is_a_fault(two_rounds: Path, prefactory: Command) -> None:
    root = root_of(two_rounds)
    record = RunFolder(root).record("prompts", 0)
    assert record is not None
    changed = record.outputs[0].model_copy(update={"sha256": "0" * 64})
    RunFolder(root).write_record(record.model_copy(update={"outputs": [changed]}))

    ended = prefactory("verify", root, "--json")

    assert {fault["round"] for fault in json.loads(ended.out)["faults"]} == {0, 1}


def test_round_by_another_recipe_than_the_first_is_refused_with_the_field(
    write_recipe: RecipeWriter, later: ModelRef
) -> None:
    make(write_recipe({"prompts.sample": 5}), Stage.PROMPTS)

    with pytest.raises(DriftError, match=r"rollouts\.max_tokens: 400 -> 300"):
        make_later(write_recipe({"prompts.sample": 5, "rollouts.max_tokens": 300}), 1, later, Stage.PROMPTS)


def test_round_without_the_one_before_it_is_refused(write_recipe: RecipeWriter, later: ModelRef) -> None:
    with pytest.raises(Fixable, match="round 0 has no prompts yet"):
        make_later(write_recipe(), 1, later, Stage.PROMPTS)


def test_round_made_again_sends_nothing(two_rounds: Path, later: ModelRef) -> None:
    _, sent = make_later(two_rounds, 1, later, Stage.EXPORT)

    assert sent == 0


def test_taken_counts_only_the_rounds_before(two_rounds: Path) -> None:
    root = root_of(two_rounds)

    assert [len(taken(RunFolder(root, number))) for number in (0, 1, 2)] == [0, 5, 10]


def test_round_recipe_names_the_first_policy_for_judges_without_a_model(write_recipe: RecipeWriter) -> None:
    recipe = read_recipe(write_recipe())
    later = round_recipe(recipe, ModelRef(model="other"))

    assert round_recipe(recipe, None) is recipe
    assert later.policy == ModelRef(model="other")
    assert [seat.model for seat in later.jury.judges] == [recipe.policy] * 3
