"""From a run's recipe to the recipe by which one of its checkpoints is evaluated, and what that is asked.

The rule that must not break: of two checkpoints' recipes everything is equal but the name and the policy. The judges above
all: a seat that leaves its model out means the run's policy, whichever checkpoint is looked at.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from schemas.errors import RecipeError
from schemas.evaluation import Evaluation
from schemas.recipe import (
    Decoding,
    Jury,
    ModelRef,
    Prompts,
    Recipe,
    Repetition,
    Rollouts,
    Source,
    Trust,
)

SHIPPED = Path(__file__).resolve().parents[2] / "data" / "evaluation"
PROSE = SHIPPED / "prose.txt"
ONE_SHARD = 1_000_000  # prompts: a held-out set is small, and its journal is as good a unit of resuming as a shard
_SERVED = re.compile(r"(?P<name>[^@]+)@(?P<url>https?://[^@?#]+)")
DIGITS = 16  # of the digest that names a checkpoint's folder


def checkpoint_of(word: str, recipe: Recipe) -> ModelRef:
    """A folder, the shipped model's name, a hub id, or `NAME@URL` of a server that runs. Raises RecipeError.

    The recipe's own policy, named by its model, is taken as the recipe has it. Its key goes to its own servers only.
    """
    if word == recipe.policy.model:
        return recipe.policy
    if served := _SERVED.fullmatch(word):
        own = {urlsplit(url).netloc for url in recipe.policy.urls}
        key = recipe.policy.api_key_env if urlsplit(served["url"]).netloc in own else None
        return ModelRef(model=served["name"], urls=[served["url"]], api_key_env=key)
    if "://" in word:
        raise RecipeError(f"checkpoint {word}: write NAME@URL, the name that the server knows its model by and its /v1")
    if word.startswith((".", "/", "~")) or Path(word).is_dir():
        folder = Path(word).expanduser()
        return ModelRef(model=str(folder.absolute()), trust_remote_code=recipe.policy.trust_remote_code)
    return ModelRef(model=word, trust_remote_code=recipe.policy.trust_remote_code)


def evaluation_recipe(recipe: Recipe, checkpoint: ModelRef, digest: str, folder: Path) -> Recipe:
    """`folder`: where the checkpoint's own run folder is to lie. Raises RecipeError where the caps do not fit."""
    settings, machine = recipe.evaluation, recipe.machine
    if not checkpoint.urls and settings.max_tokens[-1] >= machine.max_model_len:
        raise RecipeError(
            f"evaluation.max_tokens {settings.max_tokens[-1]} leaves no room for a prompt in machine.max_model_len "
            f"{machine.max_model_len}; lower the one, or raise the other"
        )
    return Recipe(
        name=digest[:DIGITS],
        seed=settings.seed,
        prompts=held_out_prompts(settings),
        policy=checkpoint,
        rollouts=_rollouts(settings),
        jury=_jury(recipe),
        budget=recipe.budget,
        machine=machine.model_copy(update={"runs": folder, "shard_size": ONE_SHARD}),
    )


def prompt_files(settings: Evaluation) -> Sequence[Path]:
    """One for each kind of prompt: the file's name is the kind's."""
    return settings.paths or sorted(SHIPPED.glob("*.jsonl"))


def held_out_prompts(settings: Evaluation) -> Prompts:
    return Prompts(sources=[Source(path=path) for path in prompt_files(settings)], sample=settings.sample)


def _rollouts(settings: Evaluation) -> Rollouts:
    decoding = Decoding(temperature=settings.temperature, top_p=settings.top_p, min_p=settings.min_p)
    return Rollouts(
        max_tokens=settings.max_tokens[-1],
        sampling=decoding,
        slots=[Decoding()] * settings.samples,
        repetition_detection=Repetition() if settings.stop_loops else None,
    )


def _jury(recipe: Recipe) -> Jury:
    """Every judge hears every answer once, and none is watched. The verifiers are asked apart, at each cap."""
    judges = [seat.model_copy(update={"model": seat.model or recipe.policy}) for seat in recipe.jury.judges]
    return Jury(judges=judges, quorum=recipe.jury.quorum, trust=Trust(canaries=0, reasked=0))


def passages_of(settings: Evaluation) -> list[str]:
    """The passages of the prose. Raises RecipeError where it cannot be read."""
    path = settings.prose or PROSE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"evaluation.prose {path}: cannot be read ({error}); name a text file in UTF-8") from None
    found = [passage for part in text.split("\n\n") if (passage := part.strip())]
    if not found:
        raise RecipeError(f"evaluation.prose {path}: holds no text; write passages with an empty line between them")
    return found
