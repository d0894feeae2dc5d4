"""The option `--push` of the verb `export`: an export as a dataset on the Hugging Face hub.

The rule that must not break: what cannot be pushed is refused before anything is written.
"""

import typer

from factory.formats import FORMATS
from factory.hub import check_repo, push
from factory.run import RunFolder, run_folder
from flows.terminal import progress_display
from flows.waiting import turn
from schemas.errors import Fixable
from schemas.export import ExportFormat
from schemas.recipe import Recipe


def one_format(recipe: Recipe, repo: str) -> ExportFormat:
    """The format to push. Raises Fixable where the repository cannot be named so, or several formats are meant."""
    check_repo(repo)
    if len(recipe.export.formats) != 1:
        named = ", ".join(recipe.export.formats)
        raise Fixable(
            f"--push {repo}: a dataset holds one format, and these are written: {named}; name one with --format"
        )
    return recipe.export.formats[0]


def push_export(recipe: Recipe, form: ExportFormat, repo: str, *, public: bool, wait: bool) -> None:
    """Raises Fixable, HubUnavailable, StorageError."""
    folder = RunFolder(run_folder(recipe))
    with progress_display() as progress, turn(folder, progress, wait=wait):
        progress.say(f"pushing {form} to {repo}")
        pushed = push(folder, FORMATS[form], repo, public=public)
    typer.echo(f"Pushed: {pushed.url} ({pushed.files} files)")
    if pushed.removed:
        typer.echo(f"Removed there, since no push writes them any more: {', '.join(pushed.removed)}")
    if pushed.card_kept:
        typer.echo(
            "Its README.md was written on by hand, and stays; `configs` and `size_categories` in its header are new"
        )
