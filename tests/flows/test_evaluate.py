"""The verb `evaluate` against servers that answer by rule: what it asks, what it keeps, what it says.

prefactory evaluate RECIPE                         the recipe's own policy
prefactory evaluate RECIPE fake-model later@URL    a later checkpoint beside it
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from factory import store
from factory.run import RunFolder
from schemas.rows import Loop, Prompt, Rollout, Verdict
from tests.conftest import Command, RecipeWriter
from tests.fake_engine import COMPLETIONS, DETOKENIZE, Body, FakeEngine, dies_after

HELD_OUT = (
    {"prompt": "[loops] What does a mill do?"},
    {"prompt": "[capped] Tell me of the sea."},
    {"prompt": "[ends] How many legs has a spider?", "answer": "8"},
    {"prompt": "[ends] Describe a gull without commas.", "constraints": [{"id": "punctuation:no_comma", "kwargs": {}}]},
    *({"prompt": f"What is the use of object {number}?"} for number in range(8)),
)
CAPS = [60, 300]


@pytest.fixture
def later() -> Iterator[FakeEngine]:
    with FakeEngine(model="later") as engine:
        yield engine


@pytest.fixture
def recipe(write_recipe: RecipeWriter) -> Path:
    return evaluated_recipe(write_recipe)


def evaluated_recipe(write_recipe: RecipeWriter, **changes: object) -> Path:
    folder = write_recipe.folder
    (folder / "kept.jsonl").write_text("".join(json.dumps(row) + "\n" for row in HELD_OUT), encoding="utf-8")
    (folder / "prose.txt").write_text("It rained. \n\nThen the sun came out.\n", encoding="utf-8")
    section = {"paths": ["kept.jsonl"], "prose": "prose.txt", "max_tokens": CAPS, "verifiers": []}
    return write_recipe({"evaluation": section | changes})


def document(prefactory: Command, *words: object) -> Body:
    ended = prefactory("evaluate", *words, "--json")
    assert ended.code == 0, ended.err
    read: Body = json.loads(ended.out)
    return read


def folder_of(recipe: Path) -> Path:
    (root,) = (recipe.parent / "runs" / "small" / "evaluation").iterdir()
    return root


def test_evaluate_one_checkpoint_counts_every_answer_at_every_cap(
    prefactory: Command, write_recipe: RecipeWriter
) -> None:
    recipe = evaluated_recipe(write_recipe, verifiers=["math_answer", "constraints"])
    (figures,) = document(prefactory, recipe)["figures"]
    keys = [(one["decoding"], one["max_tokens"], one["answers"]) for one in figures["answers"]]
    assert keys == [("greedy", 60, 12), ("sampled", 60, 12), ("greedy", 300, 12), ("sampled", 300, 12)]
    for one in figures["answers"]:
        assert one["hard"]["of"] == one["ended"]["of"] == 12
        assert one["accuracy"]["of"] == 2
        assert one["tokens"][0] <= one["max_tokens"]
    looped = [one["hard"]["hits"] for one in figures["answers"] if one["decoding"] == "greedy"]
    assert looped[1] >= max(1, looped[0])


def test_evaluate_prose_gives_the_perplexity_that_the_server_says(prefactory: Command, recipe: Path) -> None:
    (figures,) = document(prefactory, recipe)["figures"]
    letters, blanks = len("It rained.") + len("Then the sun came out.") - 2, 1 + 4
    bits = (letters - blanks) + 2 * blanks
    assert figures["perplexity"] == pytest.approx(2 ** (bits / letters))
    assert figures["bits_per_byte"] == pytest.approx(bits / (letters + 2))


def test_evaluate_cuts_ids_and_text_where_the_smaller_cap_would_have(prefactory: Command, recipe: Path) -> None:
    assert prefactory("evaluate", recipe).code == 0
    run = RunFolder(folder_of(recipe))
    whole = {row.rollout_id: row for row in run.read_rows(Rollout, 0)}
    cut = store.read_part(run.measured_path("rollouts-60.parquet"), Rollout)
    assert len(cut) == len(whole)
    assert any(row.finish_reason == "length" for row in cut)
    for row in cut:
        long = whole[row.rollout_id]
        assert long.token_ids is not None
        assert row.token_ids == long.token_ids[:60]
        assert row.answer == long.answer[:60]
        assert row.finish_reason == ("length" if len(long.token_ids) > 60 else long.finish_reason)


def test_evaluate_twice_sends_nothing_the_second_time(
    prefactory: Command, recipe: Path, fake_engine: FakeEngine
) -> None:
    first = document(prefactory, recipe)
    asked = len(fake_engine.seen)
    assert document(prefactory, recipe) == first
    assert len(fake_engine.seen) == asked


def test_evaluate_cut_off_keeps_what_was_paid_for(
    prefactory: Command, recipe: Path, fake_engine: FakeEngine, unhurried: list[float]
) -> None:
    fake_engine.faults = dies_after(15)
    assert prefactory("evaluate", recipe).code == 1
    fake_engine.faults = lambda _: None
    fake_engine.seen.clear()
    document(prefactory, recipe)
    answers = [seen for seen in fake_engine.questions if not seen.is_judging]
    assert len(answers) <= 2 * len(HELD_OUT) - 15


def test_evaluate_asks_each_question_once_and_spells_only_what_is_longer(
    prefactory: Command, recipe: Path, fake_engine: FakeEngine
) -> None:
    document(prefactory, recipe)
    answered = [seen for seen in fake_engine.questions if not seen.is_judging]
    assert len(answered) == 2 * len(HELD_OUT)
    assert {seen.body["max_tokens"] for seen in answered} == {300}
    assert not any("repetition_detection" in seen.body for seen in answered)
    rows = RunFolder(folder_of(recipe)).read_rows(Rollout, 0)
    spelt = [seen for seen in fake_engine.seen if seen.path == DETOKENIZE]
    assert len(spelt) == sum(len(row.token_ids or ()) > 60 for row in rows)
    assert len([seen for seen in fake_engine.seen if seen.path == COMPLETIONS]) == 2


def test_evaluate_two_checkpoints_compares_the_second_with_the_first(
    prefactory: Command, recipe: Path, later: FakeEngine
) -> None:
    found = document(prefactory, recipe, "fake-model", f"later@{later.url}")
    (against,) = found["against"]
    assert against["checkpoint"] == "later"
    assert len(against["compared"]) == 4
    for one in against["compared"]:
        assert sum(one["loops"][name] for name in ("both", "before", "after", "neither")) == 12
        assert (one["wins"] is None) == (one["max_tokens"] == 60)
    last = against["compared"][-1]
    assert last["wins"]["win_rate"]["of"] <= last["wins_with_loops"]["win_rate"]["of"] <= 12


def test_evaluate_judges_every_checkpoint_by_the_recipes_policy(
    prefactory: Command, recipe: Path, fake_engine: FakeEngine, later: FakeEngine
) -> None:
    document(prefactory, recipe, f"later@{later.url}")
    assert not any(seen.is_judging for seen in later.questions)
    rows = RunFolder(folder_of(recipe)).read_rows(Verdict, 0)
    assert len([seen for seen in fake_engine.questions if seen.is_judging]) == sum(row.calls for row in rows) > 0


def test_evaluate_without_judging_asks_no_judge_and_shuts_the_gate_on_wins(
    prefactory: Command, write_recipe: RecipeWriter, fake_engine: FakeEngine, later: FakeEngine
) -> None:
    recipe = evaluated_recipe(write_recipe, judged=False)
    found = document(prefactory, recipe, "fake-model", f"later@{later.url}")
    assert not any(seen.is_judging for seen in fake_engine.questions)
    (against,) = found["against"]
    assert "win_rate" in {one["bound"] for one in against["tripped"]}


def test_evaluate_prompt_that_the_run_trained_on_counts_in_no_figure(
    prefactory: Command, write_recipe: RecipeWriter
) -> None:
    recipe = evaluated_recipe(write_recipe)
    write_recipe.folder.joinpath("prompts.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in ({"prompt": "Why is grass green?"}, HELD_OUT[0])), encoding="utf-8"
    )
    assert prefactory("rollout", recipe).code == 0
    (figures,) = document(prefactory, recipe)["figures"]
    assert (figures["prompts"], figures["left_out"]) == (11, 1)
    assert {one["hard"]["of"] for one in figures["answers"]} == {11}


def test_evaluate_before_the_run_does_not_take_its_folder(prefactory: Command, recipe: Path) -> None:
    assert prefactory("evaluate", recipe).code == 0
    assert prefactory("sample", recipe).code == 0


def test_evaluate_with_other_settings_is_refused_and_goes_elsewhere_with_out(
    prefactory: Command, write_recipe: RecipeWriter, tmp_path: Path
) -> None:
    assert prefactory("evaluate", evaluated_recipe(write_recipe)).code == 0
    warmer = evaluated_recipe(write_recipe, temperature=1.5)
    refused = prefactory("evaluate", warmer)
    assert refused.code == 2
    assert "temperature" in refused.error
    assert "--out" in refused.error
    assert prefactory("evaluate", warmer, "--out", tmp_path / "warmer").code == 0


def test_evaluate_one_checkpoint_twice_is_refused(prefactory: Command, recipe: Path, fake_engine: FakeEngine) -> None:
    refused = prefactory("evaluate", recipe, "fake-model", f"fake-model@{fake_engine.url}")
    assert refused.code == 2
    assert "name each once" in refused.error
    assert not fake_engine.seen


def test_evaluate_server_without_a_name_is_refused(prefactory: Command, recipe: Path) -> None:
    assert "NAME@URL" in prefactory("evaluate", recipe, "http://127.0.0.1:9/v1").error


def test_evaluate_leaves_the_run_and_its_own_folder_such_that_verify_passes(prefactory: Command, recipe: Path) -> None:
    assert prefactory("run", recipe, "--plain").code == 0
    assert prefactory("evaluate", recipe).code == 0
    assert prefactory("verify", recipe.parent / "runs" / "small").code == 0
    assert prefactory("query", folder_of(recipe), "SELECT count(*) FROM rollouts").code == 0


def test_evaluate_shows_one_table_with_where_the_answers_lie(
    prefactory: Command, recipe: Path, later: FakeEngine
) -> None:
    ended = prefactory("evaluate", recipe, "fake-model", f"later@{later.url}")
    assert ended.code == 0
    for shown in ("hard loops", "distinct-1", "wins, a loop loses", "perplexity", "gates", "evaluation/"):
        assert shown in ended.out
    (root, _) = sorted((recipe.parent / "runs" / "small" / "evaluation").iterdir())
    assert json.loads(RunFolder(root).measured_path("figures.json").read_text())["figures"]["prompts"] == 12
    assert any(row.loop is Loop.HARD for row in RunFolder(root).read_rows(Rollout, 0))
    assert len(RunFolder(root).read_rows(Prompt, 0)) == 12


def test_evaluate_stopped_loops_count_as_long_as_the_cap(prefactory: Command, write_recipe: RecipeWriter) -> None:
    recipe = evaluated_recipe(write_recipe, stop_loops=True)
    (figures,) = document(prefactory, recipe)["figures"]
    rows = [row for row in RunFolder(folder_of(recipe)).read_rows(Rollout, 0) if row.slot == "greedy"]
    stopped = [row for row in rows if row.finish_reason == "repetition"]
    assert stopped
    lengths = [300 if row in stopped else len(row.token_ids or ()) for row in rows]
    greedy = next(one for one in figures["answers"] if (one["decoding"], one["max_tokens"]) == ("greedy", 300))
    assert greedy["tokens"][0] == pytest.approx(sum(lengths) / len(lengths))
