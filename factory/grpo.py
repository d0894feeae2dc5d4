"""Runs the GRPO example as a process of its own, on the prompts of a run's export.

The rule that must not break: nothing here imports torch, and a training that did not end well leaves no result.
"""

from collections.abc import Callable, Collection
from pathlib import Path

from factory import store
from factory.client.gate import Gate
from factory.files import make_folder
from factory.run import RunFolder
from factory.serving.models import LocalModel
from factory.serving.server import last_words
from factory.training_process import training_environment, training_process
from judges.registry import find_verifier
from schemas.errors import Fixable
from schemas.export import ExportFormat
from schemas.grpo import GrpoPlan, GrpoResult
from schemas.recipe import Recipe

PLAN, RESULT, CHECKPOINT = "plan.json", "result.json", "checkpoint"


def plan_grpo(run: RunFolder, recipe: Recipe, model: LocalModel) -> GrpoPlan:
    """Raises Fixable where the prompts are not there, RecipeError for a verifier that is none."""
    prompts = run.export_path(ExportFormat.GRPO) / "data" / "train.parquet"
    if not prompts.is_file():
        raise Fixable(f"{prompts}: not there; `prefactory export RECIPE --format grpo` writes the prompts")
    grpo = recipe.grpo.settled(recipe.seed, recipe.jury.verifiers)
    for name in grpo.verifiers or ():
        find_verifier(name)
    return GrpoPlan(
        grpo=grpo,
        model=model.folder,
        model_digest=model.digest,
        prompts=prompts,
        folder=run.grpo_path,
        threads=recipe.machine.threads,
        trust_remote_code=recipe.policy.trust_remote_code,
    )


async def train_grpo(
    plan: GrpoPlan, log: Path, say: Callable[[str], None], gate: Gate, withheld: Collection[str]
) -> GrpoResult:
    """From the beginning, whatever lies there. `withheld`: environment variables that the process must not see.

    Raises Fixable where it ends badly, StorageError, and what the gate was closed for.
    """
    (plan.folder / RESULT).unlink(missing_ok=True)
    store.write_text(plan.folder / PLAN, plan.model_dump_json(indent=1))
    make_folder(log.parent)
    with log.open("ab") as sink:
        offset = sink.tell()
        environment = training_environment(plan.grpo.device, plan.threads, withheld)
        async with training_process("grpo", plan.folder / PLAN, environment, sink, sink) as process:
            say(f"GRPO: {plan.grpo.steps} steps (log: {log})")
            code = await gate.unless_closed(process.wait())
    if code:
        said = last_words(log.read_bytes()[offset:].decode(errors="replace"))
        raise Fixable(f"GRPO ended with code {code}: {said} (log: {log})")
    return GrpoResult.model_validate_json((plan.folder / RESULT).read_bytes())
