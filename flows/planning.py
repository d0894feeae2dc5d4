"""What a run would do, without sending anything or writing anywhere."""

from dataclasses import dataclass

from factory.client.spending import read_spent
from factory.gathering.sources import shown, shown_path
from factory.keys import key_names
from factory.ledger.identity import Stage
from factory.objects.copying import with_records
from factory.opening import check_licences, jury_of
from factory.progress import Silent
from factory.prompts import collect
from factory.recipes.affording import budget_lines, needs
from factory.recipes.recipe_file import changed_fields, identity
from factory.rollouts import slots
from factory.run import RunFolder, run_folder
from factory.serving.engines import model_refs
from factory.work import Work
from flows.planning_rounds import held_out_files, rounds_ahead
from judges.registry import find_verifier
from schemas.manifest import Spent
from schemas.recipe import Recipe

STAGES = (Stage.ROLLOUTS, Stage.VERDICTS, Stage.PAIRS)


@dataclass(frozen=True, slots=True)
class Plan:
    """Upper bounds: loops and duplicate texts are not judged, and most answers end before the cap."""

    prompts: int
    shards: int
    rollouts: int
    verdicts: int
    answer_tokens: int
    rounds: tuple[str, ...]  # what a semi-online recipe asks beyond its first round
    shards_done: dict[str, int]
    changed: tuple[str, ...]  # what the run folder was made with, and would be refused for
    budget: tuple[str, ...]  # of each limit that the recipe sets, whether it is enough for what is left
    files: tuple[str, ...]  # that are read, or the hub's data sets
    addresses: tuple[str, ...]  # of servers that run already and are asked
    keys: tuple[str, ...]  # names of the environment variables whose keys are sent

    def text(self) -> str:
        done = ", ".join(f"{stage} {count}" for stage, count in self.shards_done.items())
        if self.changed:
            done += f", but of another recipe: {'; '.join(self.changed)}"
        lines = (
            f"{self.prompts} prompts in {self.shards} shards",
            f"{self.rollouts} rollouts, at most {self.answer_tokens:,} tokens written",
            f"{self.verdicts} judge calls at most, one token each",
            *self.rounds,
            f"finished shards in the run folder: {done or 'none'}",
            *self.budget,
            f"reads {', '.join(self.files)}",
            f"asks {', '.join(self.addresses) or 'no server but those that it starts here'}",
            f"sends the keys in {', '.join(self.keys)}" if self.keys else "sends no key",
        )
        return "\n".join(lines)


def foresee(recipe: Recipe) -> Plan:
    """Raises as the run itself would for a recipe or sources that are not usable."""
    RunFolder(run_folder(recipe)).look(with_records)
    judges = jury_of(recipe)
    check_licences(recipe)
    verifiers = [find_verifier(name) for name in recipe.jury.verifiers]
    collected = collect(recipe.prompts, recipe.seed, Silent(), verifiers)
    prompts = len(collected.prompts)
    rollouts = prompts * len(slots(recipe.rollouts))
    answering, judging = needs(recipe, judges, collected.prompts)
    to_answer, to_judge = (prompts - done for done in _prompts_done(recipe))
    return Plan(
        prompts=prompts,
        shards=-(-prompts // recipe.machine.shard_size),
        rollouts=rollouts,
        verdicts=rollouts * len(recipe.jury.judges),
        answer_tokens=rollouts * recipe.rollouts.max_tokens,
        rounds=rounds_ahead(recipe, collected, rollouts),
        shards_done=_done(recipe),
        changed=_changed(recipe),
        files=tuple(_files(recipe)),
        addresses=tuple(dict.fromkeys(url for ref in model_refs(recipe).values() for url in ref.urls)),
        keys=tuple(sorted(key_names(recipe))),
        budget=tuple(budget_lines(recipe.budget, answering * to_answer + judging * to_judge, _spent(recipe))),
    )


def _files(recipe: Recipe) -> list[str]:
    """What the recipe names by a path, and the data sets that the hub is asked for."""
    decontaminate = recipe.prompts.decontaminate
    named = [
        *(shown(source) for source in recipe.prompts.sources),
        *(shown_path(path) for path in (decontaminate.paths if decontaminate else ())),
        *(shown_path(seat.rubric) for seat in recipe.jury.judges if seat.rubric is not None),
        *([shown_path(recipe.pairing.weights)] if recipe.pairing.weights else []),
        *(shown_path(path) for path in held_out_files(recipe)),
    ]
    return list(dict.fromkeys(named))


def _spent(recipe: Recipe) -> Spent:
    return read_spent(RunFolder(run_folder(recipe)).spent_path)


def _prompts_done(recipe: Recipe) -> tuple[int, int]:
    """In shards whose rollouts, and whose verdicts, are finished."""
    if (work := _work(recipe)) is None or not work.shards():
        return 0, 0
    rows = [part.rows for part in work.record(Stage.PROMPTS, 0).outputs]
    answered, judged = (sum(rows) - sum(rows[shard] for shard in work.pending(stage)) for stage in STAGES[:2])
    return answered, judged


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
    if (work := _work(recipe)) is None:
        return {}
    return {stage.value: len(work.shards()) - len(work.pending(stage)) for stage in STAGES}


def _work(recipe: Recipe) -> Work | None:
    run = RunFolder(run_folder(recipe))
    manifest = run.manifest()
    return None if manifest is None else Work(run, recipe, manifest.identity, Silent())
