"""What the rounds of a semi-online recipe would ask, beside what its first round does.

The rule that must not break: nothing is sent or written, and every figure is an upper bound.
"""

from collections.abc import Sequence
from pathlib import Path

from factory.evaluation.recipe import PROSE, held_out_prompts, passages_of, prompt_files
from factory.progress import Silent
from factory.prompts import Collected, collect
from schemas.recipe import Recipe


def rounds_ahead(recipe: Recipe, collected: Collected, rollouts: int) -> tuple[str, ...]:
    """Lines for a person; none where the recipe has one round. `collected`, `rollouts`: of its first round.

    Raises SourceError or RecipeError where the held-out prompts or the prose cannot be read: the rounds would, hours later.
    """
    if (loop := recipe.semi_online) is None:
        return ()
    settings = recipe.evaluation
    passages = len(passages_of(settings))
    held_out = len(collect(held_out_prompts(settings), settings.seed, Silent()).prompts)
    answers = held_out * (1 + settings.samples)
    tokens = answers * settings.max_tokens[-1]
    judged = f", {answers * len(recipe.jury.judges)} judge calls at most" if settings.judged else ""
    tries = f"; a gate that trips takes up to {loop.fallback.tries} more a round" if loop.on_tripped == "retry" else ""
    return (
        f"{loop.rounds} rounds of this size: {loop.rounds * rollouts} rollouts; {_enough(recipe, collected)}",
        f"{loop.rounds + 1} evaluations, of the policy and of each round's checkpoint{tries}",
        f"each evaluation: {held_out} held-out prompts, {answers} answers, at most {tokens:,} tokens written{judged}, "
        f"{passages} passages of prose",
    )


def held_out_files(recipe: Recipe) -> Sequence[Path]:
    """What the rounds read beside the recipe's own files."""
    if recipe.semi_online is None:
        return ()
    return (*prompt_files(recipe.evaluation), recipe.evaluation.prose or PROSE)


def _enough(recipe: Recipe, collected: Collected) -> str:
    assert recipe.semi_online is not None
    rounds, size = recipe.semi_online.rounds, len(collected.prompts)
    if recipe.prompts.used_up == "start_over":
        return "where a source has nothing new left, it starts over"
    there = sum(one.read - one.duplicates - one.near_duplicates - one.contaminated for one in collected.counts)
    if there >= rounds * size:
        return f"the sources have {there} prompts for them"
    full, rest = divmod(there, size)
    last = f", {rest} prompts for another" if rest else ""
    return f"the sources have {there} prompts: enough for {full}{last}, and then the rounds stop"
