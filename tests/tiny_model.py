"""A model of a few thousand weights, its tokenizer, and pairs for it: what a training can be tested with in seconds."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from factory.training.token_pairs import TokenPair

WORDS = 64
END = 2
SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("prompt_ids", pa.list_(pa.int32())),
        ("chosen_ids", pa.list_(pa.int32())),
        ("rejected_ids", pa.list_(pa.int32())),
        ("chosen_ended", pa.bool_()),
        ("rejected_ended", pa.bool_()),
        ("cause", pa.string()),
        ("rejected_trimmed", pa.bool_()),
        ("margin", pa.float64()),
    ]
)


def save_tiny_model(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=WORDS,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=END,
        pad_token_id=None,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    names = ["<unk>", "<s>", "</s>", *(f"w{number}" for number in range(3, WORDS))]
    tokenizer = Tokenizer(WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    fast.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    fast.save_pretrained(folder)
    return folder


def pair(number: int, prompt: Sequence[int], chosen: Sequence[int], rejected: Sequence[int]) -> TokenPair:
    return TokenPair(
        prompt_id=f"{number:08x}",
        prompt_ids=tuple(prompt),
        chosen_ids=tuple(chosen),
        rejected_ids=tuple(rejected),
        chosen_ended=bool(chosen) and chosen[-1] == END,
        rejected_ended=bool(rejected) and rejected[-1] == END,
        cause="jury",
        rejected_trimmed=False,
        margin=0.5,
    )


def pairs(count: int, first: int = 0) -> list[TokenPair]:
    """Prompts that differ, answers of every length, some that end and some that were cut."""
    generator = torch.Generator().manual_seed(first + 1)

    def ids(size: int) -> list[int]:
        found: list[int] = torch.randint(3, WORDS, (size,), generator=generator).tolist()
        return found

    return [
        pair(
            first + number,
            ids(6 + number % 5),
            [*ids(1 + number % 9), END],
            [*ids(2 + number % 13), *([] if number % 2 else [END])],
        )
        for number in range(count)
    ]


def write_export(folder: Path, train: Sequence[TokenPair], test: Sequence[TokenPair] = ()) -> Path:
    for split, rows in (("train", train), ("test", test)):
        if rows:
            (folder / "data").mkdir(parents=True, exist_ok=True)
            columns = [{name: getattr(row, name) for name in SCHEMA.names} for row in rows]
            pq.write_table(pa.Table.from_pylist(columns, schema=SCHEMA), folder / "data" / f"{split}.parquet")
    return folder
