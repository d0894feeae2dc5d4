"""Which of people's marks a round's pairs are made with, and which they were made with.

The rule that must not break: pairs that a training was begun from stay as they are, or its checkpoint would come from nowhere.
Marks that were made since then count in the next pairing of other pairs.
"""

from factory.judging.heeding import Marks, by_sides
from factory.ledger.marks import digest_of_marks, standing_marks, standing_when
from factory.run import RunFolder
from factory.semi_online import read_story
from schemas.errors import SchemaError
from schemas.manifest import RunManifest
from schemas.marks import MarksUse
from schemas.recipe import Recipe


def heeded_marks(run: RunFolder, recipe: Recipe, before: RunManifest | None) -> tuple[Marks, str | None]:
    """With their digest; None: the recipe heeds none. Raises SchemaError."""
    if recipe.pairing.marks is MarksUse.UNUSED:
        return {}, None
    digest = before.provenance.marks if before else None
    if before and digest and _trained_on(run):
        return marks_made_with(run, before), digest
    stood = standing_marks(run).values()
    return by_sides(stood), digest_of_marks(stood)


def marks_made_with(run: RunFolder, manifest: RunManifest) -> Marks:
    """Raises SchemaError where the file does not hold them any more."""
    if (digest := manifest.provenance.marks) is None:
        return {}
    if (stood := standing_when(run, digest)) is None:
        raise SchemaError(
            f"{run.human_path}: does not hold the marks that the pairs were made with; `prefactory pair RECIPE` pairs anew"
        )
    return by_sides(stood.values())


def _trained_on(run: RunFolder) -> bool:
    return run.train_path(run.round).is_dir() or any(one.round == run.round for one in read_story(run).rounds)
