"""What a run would do, without sending anything or writing anywhere."""

from dataclasses import dataclass

from factory.identity import Stage
from factory.opening import jury_of
from factory.progress import Silent
from factory.prompts import collect
from factory.recipe_file import changed_fields, identity
from factory.rollouts import slots
from factory.run import RunFolder, run_folder
from factory.shards import Work
from judges.registry import find_verifier
from schemas.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Plan:
    """Upper bounds: loops and duplicate texts are not judged, and most answers end before the cap."""

    prompts: int
    shards: int
    rollouts: int
    verdicts: int
    answer_tokens: int
    shards_done: dict[str, int]
    changed: tuple[str, ...]  # what the run folder was made with, and would be refused for

    def text(self) -> str:
        done = ", ".join(f"{stage} {count}" for stage, count in self.shards_done.items())
        if self.changed:
            done += f", but of another recipe: {'; '.join(self.changed)}"
        return (
            f"{self.prompts} prompts in {self.shards} shards\n"
            f"{self.rollouts} rollouts, at most {self.answer_tokens:,} tokens written\n"
            f"{self.verdicts} judge calls at most, one token each\n"
            f"finished shards in the run folder: {done or 'none'}"
        )


def foresee(recipe: Recipe) -> Plan:
    """Raises as the run itself would for a recipe or sources that are not usable."""
    jury_of(recipe)
    verifiers = [find_verifier(name) for name in recipe.jury.verifiers]
    prompts = len(collect(recipe.prompts, recipe.seed, Silent(), verifiers).prompts)
    rollouts = prompts * len(slots(recipe.rollouts))
    return Plan(
        prompts=prompts,
        shards=-(-prompts // recipe.machine.shard_size),
        rollouts=rollouts,
        verdicts=rollouts * len(recipe.jury.judges),
        answer_tokens=rollouts * recipe.rollouts.max_tokens,
        shards_done=_done(recipe),
        changed=_changed(recipe),
    )


def _changed(recipe: Recipe) -> tuple[str, ...]:
    """The recipe's own fields only: digests of models and files are compared when the run starts."""
    manifest = RunFolder(run_folder(recipe)).manifest()
    if manifest is None:
        return ()
    new = identity(recipe)
    groups = {field.split(".")[0] for field in new}
    old = {field: value for field, value in manifest.identity.items() if field.split(".")[0] in groups}
    return tuple(changed_fields(old, new))


def _done(recipe: Recipe) -> dict[str, int]:
    """Finished shards by stage, as the folder's own identity has them."""
    run = RunFolder(run_folder(recipe))
    manifest = run.manifest()
    if manifest is None:
        return {}
    work = Work(run, recipe, manifest.identity, Silent())
    stages = (Stage.ROLLOUTS, Stage.VERDICTS, Stage.PAIRS)
    return {stage.value: run.shards() - len(work.pending(stage)) for stage in stages}
