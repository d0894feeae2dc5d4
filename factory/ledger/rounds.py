"""What the rounds of one run folder have to do with each other.

The rule that must not break: a round is made by the recipe of the first one, with two exceptions: another checkpoint answers,
and other prompts are asked. The judges stay: a seat that leaves its model out means the model that answered first, since
scores of a judge that moves along with the policy could not be compared from round to round.
"""

import re
from collections.abc import Mapping

from factory.ledger.identity import Stage, refuse_drift
from factory.looking import queries
from factory.progress import Progress
from factory.recipes.recipe_file import changed_fields
from factory.run import RunFolder
from factory.work import Work
from schemas.errors import Fixable
from schemas.recipe import JudgeRef, ModelRef, Recipe

_MAY_DIFFER = re.compile(r"policy\.|models\.|sources\.|marks$|jury\.judges\.\d+\.model\b")


def round_recipe(recipe: Recipe, policy: ModelRef | None) -> Recipe:
    """Of a round that another checkpoint than the recipe's own policy answers; None: the recipe as it is."""
    if policy is None:
        return recipe
    judges = [_kept(seat, recipe.policy) for seat in recipe.jury.judges]
    return recipe.model_copy(update={"policy": policy, "jury": recipe.jury.model_copy(update={"judges": judges})})


def _kept(seat: JudgeRef, base: ModelRef) -> JudgeRef:
    return seat if seat.model else seat.model_copy(update={"model": base})


def taken(run: RunFolder) -> dict[str, int]:
    """How often the rounds before this one took which prompt, by its id. Raises Fixable where a table cannot be read."""
    if not run.round:
        return {}
    sql = f"SELECT prompt_id, count(*) FROM prompts WHERE round < {run.round} GROUP BY 1"
    return {str(prompt_id): int(str(count)) for prompt_id, count in queries.ask(run.root, sql).rows}


def next_round(run: RunFolder, recipe: Recipe, progress: Progress) -> RunFolder:
    """Where a run that adds rounds goes on: at the last round that was begun, or behind it where nothing of that is left."""
    if (story := run.story_path).exists():
        raise Fixable(
            f"{story}: rounds of this folder follow from trainings; `prefactory semi-online` makes the next one"
        )
    rounds = run.rounds()
    if not rounds:
        return RunFolder(run.root)
    last, manifest = rounds[-1], rounds[-1].manifest()
    done = manifest is not None and Work(last, recipe, manifest.identity, progress).nothing_left()
    return RunFolder(run.root, last.round + 1) if done else last


def give_up(run: RunFolder) -> None:
    """A round that was begun and found no prompts to take: as if it had not been."""
    run.give_up()
    queries.write_catalog(run.catalog_path, run.root)


def sources_taken(run: RunFolder) -> dict[str, str] | None:
    """The digests of what a round took its prompts from, which may have grown since; None: it has not taken them."""
    manifest = run.manifest()
    return None if manifest is None or not run.begun(Stage.PROMPTS) else manifest.provenance.sources


def refuse_other_recipe(run: RunFolder, identity: Mapping[str, str]) -> None:
    """Raises DriftError where a later round is to be made by another recipe than the first."""
    if run.round and (first := RunFolder(run.root).manifest()) is not None:
        refuse_drift(run.root, changed_fields(_shared(first.identity), _shared(identity)))


def _shared(identity: Mapping[str, str]) -> dict[str, str]:
    return {field: value for field, value in identity.items() if not _MAY_DIFFER.match(field)}
