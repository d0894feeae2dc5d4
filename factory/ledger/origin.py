"""Whether what a round says of its origin agrees with itself: its recipe and its provenance with the identity in its manifest.

The rule that must not break: where they differ, nothing else of the round is judged by any of them. The records say which one
is wrong: they were made from one identity.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from factory.ledger.found import Fault, Kind
from factory.ledger.identity import LEDGER, SHOWN, Stage, full_identity
from factory.recipes.recipe_file import changed_fields, identity
from factory.work import Work
from schemas.manifest import RunManifest


def wrong_origin(work: Work, manifest: RunManifest) -> Fault | None:
    """What of the origin is wrong, if anything is."""
    follows = full_identity(work.recipe, manifest.provenance)
    changed = changed_fields(manifest.identity, follows)
    if not changed:
        return None
    said = "; ".join(changed[:SHOWN])
    if manifest.identity.get(LEDGER) != follows[LEDGER] and not _made_from(work, follows):
        why = f"is of a folder whose ledger has another form ({said}); give the recipe another `name`"
        return Fault(Kind.RECIPE, Stage.PROMPTS, -1, _name(work, work.run.manifest_path), why)
    if _made_from(work, manifest.identity) <= _made_from(work, follows):
        why = f"its identity does not follow from recipe and provenance: {said}"
        return Fault(Kind.IDENTITY, Stage.PROMPTS, -1, _name(work, work.run.manifest_path), why)
    of_recipe = any(line.partition(": ")[0] in identity(work.recipe) for line in changed)
    file = work.run.recipe_path if of_recipe else work.run.manifest_path
    why = f"is not what the records were made from: {said}; `prefactory run RECIPE` with that recipe writes it anew"
    return Fault(Kind.RECIPE, Stage.PROMPTS, -1, _name(work, file), why)


def identity_anew(work: Work) -> None:
    """The manifest's, as it follows from the rest."""
    manifest = work.run.known()
    found = full_identity(work.recipe, manifest.provenance)
    work.run.write_manifest(manifest.model_copy(update={"identity": found}))


def _made_from(work: Work, whole: Mapping[str, str]) -> int:
    """How many records were made from an identity."""
    other = replace(work, identity=whole)
    return sum(
        record.fingerprint == other.wanted(stage, shard)
        for stage in Stage
        for shard in work.shards()
        if (record := work.found(stage, shard)) is not None
    )


def _name(work: Work, path: Path) -> str:
    return str(path.relative_to(work.run.root))
