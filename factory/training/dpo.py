"""The reference trainer: `python -m factory.training.dpo PLAN.json`, a process of its own.

Several devices: `torchrun --nproc_per_node N -m factory.training.dpo PLAN.json` (or `accelerate launch`); each holds the model
whole, a step is N times as many pairs, and the plan is the one that `prefactory train` has left.
Exit codes: 0 done, 2 a guard has stopped it (the reason is in result.json), 130 and 143 stopped by a signal with a state to go
on from; the same command goes on.

The rule that must not break: given a plan, what comes out is a function of it. A training that is killed and started again
ends with the weights of one that was not, on the same CPU with as many threads. On a GPU the same pairs come in the same order
from the same seed, but attention's backward kernel adds up in no fixed order, so that two trainings differ by rounding.
"""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read once, when CUDA starts

import torch
from accelerate import PartialState
from accelerate.utils import set_seed
from peft import LoraConfig, TaskType
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.trainer_callback import PrinterCallback
from trl import DPOConfig
from trl.trainer.utils import disable_dropout_in_model

from factory import store
from factory.opening import cache_folder
from factory.serving.models import resolve_model
from factory.training import reference
from factory.training.metrics import Metrics, plot
from factory.training.preference_trainer import PreferenceTrainer, Stop, Watch
from factory.training.states import CHECKPOINT, STATES, last_whole_state, mark_whole, write_checkpoint
from factory.training.stored_ids import ReferenceLogProbs, StoredIdsCollator, dataset_of
from factory.training.token_pairs import TokenPair, read_token_pairs, short_enough
from schemas.recipe import ModelRef
from schemas.train import Lora, Train
from schemas.training import METRICS, RESULT, TrainingPlan, TrainingResult

TRIPPED = 2
VERSIONED = ("torch", "transformers", "trl", "peft", "accelerate")
Say = Callable[[str], None]


class MarkedStates(PreferenceTrainer):
    """Its states count only when they are whole."""

    def _save_checkpoint(self, model: torch.nn.Module, trial: object) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            mark_whole(Path(self.args.output_dir), self.state.global_step)


def arguments(plan: TrainingPlan, *, resumed: bool, held_out: bool) -> DPOConfig:
    train = plan.train
    bf16 = _in_bf16(train)
    return DPOConfig(
        output_dir=str(plan.folder / STATES),
        loss_type=train.loss,
        beta=train.beta,
        learning_rate=train.learning_rate,
        num_train_epochs=train.epochs or 1,
        max_steps=train.max_steps or -1,
        per_device_train_batch_size=train.batch_size,
        per_device_eval_batch_size=train.batch_size,
        gradient_accumulation_steps=train.gradient_accumulation,
        warmup_steps=train.warmup,
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm,
        seed=train.seed,
        data_seed=train.seed,
        bf16=bf16,
        use_cpu=train.device == "cpu",
        gradient_checkpointing=train.gradient_checkpointing,
        max_length=None,  # nothing is cut: what is too long is not in the dataset
        precompute_ref_log_probs=True,
        disable_dropout=False,  # it would take the adapters' own too; the model's is off already
        remove_unused_columns=False,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_steps=train.save_every,
        eval_strategy="steps" if held_out else "no",
        eval_steps=train.eval_every,
        eval_on_start=held_out and not resumed,
        dataloader_pin_memory=torch.cuda.is_available() and train.device != "cpu",
        ddp_find_unused_parameters=False,
        report_to="none",
        disable_tqdm=True,
    )


def _in_bf16(train: Train) -> bool:
    can = torch.cuda.is_available() and train.device != "cpu" and torch.cuda.is_bf16_supported()
    return can if train.dtype == "auto" else train.dtype == "bfloat16"


def _adapters(lora: Lora | None) -> LoraConfig | None:
    if lora is None:
        return None
    return LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules or "all-linear",
    )


