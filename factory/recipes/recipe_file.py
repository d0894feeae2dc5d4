"""Reads a recipe file, writes the resolved form, and says what of a recipe decides the data.

The rule that must not break: a recipe is read whole or not at all. Everything that is wrong with it, and everything it
names that is not there, is said in one RecipeError before anything starts, one line for each problem.
"""

import difflib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import JsonValue, ValidationError

from factory import store
from factory.keys import looks_like_key, without_likely_keys
from factory.recipes import yaml_tree
from factory.recipes.recipe_words import explain
from factory.recipes.yaml_tree import Location, Tree, Unfit
from schemas.errors import RecipeError
from schemas.marks import MarksUse
from schemas.recipe import STORE_URL, Recipe
from schemas.section import Section

_KEY_MEND = "put the key into an environment variable, and write the variable's name as `api_key_env`"
_HOOK_MEND = "put the address into an environment variable, and write the variable's name as `webhook_env`"
_NOT_IDENTITY = frozenset(
    {
        "machine",
        "budget",
        "export",
        "train",
        "evaluation",
        "grpo",
        "semi_online",
        "schedule",
        "name",
        "urls",
        "api_key_env",
    }
)


def read_recipe(path: Path) -> Recipe:
    """The recipe with every path absolute. Raises RecipeError with one line for each problem in the file.

    Paths in the recipe start from its own folder, `machine.runs` from the working folder.
    """
    recipe = _parsed(path, _Names(path.parent.resolve()).settle)
    _refuse_prices_of_others(recipe, path)
    if isinstance(recipe.machine.runs, str):
        return recipe
    runs = _absolute(Path.cwd(), str(recipe.machine.runs))
    return recipe.model_copy(update={"machine": recipe.machine.model_copy(update={"runs": runs})})


def _refuse_prices_of_others(recipe: Recipe, path: Path) -> None:
    """A name that is no model's would make the run look cheap."""
    models = {recipe.policy.model} | {seat.model.model for seat in recipe.jury.judges if seat.model is not None}
    if unknown := sorted(set(recipe.budget.prices) - models):
        raise RecipeError(
            f"{path}: budget.prices.{unknown[0]}: is no model of this recipe; they are {', '.join(sorted(models))}"
        )


def stored_recipe(path: Path) -> Recipe:
    """A recipe as `write_recipe` left it. What it names may be gone by now. Raises RecipeError."""
    return _parsed(path, lambda text, _: text)


def _parsed(path: Path, settle: Callable[[str, Location], str]) -> Recipe:
    try:
        node = yaml_tree.compose(path)
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file{_instead(path.absolute())}") from None
    except OSError as error:  # a folder too
        raise RecipeError(f"{path}: cannot be read ({error.strerror}); name a YAML file") from None
    except RecipeError as error:  # which may show a piece of the file
        raise RecipeError(without_likely_keys(str(error))) from None
    tree = Tree(path, settle)
    data = json.dumps(tree.plain(node))
    recipe = None
    try:
        recipe = Recipe.model_validate_json(data, strict=True)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            tree.note(detail["loc"], explain(detail))
    if recipe is None or tree.problems:
        raise RecipeError(without_likely_keys(tree.report()))
    return recipe


def write_recipe(recipe: Recipe, path: Path) -> None:
    """The resolved form: every field written out, and read back as an equal recipe wherever the file lies.

    That holds for paths that are absolute, as `read_recipe` gives them.
    """
    text = "# Resolved: running this file again is the same run.\n" + yaml_tree.dump(recipe.model_dump(mode="json"))
    with store.writing(path, "name a folder that can be") as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def canonical_json(value: JsonValue) -> str:
    """One text for one value, whatever the order of its keys. Raises ValueError or TypeError where there is none."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def identity(recipe: Recipe) -> dict[str, str]:
    """Dotted field -> canonical JSON, for all that decides the data.

    Of a path only the name counts here: what the file holds is known by a digest of its own. A recipe that heeds no marks is
    the recipe that it was before there were any.
    """
    heeded = recipe.pairing.marks is not MarksUse.UNUSED
    return {field: value for field, value in _leaves(recipe, ()) if heeded or field != "pairing.marks"}


def changed_fields(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """A line for each field that differs between two identities, for example `rollouts.max_tokens: 192 -> 256`."""
    fields = [*old, *(name for name in new if name not in old)]
    return [
        f"{name}: {old.get(name, 'absent')} -> {new.get(name, 'absent')}"
        for name in fields
        if old.get(name) != new.get(name)
    ]


def _leaves(value: object, at: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if isinstance(value, Section):
        for name, item in value:
            if name not in _NOT_IDENTITY:
                yield from _leaves(item, (*at, name))
    elif isinstance(value, list) and any(isinstance(item, Section) for item in value):
        for index, item in enumerate(value):
            yield from _leaves(item, (*at, str(index)))
    else:
        yield ".".join(at), canonical_json(_placeless(value, at))


def _placeless(value: object, at: tuple[str, ...]) -> JsonValue:
    """The value in JSON's terms, with paths cut to their names. Raises TypeError where it has no stable form."""
    if isinstance(value, list):
        return [_placeless(item, at) for item in value]
    if isinstance(value, Path):
        return value.name
    if isinstance(value, str):
        return Path(value).name if at[-1] == "model" and Path(value).is_absolute() else value
    if value is None or isinstance(value, bool | int | float):
        return value
    raise TypeError(f"{'.'.join(at)}: {value!r} has no stable form")


