"""The reference's log-probability of every token of every answer, computed once before the training.

So the reference is out of memory when the training begins, each epoch reads its values for nothing, and the KL per token is
there at every step. The rule that must not break: they are computed by the same code and in the same arithmetic as the
policy's, so that a policy that is its own reference has log-ratios of zero.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import PreTrainedModel
from trl.trainer.utils import add_fused_lm_head

from factory import store
from factory.training.stored_ids import ReferenceLogProbs, StoredIdsCollator, dataset_of, flat, unflat
from factory.training.token_pairs import TokenPair

BATCH_TOKENS = 4096  # of both sides with padding, that are read at once
SAID = 10  # batches between two lines that say how far it is
_VALUES, _MADE_FROM = "log_probs", "made_from"
Seen = tuple[int, ReferenceLogProbs]


def kept_log_probs(path: Path, made_from: str, pairs: Sequence[TokenPair]) -> list[ReferenceLogProbs] | None:
    """As `keep_log_probs` left them for the same model and the same pairs; None where it did not."""
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get(_MADE_FROM) == _known_as(made_from, pairs):
                return unflat(file.get_tensor(_VALUES), pairs)
    except (OSError, SafetensorError, ValueError):
        pass  # never written, or by a process that was killed: computed again
    return None


def keep_log_probs(path: Path, made_from: str, pairs: Sequence[TokenPair], seen: Sequence[ReferenceLogProbs]) -> None:
    with store.writing(path) as temporary:
        save_file({_VALUES: flat(seen)}, temporary, metadata={_MADE_FROM: _known_as(made_from, pairs)})


def _known_as(made_from: str, pairs: Sequence[TokenPair]) -> str:
    return hashlib.sha256(repr((made_from, pairs)).encode()).hexdigest()


def log_probs(
    model: PreTrainedModel, pairs: Sequence[TokenPair], pad: int, say: Callable[[str], None], *, bf16: bool
) -> list[ReferenceLogProbs]:
    """Of each pair, in the order given. Several processes share the work, and each gets all of it."""
    state = PartialState()
    model = model.to(state.device).eval()
    add_fused_lm_head(model)
    batches = list(_batches(pairs))
    own = batches[state.process_index :: state.num_processes]
    found: list[Seen] = []
    for done, batch in enumerate(own, start=1):
        with torch.no_grad(), torch.autocast(state.device.type, torch.bfloat16, enabled=bf16):
            found += _read(model, [(number, pairs[number]) for number in batch], pad)
        if done % SAID == 0:
            say(f"reference: {done} of {len(own)} batches")
    by_number = dict(gather_object(found))
    return [by_number[number] for number in range(len(pairs))]


def _batches(pairs: Sequence[TokenPair]) -> Iterator[list[int]]:
    """Numbers of pairs of like length, so that there is little padding."""
    batch: list[int] = []
    for number in sorted(range(len(pairs)), key=lambda number: pairs[number].longest):
        if batch and 2 * (len(batch) + 1) * pairs[number].longest > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _read(model: PreTrainedModel, batch: Sequence[tuple[int, TokenPair]], pad: int) -> list[Seen]:
    pairs = [pair for _, pair in batch]
    unknown = [ReferenceLogProbs([0.0] * len(pair.chosen_ids), [0.0] * len(pair.rejected_ids)) for pair in pairs]
    inputs = StoredIdsCollator(pad_token_id=pad)(list(dataset_of(pairs, unknown)))
    ids, mask, answer = (inputs[name].to(model.device) for name in ("input_ids", "attention_mask", "completion_mask"))
    labels = ids.masked_fill(answer == 0, -100)
    output = model(input_ids=ids, attention_mask=mask, use_cache=False, labels=labels, fused_lm_head=True)
    chosen, rejected = output.log_probs.float().cpu().chunk(2)
    return [
        (
            number,
            ReferenceLogProbs(
                _on_answer(chosen[row], pair, len(pair.chosen_ids)),
                _on_answer(rejected[row], pair, len(pair.rejected_ids)),
            ),
        )
        for row, (number, pair) in enumerate(batch)
    ]


def _on_answer(row: torch.Tensor, pair: TokenPair, tokens: int) -> list[float]:
    """Position t of a row holds the log-probability of token t + 1."""
    start = len(pair.prompt_ids) - 1
    values: list[float] = row[start : start + tokens].tolist()
    return values