def build(plan: TrainingPlan, say: Say) -> MarkedStates:
    """The trainer, with the model at the plan's start, and the reference's log-probabilities in its datasets."""
    train, states = plan.train, plan.folder / STATES
    pairs = read_token_pairs(plan.pairs)
    used = short_enough(pairs.train, train.max_length)
    held_out = short_enough(pairs.test, train.max_length)[: train.eval_pairs]
    with PartialState().main_process_first():  # it removes what is not whole
        state = last_whole_state(states)
    settings = arguments(plan, resumed=state is not None, held_out=bool(held_out))
    set_seed(train.seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # a sixth of a CPU step, for what no step reads
    tokenizer = AutoTokenizer.from_pretrained(plan.model, trust_remote_code=plan.trust_remote_code)
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    seen = _reference(plan, (*used, *held_out), pad, say, bf16=settings.bf16)
    own_reference = plan.model_digest == plan.reference_digest
    watch = Watch(Metrics(plan.folder / METRICS), train.guards, say, PartialState().is_main_process, own_reference)
    watch.go_on_from(state[0] if state else 0)
    trainer = MarkedStates(
        watch=watch,
        model=_model(plan),
        args=settings,
        data_collator=StoredIdsCollator(pad_token_id=pad),
        train_dataset=dataset_of(used, seen[: len(used)]),
        eval_dataset=dataset_of(held_out, seen[len(used) :]) if held_out else None,
        processing_class=tokenizer,
        peft_config=_adapters(train.lora),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _model(plan: TrainingPlan) -> PreTrainedModel:
    model = AutoModelForCausalLM.from_pretrained(
        plan.model, dtype=torch.float32, trust_remote_code=plan.trust_remote_code
    )
    disable_dropout_in_model(model)
    return model


def _reference(
    plan: TrainingPlan, pairs: Sequence[TokenPair], pad: int, say: Say, *, bf16: bool
) -> list[ReferenceLogProbs]:
    """Kept from the last start, where there was one; else computed once and kept."""
    path, made_from = plan.folder / STATES / "reference.safetensors", f"{plan.reference_digest} bf16={bf16}"
    if (kept := reference.kept_log_probs(path, made_from, pairs)) is not None:
        return kept
    say(f"reference: reading {len(pairs)} pairs once")
    model = AutoModelForCausalLM.from_pretrained(
        plan.reference, dtype=torch.float32, trust_remote_code=plan.trust_remote_code
    )
    found = reference.log_probs(model, pairs, pad, say, bf16=bf16)
    if PartialState().is_main_process:
        reference.keep_log_probs(path, made_from, pairs, found)
    return found


def train(plan: TrainingPlan, say: Say) -> int:
    """From the last whole state, if there is one, to the end, a guard, or a signal. Returns the exit code."""
    torch.set_num_threads(plan.threads or torch.get_num_threads())
    trainer = build(plan, say)
    stop = Stop(_most(trainer))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop.note)
    trainer.add_callback(stop)
    state = last_whole_state(plan.folder / STATES)
    if trainer.watch.tripped is None:
        say(f"training on {trainer.args.device}" + (f", from step {state[0]} on" if state else ""))
        trainer.train(resume_from_checkpoint=str(state[1]) if state else None)
    return _end(plan, trainer, stop.signum)


def _most(trainer: MarkedStates) -> Callable[[int], int]:
    """Over all processes that train together: they have to stop after the same step."""

    def most(value: int) -> int:
        if trainer.accelerator.num_processes == 1:
            return value
        return int(trainer.accelerator.gather(torch.tensor([value], device=trainer.accelerator.device)).max())

    return most


def _end(plan: TrainingPlan, trainer: MarkedStates, signum: int) -> int:
    watch, state = trainer.watch, trainer.state
    if watch.tripped is None and signum and state.global_step < state.max_steps:
        return 128 + signum
    if watch.main:
        plot(watch.metrics.lines, plan.folder / "metrics.png")
        digest = None if watch.tripped else _checkpoint(plan, trainer)
        _write_result(plan, trainer, digest)
        if watch.tripped is None:
            shutil.rmtree(plan.folder / STATES)
    trainer.accelerator.wait_for_everyone()
    return TRIPPED if watch.tripped else 0


def _checkpoint(plan: TrainingPlan, trainer: MarkedStates) -> str:
    """Write it, and return the digest of its weights."""
    model, folder = trainer.accelerator.unwrap_model(trainer.model), plan.folder / CHECKPOINT
    if plan.train.lora is not None:
        model = model.merge_and_unload()
    model.config.get_text_config().pad_token_id = trainer.pad_of_base
    write_checkpoint(model, plan.model, folder)
    return resolve_model(ModelRef(model=str(folder)), cache_folder(), trainer.watch.say).digest


def _write_result(plan: TrainingPlan, trainer: MarkedStates, digest: str | None) -> None:
    watch = trainer.watch
    result = TrainingResult(
        status="tripped" if watch.tripped else "finished",
        reason=watch.tripped,
        steps=watch.metrics.lines[-1].step,
        digest=digest,
        made_from=plan.made_from,
        pairs=plan.figures,
        tokens_seen=trainer.tokens_seen,
        first=watch.metrics.first(),
        last=watch.metrics.last(),
        versions={name: version(name) for name in VERSIONED},
    )
    store.write_text(plan.folder / RESULT, result.model_dump_json(indent=1))


def main(plan: Path) -> int:
    """What is said goes to standard output, and whatever libraries print to standard error."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def say(line: str) -> None:
        if PartialState().is_main_process:
            out.write(f"{line}\n")
            out.flush()

    return train(TrainingPlan.model_validate_json(plan.read_bytes()), say)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m factory.training.dpo PLAN.json")
    sys.exit(main(Path(sys.argv[1])))
