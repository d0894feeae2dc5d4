"""GRPO through TRL on the prompts of an export, at small length: `python -m factory.training.grpo PLAN.json`.

An example of reinforcement learning on verifiable rewards, which generates by transformers in its own process; for a large run
take the export and `factory.rewards` to a trainer with an engine. The processes that check answers import this module again,
and they need neither torch nor what builds on it: that is imported where it is used.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from factory import store
from factory.files import temporary_of
from factory.opening import cache_folder
from factory.rewards import RewardFunction, loop_penalty, repetition_penalty, verifier_reward
from factory.serving.models import resolve_model
from schemas.grpo import Grpo, GrpoPlan, GrpoResult
from schemas.recipe import ModelRef

if TYPE_CHECKING:
    from trl import GRPOConfig, GRPOTrainer

CHECKPOINT, METRICS, RESULT = "checkpoint", "metrics.jsonl", "result.json"
VERSIONED = ("torch", "transformers", "trl")
_FIGURES = ("reward", "rewards/", "loops/", "completions/", "kl", "entropy")  # of what TRL logs


def rewards(grpo: Grpo, end_token_ids: list[int]) -> list[RewardFunction]:
    """What an answer earns, added up."""
    found: list[RewardFunction] = [verifier_reward(name) for name in grpo.verifiers or ()]
    if grpo.loop_penalty:
        found.append(loop_penalty(end_token_ids, grpo.loop_penalty))
    if grpo.repetition_penalty:
        found.append(repetition_penalty(penalty=grpo.repetition_penalty))
    return found


def train(plan: GrpoPlan) -> GrpoResult:
    """Train as planned, and leave checkpoint, metrics and result in the plan's folder."""
    began = time.monotonic()
    shutil.rmtree(plan.folder / CHECKPOINT, ignore_errors=True)
    trainer = _trainer(plan)
    trainer.train()
    lines = [line for line in trainer.state.log_history if "reward" in line]
    store.write_text(plan.folder / METRICS, "".join(json.dumps(line) + "\n" for line in lines))
    _save(trainer, plan.folder / CHECKPOINT)
    result = GrpoResult(
        model_digest=plan.model_digest,
        digest=resolve_model(ModelRef(model=str(plan.folder / CHECKPOINT)), cache_folder(), print).digest,
        steps=trainer.state.global_step,
        answers=trainer.state.global_step * plan.grpo.prompts_per_step * plan.grpo.generations,
        first=_figures(lines[0]),
        last=_figures(lines[-1]),
        seconds=round(time.monotonic() - began, 1),
        versions={name: version(name) for name in VERSIONED},
    )
    store.write_text(plan.folder / RESULT, result.model_dump_json(indent=1))
    return result


def _trainer(plan: GrpoPlan) -> "GRPOTrainer":
    import torch
    from datasets import Dataset, disable_progress_bars
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
    from trl import GRPOTrainer

    disable_progress_bars()
    torch.set_num_threads(plan.threads or torch.get_num_threads())
    trusted = {"trust_remote_code": plan.trust_remote_code}
    tokenizer = AutoTokenizer.from_pretrained(plan.model, padding_side="left", **trusted)
    model = AutoModelForCausalLM.from_pretrained(plan.model, dtype=torch.float32, **trusted)
    ends = {tokenizer.eos_token_id} | _listed((model.generation_config or GenerationConfig()).eos_token_id)
    return GRPOTrainer(
        model=model,
        reward_funcs=rewards(plan.grpo, sorted(ends)),
        args=_arguments(plan),
        train_dataset=Dataset.from_parquet(str(plan.prompts), cache_dir=str(plan.folder / ".cache")),
        processing_class=tokenizer,
    )


def _listed(tokens: int | list[int] | None) -> set[int]:
    return {tokens} if isinstance(tokens, int) else set(tokens or ())


def _arguments(plan: GrpoPlan) -> "GRPOConfig":
    from trl import GRPOConfig

    grpo = plan.grpo
    return GRPOConfig(
        output_dir=str(plan.folder / "state"),
        max_steps=grpo.steps,
        per_device_train_batch_size=grpo.prompts_per_step * grpo.generations,
        num_generations=grpo.generations,
        max_completion_length=grpo.max_tokens,
        temperature=grpo.temperature,
        learning_rate=grpo.learning_rate,
        beta=grpo.kl,
        seed=grpo.seed or 0,
        use_vllm=False,
        use_cpu=grpo.device == "cpu",
        bf16=False,
        gradient_checkpointing=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def _figures(line: Mapping[str, object]) -> dict[str, float]:
    return {
        name: round(float(value), 6)
        for name, value in line.items()
        if name.startswith(_FIGURES) and isinstance(value, int | float)
    }


def _save(trainer: "GRPOTrainer", folder: Path) -> None:
    """Weights and tokenizer, whole or not at all."""
    building = temporary_of(folder)
    shutil.rmtree(building, ignore_errors=True)
    trainer.save_model(str(building))
    building.replace(folder)


def main(path: Path) -> None:
    """What libraries print goes to standard error; the one line on standard output says that it is done."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    result = train(GrpoPlan.model_validate_json(path.read_bytes()))
    print(f"{result.steps} steps, {result.answers} answers", file=out)  # what the caller reads


if __name__ == "__main__":
    main(Path(sys.argv[1]))
