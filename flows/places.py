"""Where a run lies, as a person names it: a folder, or the URL of a run in an object store.

The rule that must not break: behind this door a run is a folder. Of one in a store it is this machine's copy, up to date with
what is small when the door opens; and what is said of it to a person names the URL again.
"""

from pathlib import Path
from typing import Annotated

import typer

from factory.gathering.sources import shown_path
from factory.objects.place import copy_of, in_urls, is_store, is_url, url_of
from factory.run import RunFolder
from schemas.errors import Fixable


def run_at(text: str) -> Path:
    """Raises Fixable, StorageError, StoreUnavailable."""
    if not is_url(text):
        return Path(text)
    if not is_store(text) or text.count("/") < 3:
        raise Fixable(f"{text}: not a place for runs; write a folder, or s3://BUCKET/RUN or gs://BUCKET/RUN")
    return RunFolder(copy_of(text)).look().root


def recipe_at(text: str) -> Path:
    """A file, or what a run in a store has kept of its own: RUN/recipe.yaml."""
    run, _, name = text.rpartition("/")
    return run_at(run) / name if is_url(text) else Path(text)


RecipePath = Annotated[
    Path,
    typer.Argument(metavar="RECIPE", help="the recipe's YAML file, for example recipes/laptop.yaml", parser=recipe_at),
]
RunPath = Annotated[
    Path,
    typer.Argument(metavar="RUN", help="a run folder, for example runs/laptop, or s3://BUCKET/RUN", parser=run_at),
]


def shown_run(path: Path) -> str:
    """A run, or what lies in it."""
    return in_urls(shown_path(path))


def refuse_store(root: Path, verb: str) -> None:
    """For what works on a disk alone. Raises Fixable."""
    if (url := url_of(root)) is not None:
        raise Fixable(
            f"{url}: `prefactory {verb}` works on a disk: fetch the run with the store's own tool "
            "(aws s3 sync, gcloud storage rsync), and name that folder"
        )