@dataclass(frozen=True, slots=True)
class _Names:
    """Makes paths absolute, and refuses what is named and not there."""

    folder: Path  # where relative paths start

    def settle(self, text: str, at: Location) -> str:
        if looks_like_key(text):
            raise Unfit(f"holds what looks like a key, and recipes are kept and shown; {_KEY_MEND}")
        match at:
            case (
                ("prompts", "sources", int(), "path")
                | ("prompts", "decontaminate", "paths", int())
                | ("jury", "judges", int(), "rubric")
                | ("pairing", "weights")
                | ("evaluation", "paths", int())
                | ("evaluation", "prose")
            ):
                return self._existing(text)
            case ("policy", "model") | ("jury", "judges", int(), "model", "model") if text.startswith(("./", "../")):
                return self._existing(text)
            case ("machine", "runs"):
                return _folder(text)
            case ("policy", "api_key_env") | ("jury", "judges", int(), "model", "api_key_env"):
                return _variable(text, _KEY_MEND)
            case ("schedule", "webhook_env"):
                return _variable(text, _HOOK_MEND)
            case ("policy", "urls", int()) | ("jury", "judges", int(), "model", "urls", int()):
                return _address(text)
        return text

    def _existing(self, text: str) -> str:
        path = _absolute(self.folder, text)
        try:
            if text and path.exists():
                return str(path)
            raise Unfit(f"got {text!r}, which is not there{_instead(path)}")
        except OSError as error:
            raise Unfit(f"got {text!r}, which cannot be looked at ({error.strerror})") from None


def _folder(text: str) -> str:
    if not text or ("://" in text and not re.fullmatch(STORE_URL, text)):
        raise Unfit(f"got {text!r}; write a folder, or s3://BUCKET/PREFIX or gs://BUCKET/PREFIX")
    return text


def _variable(name: str, mend: str) -> str:
    # What does not look like a variable's name may be the key itself, and that is never shown.
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", name):
        raise Unfit(f"is not the name of a variable; {mend}")
    if os.environ.get(name):
        return name
    shown = f"`{name}`" if re.fullmatch(r"[A-Z][A-Z0-9]{0,15}(_[A-Z0-9]{1,15})*", name) else "what is named here"
    raise Unfit(f"{shown} is not set in the environment; write the name of a variable that is, never the key itself")


def _address(text: str) -> str:
    """Without name, password, query and fragment: keys are written there, and addresses are shown."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise Unfit("is not an address; write one like http://127.0.0.1:8000/v1") from None
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise Unfit(f"holds a name, a password or a `?` or `#` part, where keys are found; {_KEY_MEND}")
    return text


def _absolute(folder: Path, text: str) -> Path:
    """Without following links: the name that was written is the name that the identity knows."""
    path = Path.home() / text[2:] if text.startswith("~/") else folder / text
    return Path(os.path.normpath(path))


def _instead(path: Path) -> str:
    """The name that is most like the first part of `path` that is not there."""
    missing, present = path, path.parent
    while not present.exists():
        missing, present = present, present.parent
    names = (
        sorted(entry.name for entry in present.iterdir()) if present.is_dir() and os.access(present, os.R_OK) else []
    )
    close = difflib.get_close_matches(missing.name, names, n=1)
    return f"; did you mean `{close[0]}`?" if close else f"; {present} holds no `{missing.name}`"
