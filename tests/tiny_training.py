"""A whole training of the tiny model, in this process: what it is made from, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from factory.training.pair_guards import pair_figures
from factory.training.token_pairs import TokenPair, TokenPairs, digest_of
from schemas.train import Train
from schemas.training import RESULT, TrainingPlan, TrainingResult
from tests.tiny_model import save_tiny_model
from tests.token_export import pairs, write_export

TRAIN = tuple(pairs(20))
TEST = tuple(pairs(6, first=100))
QUICK = Train(learning_rate=1e-3, max_steps=6, save_every=2, eval_every=3, device="cpu")


@dataclass(frozen=True, slots=True)
class Ground:
    """Where trainings of one test are made: a model, another one, and pairs."""

    root: Path

    def plan(
        self,
        train: Train = QUICK,
        name: str = "out",
        pairs: Sequence[TokenPair] = TRAIN,
        test: Sequence[TokenPair] = TEST,
        reference: int = 0,
    ) -> TrainingPlan:
        """`reference`: the seed of its weights; the model's own is 0."""
        settled, found = train.settled(0), TokenPairs(tuple(pairs), tuple(test))
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        return TrainingPlan(
            train=settled,
            model=self._model(0),
            model_digest="0",
            reference=self._model(reference),
            reference_digest=str(reference),
            pairs=write_export(self.root / f"export-{name}", pairs, test),
            pairs_digest=digest_of(found),
            folder=folder,
            threads=1,
            figures=pair_figures(found, settled),
        )

    def _model(self, seed: int) -> Path:
        folder = self.root / f"model-{seed}"
        return folder if folder.is_dir() else save_tiny_model(folder, seed)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Of a model folder."""
    found: dict[str, torch.Tensor] = load_file(folder / "model.safetensors")
    return found


def same_weights(one: Path, other: Path) -> bool:
    """To the bit."""
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def result_of(plan: TrainingPlan) -> TrainingResult:
    return TrainingResult.model_validate_json((plan.folder / RESULT).read_bytes())
