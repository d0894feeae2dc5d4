"""From a recipe to an open run: everything that can be refused is refused here, before a server starts or a token is paid.

The rule: what this returns can be worked on. Names are known, models have their digests, the folder is ours, and whatever
lies in it was made from the same recipe.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import platformdirs

from factory.judging.deciding import Bench
from factory.judging.gold import read_weights
from factory.judging.heeding import Marks
from factory.ledger.heeded_marks import heeded_marks
from factory.ledger.identity import Stage, drift, full_identity, provenance, refuse_drift
from factory.ledger.rounds import next_round, refuse_other_recipe, sources_taken
from factory.progress import Progress
from factory.prompts import source_digests, source_names
from factory.recipes.recipe_file import stored_recipe, write_recipe
from factory.run import RunFolder, run_folder
from factory.serving.engines import digest_of, model_refs, prices_of
from factory.work import Work, now
from judges.base import Judge
from judges.registry import confirming, find_verifier, seated
from schemas.errors import DriftError, RecipeError, SchemaError
from schemas.manifest import Provenance, RunManifest
from schemas.recipe import JudgeRef, Recipe

RUBRIC_CHARS = 20_000


def cache_folder() -> Path:
    """Where converted models and digests are kept between runs: the user's cache folder."""
    return Path(platformdirs.user_cache_dir("prefactory"))


@dataclass(frozen=True, slots=True)
class Opened:
    """A run that may be worked on, and its jury."""

    work: Work
    judges: Mapping[str, Judge]
    bench: Bench


def jury_of(recipe: Recipe) -> dict[str, Judge]:
    """The judges by name, in the recipe's order. Raises RecipeError for a name that is no judge's or verifier's."""
    for name in recipe.jury.verifiers:
        find_verifier(name)
    return {ref.seat: seated(ref, rubric_of(ref)) for ref in recipe.jury.judges}


def check_licences(recipe: Recipe) -> None:
    """Raises RecipeError where `export.licences` names no source of the recipe."""
    names = source_names(recipe.prompts.sources)
    if unknown := sorted(set(recipe.export.licences) - set(names)):
        raise RecipeError(f"export.licences.{unknown[0]}: is no source of this recipe; they are {', '.join(names)}")


def bench_of(recipe: Recipe, marks: Marks) -> tuple[Bench, str | None]:
    """What decisions rest on, and the digest of the weights. Raises RecipeError."""
    pairing, jury = recipe.pairing, recipe.jury
    if pairing.aggregation == "gold_log_odds" and pairing.weights is None:
        raise RecipeError(
            "pairing.aggregation: 'gold_log_odds' wants pairing.weights; `prefactory judges calibrate` writes them"
        )
    weights, digest = read_weights(pairing.weights, jury.seats) if pairing.weights else ({}, None)
    pairwise = {ref.seat: confirming(ref, rubric_of(ref)) for ref in jury.judges} if jury.confirm else {}
    return Bench(weights, {seat: judge for seat, judge in pairwise.items() if judge is not None}, marks), digest


def rubric_of(ref: JudgeRef) -> str | None:
    """The words of a seat's own rubric file; None: it has none. Raises RecipeError where it cannot be used."""
    if ref.rubric is None:
        return None
    at = f"jury.judges: {ref.seat}: rubric {ref.rubric}"
    try:
        raw = ref.rubric.read_bytes()
        text = raw.decode("utf-8").strip()
    except OSError as error:
        raise RecipeError(f"{at}: cannot be read ({error.strerror}); name a text file") from None
    except UnicodeDecodeError:
        raise RecipeError(f"{at}: is not UTF-8 text; save it as such") from None
    if not text:
        raise RecipeError(f"{at}: is empty; write what the grades 1 to 9 mean")
    if len(text) > RUBRIC_CHARS:
        raise RecipeError(f"{at}: has {len(text)} characters; {RUBRIC_CHARS} are the most")
    return text


