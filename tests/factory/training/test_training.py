"""Whole trainings of a tiny model: what the model reads, what it ends as, what stops it."""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("trl", reason="the trainer's libraries are not installed")

import psutil
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from factory.client.gate import Gate
from factory.trainer import Trained, train
from factory.training import dpo
from schemas.errors import DriftError, Stopped, TrainerEnded
from schemas.train import Lora, Loss, Train, TrainGuards
from schemas.training import StepFigures, TrainingPlan
from tests.tiny_training import QUICK, TEST, TRAIN, Ground, result_of, same_weights, weights
from tests.token_export import WORDS, pair

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def trained(plan: TrainingPlan, say: Callable[[str], None] = print) -> int:
    """In this process, whose own handlers are put back."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        return dpo.train(plan, say)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def lines(plan: TrainingPlan) -> list[StepFigures]:
    text = (plan.folder / "metrics.jsonl").read_text(encoding="utf-8")
    return [StepFigures.model_validate_json(line) for line in text.splitlines()]


def with_guards(**bounds: float) -> Train:
    return QUICK.model_copy(update={"guards": TrainGuards.model_validate(bounds)})


def test_training_shows_the_model_exactly_the_stored_ids(ground: Ground) -> None:
    """Each side of each pair once an epoch: no token more, none less, answers without an end token as they are."""
    long = pair(77, [3, 4], [5] * 300, [6] * 450)
    plan = ground.plan(Train(epochs=2, batch_size=3, device="cpu"), pairs=[*TRAIN, long], test=())
    trainer, seen = dpo.build(plan, print), list[tuple[int, ...]]()

    def look(_: object, __: object, given: dict[str, torch.Tensor]) -> None:
        for ids, mask in zip(given["input_ids"], given["attention_mask"], strict=True):
            seen.append(tuple(ids[mask.bool()].tolist()))

    trainer.model.register_forward_pre_hook(look, with_kwargs=True)
    trainer.train()

    stored = [one.prompt_ids + ids for one in (*TRAIN, long) for ids in (one.chosen_ids, one.rejected_ids)]
    assert sorted(seen) == sorted(stored * 2)
    assert trainer.tokens_seen == 2 * plan.figures.tokens


def test_training_leaves_out_pairs_that_are_too_long_and_names_them(ground: Ground) -> None:
    long = [pair(500 + number, [3, 4, 5], [6] * 40, [7]) for number in range(3)]
    plan = ground.plan(QUICK.model_copy(update={"max_length": 42}), pairs=[*long[:1], *TRAIN, *long[1:]])

    assert trained(plan) == 0

    found = result_of(plan).pairs
    assert found.too_long == [one.prompt_id for one in long]
    assert (found.pairs, found.used) == (len(TRAIN) + 3, len(TRAIN))


@pytest.mark.parametrize("loss", ["sigmoid_norm", "sigmoid", "sft"])
@pytest.mark.parametrize("lora", [None, Lora(r=4)], ids=["full", "lora"])
def test_training_ends_with_a_checkpoint_that_loads(ground: Ground, loss: Loss, lora: Lora | None) -> None:
    plan = ground.plan(QUICK.model_copy(update={"loss": loss, "lora": lora, "max_steps": 3}))

    assert trained(plan) == 0

    checkpoint = plan.folder / "checkpoint"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
    assert weights(checkpoint).keys() == weights(plan.model).keys()
    assert not same_weights(checkpoint, plan.model)
    assert model.config.pad_token_id is None
    assert len(tokenizer) == WORDS
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (checkpoint / name).read_bytes() == (plan.model / name).read_bytes()
    assert not (plan.folder / "state").exists()


def test_training_writes_each_step_once_with_its_figures(ground: Ground) -> None:
    plan = ground.plan()

    assert trained(plan) == 0

    found = lines(plan)
    assert [line.step for line in found if line.split == "train"] == [1, 2, 3, 4, 5, 6]
    assert [line.step for line in found if line.split == "test"] == [0, 3, 6]
    for start in (found[0], next(line for line in found if line.split == "train")):
        assert start.chosen_shift == pytest.approx(0, abs=1e-6)
        assert start.kl == pytest.approx(0, abs=1e-6)
    assert all(line.pairs == (4 if line.split == "train" else len(TEST)) for line in found)
    assert (plan.folder / "metrics.png").read_bytes().startswith(b"\x89PNG")
    assert result_of(plan).last[0] == [line for line in found if line.split == "train"][-1]


def test_training_margin_of_the_last_line_is_the_checkpoints(ground: Ground) -> None:
    """The held-out figures at the end, worked out again from the two models."""
    plan = ground.plan()
    trained(plan)
    policy, reference = (
        AutoModelForCausalLM.from_pretrained(folder).eval() for folder in (plan.folder / "checkpoint", plan.model)
    )

    def shift(prompt: tuple[int, ...], answer: tuple[int, ...]) -> float:
        ids = torch.tensor([[*prompt, *answer]])
        with torch.no_grad():
            both = [model(ids).logits.log_softmax(-1)[0, len(prompt) - 1 : -1] for model in (policy, reference)]
        ratios = (both[0] - both[1]).gather(1, torch.tensor(answer)[:, None])
        return float(ratios.mean())

    margins = [shift(one.prompt_ids, one.chosen_ids) - shift(one.prompt_ids, one.rejected_ids) for one in TEST]
    assert lines(plan)[-1].margin == pytest.approx(sum(margins) / len(margins), abs=1e-5)


# What stops it


def test_training_that_trips_a_guard_says_why_and_goes_on_where_the_bound_is_raised(ground: Ground) -> None:
    plan = ground.plan(with_guards(max_kl=1e-6))

    assert trained(plan) == 2

    tripped = result_of(plan)
    assert tripped.status == "tripped"
    assert "train.guards.max_kl 1e-06" in (tripped.reason or "")
    assert (tripped.steps, tripped.digest) == (len({line.step for line in lines(plan)} - {0}), None)

    assert trained(plan) == 2  # again, and not one step further
    assert result_of(plan).steps == tripped.steps

    assert trained(ground.plan()) == 0
    undisturbed = ground.plan(name="undisturbed")
    assert trained(undisturbed) == 0
    assert same_weights(plan.folder / "checkpoint", undisturbed.folder / "checkpoint")


def test_training_whose_loss_is_no_number_keeps_no_such_weights(ground: Ground) -> None:
    plan = ground.plan(QUICK.model_copy(update={"learning_rate": 1e30, "save_every": 1, "warmup": 0.0}))

    assert trained(plan) == 2

    assert "train.learning_rate" in (result_of(plan).reason or "")
    assert not (plan.folder / "checkpoint").exists()


# The process


async def followed(plan: TrainingPlan, on_line: Callable[[str, Gate], None]) -> Trained:
    gate = Gate()
    return await train(plan, plan.folder / "train.log", lambda line: on_line(line, gate), gate, ())


def silent(_: str, __: Gate) -> None: ...


def kill_at(step: int) -> Callable[[str, Gate], None]:
    """SIGKILL for the trainer itself."""

    def on_line(line: str, _: Gate) -> None:
        if line.startswith(f"step {step} of"):
            for process in psutil.Process(os.getpid()).children(recursive=True):
                if "factory.training.dpo" in process.cmdline() and "guard.py" not in " ".join(process.cmdline()):
                    process.kill()

    return on_line


def stop_at(step: int) -> Callable[[str, Gate], None]:
    def on_line(line: str, gate: Gate) -> None:
        if line.startswith(f"step {step} of"):
            gate.close(Stopped("stopped", signal.SIGINT))

    return on_line


def test_training_killed_then_stopped_ends_with_the_weights_of_one_that_was_not(ground: Ground) -> None:
    settings = QUICK.model_copy(update={"max_steps": 60, "save_every": 7, "eval_every": 50})
    plan = ground.plan(settings)

    with pytest.raises(TrainerEnded, match="code 137"):
        asyncio.run(followed(plan, kill_at(10)))
    with pytest.raises(Stopped, match="the same command goes on"):
        asyncio.run(followed(plan, stop_at(20)))
    kept = json.loads(next(plan.folder.glob("state/checkpoint-*/trainer_state.json")).read_text())["global_step"]
    assert 20 <= kept < 60
    found = asyncio.run(followed(plan, silent))

    undisturbed = ground.plan(settings, name="undisturbed")
    assert trained(undisturbed) == 0
    assert same_weights(found.checkpoint, undisturbed.folder / "checkpoint")
    assert found.digest == result_of(undisturbed).digest
    assert [line.step for line in lines(plan)] == [line.step for line in lines(undisturbed)]


def test_training_with_adapters_and_dropout_goes_on_with_the_same_chances(
    ground: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    """Dropout draws random numbers at every step: they are part of the state."""
    settings = QUICK.model_copy(update={"lora": Lora(r=4, dropout=0.2), "save_every": 50})
    plan, undisturbed = ground.plan(settings), ground.plan(settings, name="undisturbed")

    def stop(line: str) -> None:
        if line.startswith("step 2 of"):
            os.kill(os.getpid(), signal.SIGTERM)

    assert trained(plan, stop) == 143
    assert trained(plan) == 0

    assert trained(undisturbed) == 0
    assert same_weights(plan.folder / "checkpoint", undisturbed.folder / "checkpoint")
    assert "from step 3 on" in capsys.readouterr().out


def test_training_that_is_done_is_found_as_it_is(ground: Ground) -> None:
    plan = ground.plan(QUICK.model_copy(update={"max_steps": 1}))
    trained(plan)
    (plan.folder / "plan.json").write_text(plan.model_dump_json())

    found = asyncio.run(followed(plan, silent))

    assert (found.new, found.stopped_by) == (False, None)


def test_training_refuses_a_folder_of_another_one(ground: Ground) -> None:
    plan = ground.plan()
    (plan.folder / "plan.json").write_text(plan.model_dump_json())
    other = ground.plan(QUICK.model_copy(update={"beta": 1.0}))

    with pytest.raises(DriftError, match=r"train\.beta: 5.0 -> 1.0.*--name"):
        asyncio.run(followed(other, silent))


def test_training_on_pairs_that_nobody_should_train_on_starts_no_process(ground: Ground) -> None:
    plan = ground.plan(pairs=TRAIN[:5])

    found = asyncio.run(followed(plan, lambda line, _: pytest.fail(line)))

    assert found.stopped_by == "5 pairs to train on, fewer than train.guards.min_pairs 16"
    assert result_of(plan) == found.result
