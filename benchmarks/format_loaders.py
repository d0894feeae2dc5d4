"""Reads an export by its trainer's own loader: `format_loaders.py FORMAT FOLDER MODEL`, in that trainer's environment.

The last line is one JSON object: rows by split, and the text of each pair's two sides as the trainer would score them, put
back together from its tokens where it makes some. Nothing of this project is imported here, and each trainer only where it is
asked for.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import yaml
from datasets import load_dataset
from transformers import AutoTokenizer

Read = tuple[dict[str, int], list[list[str]]]
SIDES = ("chosen", "rejected")
IGNORED = -100  # as a label: not scored


def llama_factory(tokenizer: Any, model: str) -> Read:
    stub = ModuleType("torchaudio")  # imported beside what reads sound, and its builds want CUDA
    stub.__spec__ = ModuleSpec("torchaudio", None)
    sys.modules["torchaudio"] = stub
    os.environ["DISABLE_VERSION_CHECK"] = "1"
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args

    named = {"dataset_dir": ".", "dataset": "prefactory_train", "eval_dataset": "prefactory_test"}
    settings = {"stage": "dpo", "do_train": True, "finetuning_type": "lora", "template": "chatml", "cutoff_len": 1024}
    machine = {"output_dir": "out", "report_to": "none", "use_cpu": True, "bf16": False, "preprocessing_num_workers": 1}
    args = get_train_args({"model_name_or_path": model} | named | settings | machine)
    model_args, data_args, training_args = args[:3]
    template = get_template_and_fix_tokenizer(tokenizer, data_args)
    held = get_dataset(template, model_args, data_args, training_args, stage="rm", tokenizer=tokenizer)
    return _labelled(tokenizer, {"train": held["train_dataset"], "test": held["eval_dataset"]})


def axolotl(tokenizer: Any, _: str) -> Read:
    from axolotl.prompt_strategies.dpo import load
    from axolotl.utils.dict import DictDefault

    own = yaml.safe_load(Path("axolotl.yaml").read_text(encoding="utf-8"))
    rows, answers = {}, []
    for split, key in (("train", "datasets"), ("test", "test_datasets")):
        (source,) = own[key]
        transform, _more = load(source["type"], DictDefault(own | {"datasets": own[key]}), dataset_idx=0)
        held = load_dataset(source["ds_type"], data_files=source["path"], split=source["split"])
        held = held.map(transform, fn_kwargs={"tokenizer": tokenizer})
        rows[split] = len(held)
        answers += [[row[side] for side in SIDES] for row in held]
    return rows, answers


def openrlhf(tokenizer: Any, _: str) -> Read:
    from openrlhf.datasets.reward_dataset import RewardDataset

    keys = {f"{name}_key": name for name in ("prompt", *SIDES)}
    data = SimpleNamespace(apply_chat_template=True, tokenizer_chat_template=None, **keys)
    strategy = SimpleNamespace(args=SimpleNamespace(data=data))
    rows, answers = {}, []
    for split, held in load_dataset(str(Path.cwd())).items():
        pairs = RewardDataset(held, tokenizer, 1024, strategy, is_dpo=True, num_processors=1)
        rows[split] = len(pairs)
        for chosen, _mask, rejected, _also, asked in (pairs[place] for place in range(len(pairs))):
            answers.append([tokenizer.decode(side[0][asked:]) for side in (chosen, rejected)])
    return rows, answers


def torchtune(tokenizer: Any, _: str) -> Read:
    from omegaconf import OmegaConf
    from torchtune.config import instantiate
    from torchtune.data import validate_messages

    class ChatML:
        """Its own tokenizers want files that this model does not bring along."""

        def tokenize_messages(self, messages: list[Any], **_: object) -> tuple[list[int], list[bool]]:
            validate_messages(messages)
            ids: list[int] = []
            masked: list[bool] = []
            for message in messages:
                text = f"<|im_start|>{message.role}\n{message.text_content}<|im_end|>\n"
                own = tokenizer(text, add_special_tokens=False).input_ids
                ids, masked = ids + own, masked + [message.masked] * len(own)
            return ids, masked

    own = yaml.safe_load(Path("torchtune.yaml").read_text(encoding="utf-8"))
    held = {
        split: instantiate(OmegaConf.create(own[key]), tokenizer=ChatML())
        for split, key in (("train", "dataset"), ("test", "dataset_val"))
    }
    return _labelled(tokenizer, {split: [pairs[place] for place in range(len(pairs))] for split, pairs in held.items()})


def leap_finetune(_: Any, __: str) -> Read:
    """Its validation, which refuses a dataset; rows that it would filter while it reads are counted as not read."""
    from leap_finetune.data_loading.validate_dataset_format import get_row_filter, validate_dataset_format

    own = yaml.safe_load(Path("leap_finetune.yaml").read_text(encoding="utf-8"))["dataset"]
    rows, answers = {}, []
    for split, path in (("train", own["path"]), ("test", own["val_dataset_path"])):
        held = validate_dataset_format(load_dataset("json", data_files=path, split="train"), own["type"])
        kept = [row for row in held if get_row_filter(own["type"])(row)]
        rows[split] = len(kept)
        answers += [[row[side][0]["content"] for side in SIDES] for row in kept]
    return rows, answers


def _labelled(tokenizer: Any, splits: Mapping[str, Any]) -> Read:
    """From rows with labels as most trainers keep them."""

    def scored(row: Mapping[str, list[int]], side: str) -> str:
        return str(tokenizer.decode([token for token in row[f"{side}_labels"] if token != IGNORED]))

    answers = [[scored(row, side) for side in SIDES] for held in splits.values() for row in held]
    return {split: len(held) for split, held in splits.items()}, answers


LOADERS: Mapping[str, Callable[[Any, str], Read]] = {
    "llama-factory": llama_factory,
    "axolotl": axolotl,
    "openrlhf": openrlhf,
    "torchtune": torchtune,
    "leap-finetune": leap_finetune,
}


def main(name: str, folder: str, model: str) -> None:
    os.chdir(folder)
    rows, answers = LOADERS[name](AutoTokenizer.from_pretrained(model), model)
    print(json.dumps({"rows": rows, "answers": answers}))


if __name__ == "__main__":
    main(*sys.argv[1:])
