"""The batches that the model is shown."""

import pytest

pytest.importorskip("trl", reason="the trainer's libraries are not installed")

import torch
from hypothesis import given
from hypothesis import strategies as st

from factory.training.stored_ids import ReferenceLogProbs, StoredIdsCollator, dataset_of, flat, unflat
from factory.training.token_pairs import TokenPair
from tests.token_export import pair

ids = st.lists(st.integers(3, 60), max_size=8)
pairs = st.lists(st.builds(pair, st.integers(0, 9), st.lists(st.integers(3, 60), min_size=1, max_size=8), ids, ids))


def seen(one: TokenPair) -> ReferenceLogProbs:
    return ReferenceLogProbs([-0.5] * len(one.chosen_ids), [-1.5] * len(one.rejected_ids))


@given(pairs.filter(bool))
def test_collator_puts_each_log_probability_where_its_token_is_predicted(found: list[TokenPair]) -> None:
    batch = StoredIdsCollator(pad_token_id=0)(list(dataset_of(found, [seen(one) for one in found])))

    answer = batch["completion_mask"][:, 1:].bool()
    assert torch.equal(batch["ref_token_logps"] != 0, answer)
    chosen, rejected = batch["ref_token_logps"].chunk(2)
    assert set(chosen[chosen != 0].tolist()) <= {-0.5}
    assert set(rejected[rejected != 0].tolist()) <= {-1.5}


@given(pairs)
def test_log_probabilities_laid_flat_come_back(found: list[TokenPair]) -> None:
    every = [seen(one) for one in found]

    assert unflat(flat(every), found) == every


def test_log_probabilities_of_other_pairs_are_refused() -> None:
    one, other = pair(1, [3], [4], [5]), pair(1, [3], [4, 4], [5])

    with pytest.raises(ValueError, match="2 log-probabilities for 3 tokens"):
        unflat(flat([seen(one)]), [other])