def open_run(
    recipe: Recipe,
    progress: Progress,
    redone: Stage | None = None,
    *,
    round_: int = 0,
    sources: Mapping[str, str] | None = None,
) -> Opened:
    """A round of the run's folder, made if it is not there. The caller holds its lock.

    `redone` names a stage that is to be made anew from what is stored, so that the fields which decide only it may
    have changed; None lets no deciding field change. `sources`: what the prompts were taken from, where they were taken
    before and the files may hold others by now; None: as they are. Raises RecipeError, ModelError, DriftError, StorageError.
    """
    judges = jury_of(recipe)
    check_licences(recipe)
    run = RunFolder(run_folder(recipe), round_)
    before = _readable_manifest(run, progress)
    marks, said = heeded_marks(run, recipe, before)
    bench, weights = bench_of(recipe, marks)
    models = {role: digest_of(ref, cache_folder(), progress) for role, ref in model_refs(recipe).items()}
    rubrics = {name: judge.digest for name, judge in judges.items()}
    rubrics |= {f"{name}.pairwise": judge.digest for name, judge in bench.confirming.items()}
    made_from = provenance(models, rubrics, sources or source_digests(recipe.prompts), weights, said)
    identity = full_identity(recipe, made_from)
    work = Work(run, recipe, identity, progress)
    refuse_other_recipe(run, identity)
    if before is None:
        _refuse_strangers(work)
    else:
        refuse_drift(run.root, drift(before.identity, identity, redone or _not_begun(run)))
    if not _stands(recipe, run.recipe_path):
        write_recipe(recipe, run.recipe_path)
    if before is None or (before.identity, before.provenance) != (identity, made_from):
        run.write_manifest(_manifest(recipe, identity, made_from, before))
    elif before.prices != prices_of(recipe):
        run.write_manifest(before.model_copy(update={"prices": prices_of(recipe)}))
    return Opened(work, judges, bench)


def open_next(recipe: Recipe, progress: Progress) -> Opened:
    """Of a run that adds rounds the one to work on: the last one that was begun, or a further one of other prompts."""
    run = next_round(RunFolder(run_folder(recipe)), recipe, progress)
    return open_run(recipe, progress, round_=run.round, sources=sources_taken(run))


def _readable_manifest(run: RunFolder, progress: Progress) -> RunManifest | None:
    try:
        return run.manifest()
    except SchemaError as error:
        progress.say(f"{error}; it is made anew from the records")
        return None


def _stands(recipe: Recipe, path: Path) -> bool:
    """Whether the file says all of the recipe, also what decides no row: who trains goes by it."""
    try:
        return stored_recipe(path) == recipe
    except RecipeError:
        return False


def _refuse_strangers(work: Work) -> None:
    """Without a manifest the records say whether they were made from this recipe. Raises DriftError."""
    for stage in (Stage.PROMPTS, Stage.ROLLOUTS, Stage.VERDICTS):
        made = [(record, work.wanted(stage, shard)) for shard in work.shards() if (record := work.found(stage, shard))]
        known = [record.fingerprint == wanted for record, wanted in made if wanted is not None]
        if known and not any(known):
            raise DriftError(
                f"{work.run.root}: its {stage} were made with another recipe, and no manifest.json says with which. "
                "Give the recipe another `name`, or take the recipe.yaml that lies there"
            )


def _not_begun(run: RunFolder) -> Stage | None:
    """The first stage of which nothing is there: what decides only it may still change."""
    return next((stage for stage in Stage if not run.begun(stage)), None)


def _manifest(
    recipe: Recipe, identity: Mapping[str, str], made_from: Provenance, before: RunManifest | None
) -> RunManifest:
    time: datetime = now()
    return RunManifest(
        name=recipe.name,
        created=before.created if before else time,
        updated=time,
        identity=dict(identity),
        provenance=made_from,
        prompts=0,
        shards=0,
        pairs=0,
        dropped={},
        seconds=before.seconds if before else {},
        prices=prices_of(recipe),
    )
