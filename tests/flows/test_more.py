"""Runs that add rounds: each takes the prompts that no earlier one took.

prefactory run RECIPE --more
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from factory.looking import queries
from factory.recipes.recipe_file import read_recipe
from factory.run import RunFolder, run_folder
from flows.cli import main
from tests.conftest import PROMPTS, Command, RecipeWriter
from tests.fake_engine import FakeEngine

MORE = ("--plain", "--more")
NEW: Sequence[dict[str, object]] = tuple(
    {"prompt": f"Write a sentence about the letter {letter}."} for letter in "abcd"
)


def ids(root: Path, table: str = "prompts") -> list[tuple[int, str]]:
    found = queries.ask(root, f"SELECT round, prompt_id FROM {table} ORDER BY ALL").rows
    return [(int(str(round_)), str(prompt_id)) for round_, prompt_id in found]


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RecipeWriter, Path]]:
    """Two rounds of a source that grew between them; no test may change them."""
    with FakeEngine() as engine:
        write = RecipeWriter(tmp_path_factory.mktemp("grown"), engine.url)
        with pytest.MonkeyPatch.context() as patch:
            for prompts in (PROMPTS, [*NEW, *PROMPTS]):
                patch.setattr("sys.argv", ["prefactory", "run", str(write(prompts=prompts)), *MORE])
                with pytest.raises(SystemExit) as ended:
                    main()
                assert not ended.value.code
        yield write, run_folder(read_recipe(write.folder / "recipe.yaml"))


def test_more_takes_only_what_no_earlier_round_took(grown: tuple[RecipeWriter, Path]) -> None:
    _, root = grown
    found = ids(root)

    assert [round_ for round_, _ in found] == [0] * len(PROMPTS) + [1] * len(NEW)
    assert len({prompt_id for _, prompt_id in found}) == len(found)
    assert sorted([*ids(root, "pairs"), *ids(root, "dropped")]) == found


def test_more_exports_each_round_for_itself(grown: tuple[RecipeWriter, Path]) -> None:
    _, root = grown

    assert all((RunFolder(root, number).export_path("trl") / "README.md").exists() for number in (0, 1))


def test_more_leaves_a_run_that_verify_finds_whole(grown: tuple[RecipeWriter, Path], prefactory: Command) -> None:
    ended = prefactory("verify", grown[1])

    assert ended.code == 0, ended.out


def test_more_rounds_are_paired_and_exported_again_though_the_source_grew(
    grown: tuple[RecipeWriter, Path], prefactory: Command
) -> None:
    write, root = grown
    before = ids(root, "pairs")

    for verb in ("pair", "export"):
        ended = prefactory(verb, write.folder / "recipe.yaml")
        assert ended.code == 0, ended.err
    assert ids(root, "pairs") == before


def test_more_without_new_prompts_is_nothing_to_do_and_no_failure(
    grown: tuple[RecipeWriter, Path], prefactory: Command
) -> None:
    write, root = grown
    ended = prefactory("run", write.folder / "recipe.yaml", *MORE)

    assert ended.code == 0, ended.err
    assert ended.out.startswith("Nothing to do: each of 17 prompts was taken by an earlier round")
    assert not (root / "round=2").exists()
    assert prefactory("verify", root).code == 0


def test_more_with_too_few_new_prompts_waits_for_more_of_them(
    write_recipe: RecipeWriter, prefactory: Command, fake_engine: FakeEngine
) -> None:
    few = {"schedule.least_prompts": 3}
    assert prefactory("run", write_recipe(few), *MORE).code == 0
    fake_engine.seen.clear()

    too_few = prefactory("run", write_recipe(few, [*PROMPTS, *NEW[:2]]), *MORE)
    assert too_few.code == 0
    assert "`schedule.least_prompts` wants 3" in too_few.out
    assert not fake_engine.questions

    path = write_recipe(few, [*PROMPTS, *NEW])
    assert prefactory("run", path, *MORE).code == 0
    assert len(ids(run_folder(read_recipe(path)))) == len(PROMPTS) + len(NEW)


def test_more_brings_an_unfinished_round_to_its_end_though_its_source_grew(
    write_recipe: RecipeWriter, prefactory: Command
) -> None:
    halted = prefactory("run", write_recipe({"budget.max_requests": 90}), *MORE)
    assert halted.code == 2

    path = write_recipe(prompts=[*NEW, *PROMPTS])
    assert prefactory("run", path, *MORE).code == 0
    assert [round_ for round_, _ in ids(run_folder(read_recipe(path)))] == [0] * len(PROMPTS)

    assert prefactory("run", path, *MORE).code == 0
    assert [round_ for round_, _ in ids(run_folder(read_recipe(path)))] == [0] * len(PROMPTS) + [1] * len(NEW)


def test_more_is_refused_where_rounds_follow_from_trainings(write_recipe: RecipeWriter, prefactory: Command) -> None:
    path = write_recipe()
    root = run_folder(read_recipe(path))
    assert prefactory("sample", path).code == 0
    (root / "semi_online.json").write_text('{"rounds": []}')

    ended = prefactory("run", path, *MORE)

    assert ended.code == 2
    assert "`prefactory semi-online` makes the next one" in ended.error
