"""Which prompts count as trained on, and the recipe by which a checkpoint is evaluated."""

import json
from pathlib import Path

import pytest

from factory.evaluation.evaluating import cut_at
from factory.evaluation.held_out import known, trained_prompts
from factory.evaluation.recipe import checkpoint_of, evaluation_recipe, passages_of, prompt_files
from factory.recipes.recipe_file import identity, read_recipe
from schemas.errors import RecipeError
from schemas.evaluation import Evaluation
from schemas.recipe import ModelRef, Recipe
from tests.conftest import RecipeWriter
from tests.samples import a_prompt, a_rollout

TWENTY = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"


@pytest.mark.parametrize(
    ("asked", "trained"),
    [
        ("What is the capital of France?", True),
        ("what is the capital of france", True),
        ("What is the capital city of Peru and why?", False),
        (f"Read this. {TWENTY}", True),
        ("Entirely different words stand here.", False),
    ],
)
def test_known_prompt_is_one_with_the_same_words_or_thirteen_of_them_in_a_row(asked: str, trained: bool) -> None:
    theirs = [a_prompt("t0"), a_prompt("t1", f"Count with me: {TWENTY}!")]
    assert known([a_prompt("h", asked)], theirs) == ({"h"} if trained else frozenset())


def test_known_same_id_counts_whatever_the_words() -> None:
    assert known([a_prompt("same", "These words.")], [a_prompt("same", "Those others.")]) == {"same"}


def test_known_two_held_out_prompts_that_are_alike_are_both_found() -> None:
    held = [a_prompt("h0"), a_prompt("h1", "What is the capital of france ?")]
    assert known(held, [a_prompt("t")]) == {"h0", "h1"}


def test_known_without_a_run_is_nothing(tmp_path: Path) -> None:
    assert trained_prompts(tmp_path / "none") == []
    assert known([a_prompt()], []) == frozenset()


@pytest.fixture
def recipe(write_recipe: RecipeWriter) -> Recipe:
    return read_recipe(write_recipe())


def test_evaluation_recipe_of_two_checkpoints_differs_in_name_and_policy_alone(recipe: Recipe, tmp_path: Path) -> None:
    first, second = (
        evaluation_recipe(recipe, ModelRef(model=name), digest * 64, tmp_path)
        for name, digest in (("one", "a"), ("two", "b"))
    )
    changed = {field for field, value in identity(first).items() if identity(second)[field] != value}
    assert changed == {"policy.model"}
    assert [seat.model for seat in second.jury.judges] == [recipe.policy] * 3


def test_evaluation_recipe_knows_nothing_of_the_runs_rollouts(write_recipe: RecipeWriter, tmp_path: Path) -> None:
    made = [
        evaluation_recipe(
            read_recipe(write_recipe({"rollouts.max_tokens": cap})), ModelRef(model="m"), "a" * 64, tmp_path
        )
        for cap in (100, 300)
    ]
    assert made[0] == made[1]


def test_evaluation_section_is_no_part_of_the_runs_identity(write_recipe: RecipeWriter) -> None:
    assert identity(read_recipe(write_recipe())) == identity(read_recipe(write_recipe({"evaluation.samples": 3})))


def test_evaluation_recipe_cap_beyond_the_context_is_refused_before_a_server_starts(
    write_recipe: RecipeWriter, tmp_path: Path
) -> None:
    small = read_recipe(write_recipe({"machine.max_model_len": 512}))
    with pytest.raises(RecipeError, match=r"evaluation\.max_tokens 1024"):
        evaluation_recipe(small, ModelRef(model="m"), "a" * 64, tmp_path)


@pytest.mark.parametrize("caps", [[], [0], [512, 256], [256, 256]])
def test_evaluation_caps_rise_and_are_there_once(write_recipe: RecipeWriter, caps: list[int]) -> None:
    with pytest.raises(RecipeError, match="max_tokens"):
        read_recipe(write_recipe({"evaluation.max_tokens": caps}))


@pytest.mark.parametrize("field", ["paths", "prose"])
def test_evaluation_file_that_is_not_there_is_refused_with_its_field(write_recipe: RecipeWriter, field: str) -> None:
    value: object = ["gone.jsonl"] if field == "paths" else "gone.txt"
    with pytest.raises(RecipeError, match=rf"evaluation\.{field}.*gone"):
        read_recipe(write_recipe({f"evaluation.{field}": value}))


def test_checkpoint_words_are_read_as_what_they_name(recipe: Recipe, tmp_path: Path) -> None:
    assert checkpoint_of("fake-model", recipe) == recipe.policy
    assert checkpoint_of(str(tmp_path), recipe).model == str(tmp_path)
    assert checkpoint_of("owner/name", recipe) == ModelRef(model="owner/name")
    served = checkpoint_of("later@http://127.0.0.1:8000/v1/", recipe)
    assert (served.model, served.urls) == ("later", ["http://127.0.0.1:8000/v1"])


@pytest.mark.parametrize(("host", "key"), [("policy.example", "A_KEY"), ("elsewhere.example", None)])
def test_checkpoint_policys_key_goes_to_the_policys_own_servers_only(
    recipe: Recipe, host: str, key: str | None
) -> None:
    policy = ModelRef(model="m", urls=["https://policy.example/v1"], api_key_env="A_KEY")
    found = checkpoint_of(f"later@https://{host}/v1", recipe.model_copy(update={"policy": policy}))
    assert found.api_key_env == key


@pytest.mark.parametrize("word", ["http://h/v1", "@http://h/v1", "m@ftp://h/v1", "m@http://name:word@h/v1"])
def test_checkpoint_address_that_is_none_is_refused(recipe: Recipe, word: str) -> None:
    with pytest.raises(RecipeError, match="NAME@URL"):
        checkpoint_of(word, recipe)


def test_passages_of_a_text_without_any_are_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text(" \n\n \n")
    with pytest.raises(RecipeError, match=r"empty\.txt: holds no text"):
        passages_of(Evaluation(prose=empty))


def test_shipped_prompts_and_prose_are_what_is_asked_unless_others_are_named(tmp_path: Path) -> None:
    own = tmp_path / "own.jsonl"
    own.write_text(json.dumps({"prompt": "Why?"}))
    assert len(prompt_files(Evaluation())) == 13
    assert prompt_files(Evaluation(paths=[own])) == [own]
    assert len(passages_of(Evaluation())) == 8


def test_cut_answer_loses_half_a_character_as_the_engine_would() -> None:
    row = a_rollout(text="naïve 🌧 rain")
    assert cut_at(row, 3, "naïve \ufffd").text == "naïve "
    assert cut_at(row, 3, "naïve").text == "naïve"
    assert cut_at(row, 3, "naïve").finish_reason == "length"


def test_cut_answer_keeps_reasoning_apart() -> None:
    row = a_rollout(text="<think>why</think>So")
    cut = cut_at(row, 3, "<think>wh")
    assert (cut.reasoning, cut.text) == ("<think>wh", "")
