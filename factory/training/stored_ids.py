"""The pairs as TRL takes them in its own collator: token ids as stored, with the reference's log-probability of each.

The rule that must not break: what the model reads is prompt ids followed by answer ids, byte for byte as they were exported.
There is no tokenizer here, no end token, no template and no length.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TypedDict

import torch
from datasets import Dataset
from torch import Tensor
from trl.trainer.dpo_trainer import DataCollatorForPreference

from factory.training.token_pairs import TokenPair


@dataclass(frozen=True, slots=True)
class ReferenceLogProbs:
    """Of each token of one pair's answers, as the reference sees them. An answer without tokens has none."""

    chosen: list[float]
    rejected: list[float]


class Example(TypedDict):
    """A row of the dataset. TRL reads all but the last two columns, which it would not know what to do with."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]
    ref_chosen_logps: float
    ref_rejected_logps: float
    ref_chosen_tokens: list[float]
    ref_rejected_tokens: list[float]


def dataset_of(pairs: Sequence[TokenPair], reference: Sequence[ReferenceLogProbs]) -> Dataset:
    rows: list[Example] = [
        {
            "prompt_ids": list(pair.prompt_ids),
            "chosen_ids": list(pair.chosen_ids),
            "rejected_ids": list(pair.rejected_ids),
            "ref_chosen_logps": sum(seen.chosen),
            "ref_rejected_logps": sum(seen.rejected),
            "ref_chosen_tokens": seen.chosen,
            "ref_rejected_tokens": seen.rejected,
        }
        for pair, seen in zip(pairs, reference, strict=True)
    ]
    return Dataset.from_list(rows)


@dataclass
class StoredIdsCollator(DataCollatorForPreference):  # type: ignore[misc]  # TRL is not typed
    """TRL's batch, chosen sides first and then the rejected ones, and `ref_token_logps` (2B, T - 1), 0 off the answer."""

    def torch_call(self, examples: list[Example]) -> dict[str, Tensor]:
        batch: dict[str, Tensor] = super().torch_call(examples)
        known = torch.zeros(batch["input_ids"].shape[0], batch["input_ids"].shape[1] - 1)
        for number, example in enumerate(examples):
            for row, values in (
                (number, example["ref_chosen_tokens"]),
                (number + len(examples), example["ref_rejected_tokens"]),
            ):
                start = len(example["prompt_ids"]) - 1  # position t holds the log-probability of token t + 1
                known[row, start : start + len(values)] = torch.tensor(values)
        return batch | {"ref_token_logps": known}


def flat(seen: Sequence[ReferenceLogProbs]) -> Tensor:
    """All log-probabilities one after the other: of each pair the chosen side's, then the rejected side's."""
    return torch.tensor([value for one in seen for value in (*one.chosen, *one.rejected)])


def unflat(values: Tensor, pairs: Sequence[TokenPair]) -> list[ReferenceLogProbs]:
    """What `flat` was made of. Raises ValueError where the sizes do not fit."""
    sizes = [len(ids) for pair in pairs for ids in (pair.chosen_ids, pair.rejected_ids)]
    if sum(sizes) != len(values):
        raise ValueError(f"{len(values)} log-probabilities for {sum(sizes)} tokens")
    cuts = accumulate(sizes, initial=0)
    sides = [values[start:end].tolist() for start, end in pairwise(cuts)]
    return [ReferenceLogProbs(chosen, rejected) for chosen, rejected in zip(sides[::2], sides[1::2], strict=True)]
