"""The recipe's section `train`: what it means where nothing is said, and what it refuses."""

import pytest

from factory.recipes.recipe_file import identity, read_recipe
from schemas.errors import RecipeError
from schemas.train import Lora, Train
from tests.conftest import RecipeWriter


@pytest.mark.parametrize(
    ("train", "beta", "rate"),
    [
        (Train(), 5.0, 1e-5),
        (Train(lora=Lora()), 5.0, 2e-4),
        (Train(loss="sigmoid"), 0.1, 1e-5),
        (Train(beta=2.0, learning_rate=3e-6), 2.0, 3e-6),
    ],
)
def test_train_settled_has_what_fits_the_loss_and_the_method(train: Train, beta: float, rate: float) -> None:
    settled = train.settled(7)

    assert (settled.beta, settled.learning_rate, settled.seed, settled.epochs) == (beta, rate, 7, 3.0)
    assert settled.settled(8) == settled


def test_train_settled_ends_after_its_steps_where_it_names_them() -> None:
    assert Train(max_steps=9).settled(0).epochs is None


def test_train_deciding_leaves_out_what_only_says_how_it_runs() -> None:
    other = Train(save_every=1, eval_every=2, eval_pairs=3, device="cpu", gradient_checkpointing=True)

    assert other.deciding() == Train().deciding() != Train(beta=1.0).deciding()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train.loss": "dpo"}, "train.loss: got 'dpo'; write one of `sigmoid_norm`, `sigmoid`, `sft`"),
        ({"train.beta": 0}, "train.beta: got 0; write a number above 0"),
        ({"train.epochs": 1, "train.max_steps": 5}, "`epochs` and `max_steps` both say when to stop"),
        ({"train.lora.rank": 8}, "train.lora.rank: unknown key"),
        ({"train.guards.max_klx": 1}, "did you mean `max_kl`?"),
        ({"train.guards.min_length_ratio": 9}, "leaves nothing below max_length_ratio 5"),
        ({"train.max_length": 4}, "train.max_length: got 4; write a whole number of at least 8"),
    ],
    ids=str,
)
def test_train_of_a_recipe_that_is_wrong_says_what_to_write(
    write_recipe: RecipeWriter, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(RecipeError) as error:
        read_recipe(write_recipe(changes))

    assert said in str(error.value)


def test_train_is_no_part_of_a_runs_identity(write_recipe: RecipeWriter) -> None:
    assert identity(read_recipe(write_recipe({"train.beta": 1.5}))) == identity(read_recipe(write_recipe()))
