"""The fields of the form that Prefect shows: none of them makes another run of it."""

from typing import get_args

from factory.recipes.recipe_file import identity, read_recipe
from flows.changes import SECTIONS, Changes, changed
from schemas.export import ExportFormat
from schemas.schedule import Overlap
from tests.conftest import RecipeWriter


def test_changes_left_empty_leave_the_recipe_as_it_is(write_recipe: RecipeWriter) -> None:
    recipe = read_recipe(write_recipe())

    assert changed(recipe, Changes()) == recipe


def test_changes_reach_their_sections_and_decide_no_row(write_recipe: RecipeWriter) -> None:
    recipe = read_recipe(write_recipe())
    form = Changes(max_requests=9, concurrency=3, overlap=Overlap.SKIP, formats=[ExportFormat.KTO])

    found = changed(recipe, form)

    assert (found.budget.max_requests, found.machine.concurrency) == (9, 3)
    assert (found.schedule.overlap, found.export.formats) == (Overlap.SKIP, [ExportFormat.KTO])
    assert identity(found) == identity(recipe)


def test_changes_each_field_is_one_of_the_recipe_and_has_its_type(write_recipe: RecipeWriter) -> None:
    recipe = read_recipe(write_recipe())
    named = {name: section for section, names in SECTIONS.items() for name in names}

    assert set(named) == set(Changes.model_fields)
    for name, section in named.items():
        theirs = type(getattr(recipe, section)).model_fields[name].annotation
        kinds = set(get_args(Changes.model_fields[name].annotation)) - {type(None)}
        assert kinds <= {theirs, *get_args(theirs)}, name
