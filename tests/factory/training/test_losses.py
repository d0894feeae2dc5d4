"""Our losses against TRL's own code on real batches, and what each of them promises.

Ours are given log-probabilities that are worked out here from the model's logits; TRL's come from its trainer.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("trl", reason="the trainer's libraries are not installed")

import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from factory.training import dpo, losses
from factory.training.losses import Side
from factory.training.token_pairs import TokenPair
from schemas.train import Loss, Train
from tests.tiny_training import QUICK, Ground
from tests.token_export import END, pair

TURNS = [1, 5, 6, END, 7, 8, END, 9, 10, 11, END]  # a conversation of several turns as its template writes it
BATCHES: dict[str, Sequence[TokenPair]] = {
    "unequal lengths": [pair(1, [3, 4, 5], [6, 7, 8, 9, 10, 11, END], [6]), pair(2, [3, 9], [8, END], [7] * 30)],
    "several turns": [pair(1, TURNS, [12, 13, END], [14, 15, 16]), pair(2, TURNS[:5], [12, END], [14])],
    "one token each": [pair(1, [3, 4], [5], [6]), pair(2, [9, 8, 7], [END], [6])],
    "an empty chosen side": [pair(1, [3, 4], [], [6, 7, 8]), pair(2, [3, 5], [6, END], [6, 7])],
    "an empty rejected side": [pair(1, [3, 4], [6, 7, END], []), pair(2, [3, 5], [6, END], [6, 7])],
    "cut without an end token": [pair(1, [3, 4], [6, 7, 8], [6] * 9), pair(2, [3, 5], [6, END], [6, 7])],
}


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("losses"))


def sides(policy: Path, reference: Path, pairs: Sequence[TokenPair]) -> tuple[Side, Side]:
    """From the logits of both models, one answer after the other, without a batch and without padding."""
    models = [AutoModelForCausalLM.from_pretrained(folder).eval() for folder in (policy, reference)]
    both = []
    for answers in ([one.chosen_ids for one in pairs], [one.rejected_ids for one in pairs]):
        longest = max(1, *(len(ids) for ids in answers))
        mask = torch.zeros(len(pairs), longest)
        seen = [torch.zeros(len(pairs), longest) for _ in models]
        for row, (one, ids) in enumerate(zip(pairs, answers, strict=True)):
            mask[row, : len(ids)] = 1
            whole = torch.tensor([[*one.prompt_ids, *ids]])
            for model, values in zip(models, seen, strict=True):
                with torch.no_grad():
                    logits = model(whole).logits[0].log_softmax(dim=-1)
                for at, token in enumerate(ids):
                    values[row, at] = logits[len(one.prompt_ids) + at - 1, token]
        both.append(Side(seen[0], seen[1], mask))
    return both[0], both[1]


def ours(loss: Loss, beta: float, chosen: Side, rejected: Side) -> float:
    match loss:
        case "sigmoid_norm":
            value = losses.length_normalised_dpo(chosen, rejected, beta).mean()
        case "sigmoid":
            value = losses.dpo(chosen, rejected, beta).mean()
        case "sft":
            value = losses.sft(chosen)
    return float(value)


@pytest.mark.parametrize("loss", ["sigmoid_norm", "sigmoid", "sft"])
def test_losses_of_real_batches_are_trls(ground: Ground, loss: Loss) -> None:
    every = [one for batch in BATCHES.values() for one in batch]
    plan = ground.plan(Train(loss=loss, device="cpu", max_steps=1), f"trl-{loss}", every, (), reference=1)
    trainer = dpo.build(plan, print)

    for number, (name, batch) in enumerate(BATCHES.items()):
        rows = trainer.data_collator([trainer.train_dataset[2 * number], trainer.train_dataset[2 * number + 1]])
        with torch.no_grad():
            theirs = float(trainer.compute_loss(trainer.model, rows))
        assert plan.train.beta is not None
        value = ours(loss, plan.train.beta, *sides(plan.model, plan.reference, batch))
        assert value == pytest.approx(theirs, abs=1e-5), name


@pytest.mark.filterwarnings("ignore")  # TRL says of itself that this trainer is an experiment
def test_simpo_of_real_batches_is_trls(ground: Ground) -> None:
    """TRL's trainer for it wants texts of its own, so that its two functions are asked, from logits to losses."""
    from trl.experimental.cpo import CPOTrainer

    settings = {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 0.5, "label_smoothing": 0.0, "alpha": 0.0}
    trainer = SimpleNamespace(**settings, accelerator=SimpleNamespace(device="cpu"))
    plan = ground.plan(QUICK, "simpo", BATCHES["unequal lengths"], (), reference=1)
    model = AutoModelForCausalLM.from_pretrained(plan.model).eval()
    for name, batch in BATCHES.items():
        if not all(one.chosen_ids and one.rejected_ids for one in batch):
            continue  # TRL divides by the length
        logps = [
            torch.cat([answer_logp(model, one.prompt_ids, ids) for one, ids in answers])
            for answers in ([(one, one.chosen_ids) for one in batch], [(one, one.rejected_ids) for one in batch])
        ]
        theirs, _, _ = CPOTrainer.cpo_loss(trainer, *logps)
        value = losses.simpo(*sides(plan.model, plan.reference, batch), 2.0, 0.5)
        assert torch.allclose(value, theirs, atol=1e-5), name


