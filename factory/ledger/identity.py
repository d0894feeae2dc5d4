"""What a run is made from, field by field, and which of it decides which stage.

Two runs with equal identities would make the same rows. What only says how a run goes (addresses, keys, concurrency,
shard size, folders) has no place here; what decides the data must have one, or a changed recipe would go on in an old
folder without a word.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from itertools import chain
from pathlib import Path

from factory.loops import DETECTOR_VERSION
from factory.recipes.recipe_file import changed_fields, identity
from schemas.errors import DriftError
from schemas.manifest import PartFile, Provenance
from schemas.recipe import POLICY, Recipe

SHOWN = 4  # changed fields that an error names
# Of how records and parts say what they are. A folder of another version is refused: its records could not be told from
# damaged ones, and its answers would be paid for again.
LEDGER_VERSION = 2


class Stage(StrEnum):
    """In the order of the work; each needs the ones before it."""

    PROMPTS = "prompts"
    ROLLOUTS = "rollouts"
    VERDICTS = "verdicts"
    SPREADS = "spreads"  # how widely each judge scores within a prompt, pooled over the run
    BALANCE = "balance"  # which forced loops make pairs, where the recipe caps their share
    CONFIRMATIONS = "confirmations"  # the final pair seen in both orders, where the recipe asks for it
    PAIRS = "pairs"
    TRUST = "trust"  # what the jury is worth, measured on the run itself
    EXPORT = "export"


LEDGER = "ledger"  # the version of its form
MARKS = "marks"  # the digest of what people say of the pairs, where the recipe heeds it

# The fields that decide a stage, beyond those of the stages before it. A change of the others leaves its rows valid.
_OWN = {
    Stage.PROMPTS: (LEDGER, "seed", "prompts.", "sources."),
    Stage.ROLLOUTS: ("policy.", "rollouts.", "models.policy", "detector"),
    Stage.VERDICTS: ("jury.judges", "jury.verifiers", "jury.cascade", "jury.trust", "models.judges.", "rubrics."),
    Stage.SPREADS: (),
    Stage.BALANCE: ("jury.", "pairing.", "weights", MARKS),
    Stage.CONFIRMATIONS: (),
    Stage.PAIRS: (),
    Stage.TRUST: (),
    Stage.EXPORT: (),
}

_ALL = {
    stage: tuple(chain.from_iterable(_OWN[earlier] for earlier in list(Stage)[: number + 1]))
    for number, stage in enumerate(Stage)
}


def full_identity(recipe: Recipe, provenance: Provenance) -> dict[str, str]:
    """Dotted field -> canonical JSON of its value: the recipe's deciding fields and the digests of what it names."""
    found = dict(identity(recipe))
    found |= {model_field(role): json.dumps(digest) for role, digest in provenance.models.items()}
    for group, values in (("rubrics", provenance.rubrics), ("sources", provenance.sources)):
        found |= {f"{group}.{name}": json.dumps(digest) for name, digest in values.items()}
    found[LEDGER] = json.dumps(LEDGER_VERSION)
    found["detector"] = json.dumps(provenance.detector)
    if provenance.weights:
        found["weights"] = json.dumps(provenance.weights)
    if provenance.marks:
        found[MARKS] = json.dumps(provenance.marks)
    return found


def model_field(role: str) -> str:
    """Where the digest of the weights stands that answer in a role: the policy's decide rollouts, a judge's its verdicts."""
    return f"models.{POLICY}" if role == POLICY else f"models.judges.{role}"


def provenance(
    models: Mapping[str, str],
    rubrics: Mapping[str, str],
    sources: Mapping[str, str],
    weights: str | None = None,
    marks: str | None = None,
) -> Provenance:
    return Provenance(
        models=dict(models),
        rubrics=dict(rubrics),
        sources=dict(sources),
        detector=DETECTOR_VERSION,
        weights=weights,
        marks=marks,
    )


def decides(stage: Stage, field: str) -> bool:
    """Whether a change of this field makes the stage's rows, or those they were made from, other rows."""
    return field.startswith(_ALL[stage])


def fingerprint(stage: Stage, whole: Mapping[str, str], inputs: Iterable[PartFile]) -> str:
    """Of one shard of a stage: the deciding fields and the checksums of the parts that it reads."""
    deciding = {field: value for field, value in whole.items() if decides(stage, field)}
    document = {"stage": stage, "fields": deciding, "inputs": [part.sha256 for part in inputs]}
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def drift(old: Mapping[str, str], new: Mapping[str, str], redone: Stage | None) -> list[str]:
    """A line for each field that changed, but for those that only decide `redone` and what comes after it.

    New marks are no other recipe: people make them while a run is at work, and the same command heeds them.
    """
    old, new = ({field: value for field, value in whole.items() if field != MARKS} for whole in (old, new))
    if redone is None:
        return changed_fields(dict(old), dict(new))
    if redone is Stage.PROMPTS:
        return []
    order = list(Stage)
    before = order[order.index(redone) - 1]

    def kept(fields: Mapping[str, str]) -> dict[str, str]:
        return {field: value for field, value in fields.items() if decides(before, field)}

    return changed_fields(kept(old), kept(new))


def refuse_drift(path: Path, changed: list[str]) -> None:
    """Raises DriftError where a field that decides the data is not what it was; names the first few of many."""
    if changed:
        more = f"; and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        raise DriftError(
            f"{path}: this run was made with another recipe: {'; '.join(changed[:SHOWN])}{more}. "
            "Give the recipe another `name`, or set the field back"
        )
