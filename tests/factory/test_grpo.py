"""The GRPO example: one step on a model with next to no weights, in the process that the verb starts."""

import asyncio
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from factory.client.gate import Gate
from factory.export import write_format
from factory.formats import FORMATS
from factory.grpo import CHECKPOINT, plan_grpo, train_grpo
from factory.run import RunFolder
from factory.serving.models import LocalModel
from schemas.errors import Fixable, RecipeError
from schemas.export import ExportFormat
from schemas.grpo import Grpo
from tests.format_cases import a_manifest, a_recipe, a_run

TINY = """
import sys
from tokenizers import Tokenizer, models, pre_tokenizers, decoders
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
letters = sorted(pre_tokenizers.ByteLevel.alphabet())
words = {letter: place for place, letter in enumerate(["<end>", "<pad>", *letters])}
bytes_only = Tokenizer(models.BPE(vocab=words, merges=[]))
bytes_only.pre_tokenizer, bytes_only.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytes_only, eos_token="<end>", pad_token="<pad>")
tokenizer.chat_template = (
    "{% for message in messages %}{{ message.content }}{% if message.role == 'assistant' %}<end>{% endif %}\\n{% endfor %}"
)
shape = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
config = LlamaConfig(vocab_size=len(words), eos_token_id=0, pad_token_id=1, **shape)
LlamaForCausalLM(config).save_pretrained(sys.argv[1])
tokenizer.save_pretrained(sys.argv[1])
"""
MODEL = LocalModel("tiny", Path("/models/tiny"), "0" * 64)
SMALL = {
    "steps": 1,
    "prompts_per_step": 2,
    "generations": 2,
    "max_tokens": 8,
    "device": "cpu",
    "verifiers": ["math_answer"],
}


def exported(root: Path) -> RunFolder:
    run = a_run(root)
    write_format(run, a_recipe(), a_manifest(), FORMATS[ExportFormat.GRPO])
    return run


@pytest.mark.skipif(find_spec("trl") is None, reason="no TRL in this environment")
def test_grpo_makes_a_checkpoint_from_the_exports_prompts(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", TINY, str(tmp_path / "tiny")], check=True, capture_output=True)
    run, recipe = exported(tmp_path / "run"), a_recipe().model_copy(update={"grpo": Grpo.model_validate(SMALL)})
    plan = plan_grpo(run, recipe, LocalModel("tiny", tmp_path / "tiny", "0" * 64))
    said: list[str] = []

    result = asyncio.run(train_grpo(plan, run.log_path("grpo"), said.append, Gate(), ()))

    (line,) = (run.grpo_path / "metrics.jsonl").read_text().splitlines()
    assert (result.steps, result.answers) == (1, 4)
    assert {"reward", "rewards/loop_penalty/mean", "loops/hard"} <= json.loads(line).keys()
    assert json.loads((run.grpo_path / "result.json").read_text())["digest"] == result.digest
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        path.name for path in (run.grpo_path / CHECKPOINT).iterdir()
    }


def test_grpo_without_the_prompts_names_the_command_that_writes_them(tmp_path: Path) -> None:
    with pytest.raises(Fixable, match="prefactory export RECIPE --format grpo"):
        plan_grpo(a_run(tmp_path), a_recipe(), MODEL)


def test_grpo_a_verifier_that_is_none_is_refused_before_anything_starts(tmp_path: Path) -> None:
    recipe = a_recipe().model_copy(update={"grpo": Grpo(verifiers=["math_anser"])})

    with pytest.raises(RecipeError, match="did you mean 'math_answer'"):
        plan_grpo(exported(tmp_path), recipe, MODEL)


def test_grpo_settled_takes_from_the_recipe_what_is_not_said() -> None:
    settled = Grpo().settled(7, ["constraints"])

    assert (settled.seed, settled.verifiers) == (7, ["constraints"])
    assert Grpo(seed=1, verifiers=[]).settled(7, ["constraints"]) == Grpo(seed=1, verifiers=[])


def test_grpo_that_ends_badly_says_why_and_leaves_no_result(tmp_path: Path) -> None:
    run = exported(tmp_path)
    plan = plan_grpo(run, a_recipe(), LocalModel("tiny", tmp_path / "nothing", "0" * 64))
    (run.grpo_path).mkdir()
    (run.grpo_path / "result.json").write_text("{}")

    with pytest.raises(Fixable, match=r"GRPO ended with code 1: .*nothing"):
        asyncio.run(train_grpo(plan, run.log_path("grpo"), lambda _: None, Gate(), ()))

    assert not (run.grpo_path / "result.json").exists()