def answer_logp(model: torch.nn.Module, prompt: Sequence[int], answer: Sequence[int]) -> torch.Tensor:
    """(1,): the mean of the answer's log-probabilities, as TRL takes it."""
    from trl.experimental.cpo import CPOTrainer

    labels = torch.tensor([[-100] * len(prompt) + list(answer)])
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *answer]])).logits
    return CPOTrainer.get_batch_logps(logits, labels, average_log_prob=True)


def test_apo_zero_of_one_token_answers_is_trls_of_the_sum(ground: Ground) -> None:
    batch = BATCHES["one token each"]
    plan = ground.plan(QUICK, "apo", batch, (), reference=1)
    trainer = dpo.build(plan, print)
    trainer.loss_types, trainer.beta = ["apo_zero"], 0.7

    with torch.no_grad():
        theirs = float(trainer.compute_loss(trainer.model, trainer.data_collator(list(trainer.train_dataset))))

    chosen, rejected = sides(plan.model, plan.reference, batch)
    assert float(losses.apo_zero_normalised(chosen, rejected, 0.7).mean()) == pytest.approx(theirs, abs=1e-5)


log_probs = st.lists(st.floats(-20, 0, width=32), min_size=1, max_size=6)


def side(policy: Sequence[float], reference: Sequence[float], padding: int = 0) -> Side:
    size = min(len(policy), len(reference))
    rows = [torch.tensor([[*values[:size], *[-3.0] * padding]]) for values in (policy, reference)]
    return Side(rows[0], rows[1], torch.tensor([[1.0] * size + [0.0] * padding]))


@given(log_probs, log_probs, log_probs, log_probs, st.integers(0, 5))
def test_every_loss_is_blind_to_padding(
    one: list[float], two: list[float], three: list[float], four: list[float], padding: int
) -> None:
    bare, padded = (side(one, two), side(three, four)), (side(one, two, padding), side(three, four, padding))

    for before, after in zip(every_loss(*bare), every_loss(*padded), strict=True):
        assert torch.allclose(before, after, atol=1e-4)


def every_loss(chosen: Side, rejected: Side) -> list[torch.Tensor]:
    return [
        losses.length_normalised_dpo(chosen, rejected, 5.0),
        losses.dpo(chosen, rejected, 0.1),
        losses.simpo(chosen, rejected, 2.0, 0.5),
        losses.relative_and_absolute(chosen, rejected, 1.0, 0.7, 0.3),
        losses.sft(chosen),
        losses.kl_per_token(chosen),
        losses.kl_per_token_of_own(chosen),
    ]


@given(st.lists(st.tuples(st.floats(-20, 0), st.floats(-20, 0)), min_size=1, max_size=6), st.integers(2, 4))
def test_length_normalised_dpo_is_blind_to_an_answer_said_again(tokens: list[tuple[float, float]], times: int) -> None:
    """The mean of the tokens said once is their mean said often; the sum would grow."""
    policy, reference = [one for one, _ in tokens], [other for _, other in tokens]
    once, again, other = side(policy, reference), side(policy * times, reference * times), side([-1.0], [-2.0])

    assert torch.allclose(
        losses.length_normalised_dpo(once, other, 5.0), losses.length_normalised_dpo(again, other, 5.0), atol=1e-4
    )


def test_dpo_of_a_policy_that_is_its_reference_is_log_2() -> None:
    same = side([-1.0, -2.0], [-1.0, -2.0])

    for loss in (losses.length_normalised_dpo(same, same, 5.0), losses.dpo(same, same, 0.1)):
        assert float(loss) == pytest.approx(0.693147, abs=1e-5)


def test_simpo_worked_out_by_hand() -> None:
    """Means -1 and -3, so that beta 2 and gamma 1 make -log sigmoid(2 * 2 - 1)."""
    value = losses.simpo(side([-0.5, -1.5], [-9.0, -9.0]), side([-3.0], [-9.0]), 2.0, 1.0)

    assert float(value) == pytest.approx(0.0485874, abs=1e-6)


@given(log_probs, log_probs)
def test_kl_per_token_is_never_negative(one: list[float], two: list[float]) -> None:
    assert float(losses.kl_per_token(side(one, two))) >= -1e-6
    assert float(losses.kl_per_token_of_own(side(one, two))) >= -1e-6


def test_kl_per_token_of_either_writer_is_the_divergence_that_its_own_answers_tell() -> None:
    """Two tokens; each estimate is weighed by how often its writer says them."""
    policy, reference = (0.9, 0.1), (0.4, 0.6)
    token = [side([math.log(p)], [math.log(q)]) for p, q in zip(policy, reference, strict=True)]
    of_reference = sum(q * float(losses.kl_per_token(one)) for q, one in zip(reference, token, strict=True))
    of_policy = sum(p * float(losses.kl_per_token_of_own(one)) for p, one in zip(policy, token, strict=True))

    assert of_reference == pytest.approx(sum(q * math.log(q / p) for p, q in zip(policy, reference, strict=True)))
    assert of_policy == pytest.approx(sum(p * math.log(p / q) for p, q in zip(policy, reference, strict=True)))
