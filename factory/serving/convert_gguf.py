"""Turns one GGUF file into a model folder that vLLM and transformers load: `convert_gguf.py SOURCE.gguf FOLDER`.

The rule that must not break: this module is run in a process of its own and never imported by the factory. It is the
only one outside `factory.training` that imports torch and transformers, which the factory has to work without.
"""

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig


def convert(source: Path, folder: Path) -> None:
    """Write bf16 safetensors, configuration, tokenizer and chat template of `source` into `folder`."""
    # Without `dequantize` the weights stay packed in GGUF's own blocks, a form that cannot be saved as safetensors.
    model = AutoModelForCausalLM.from_pretrained(
        source.parent,
        gguf_file=source.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(folder)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m factory.serving.convert_gguf SOURCE.gguf FOLDER")
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
