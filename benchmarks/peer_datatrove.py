"""The rollouts of `benchmarks.peers` through datatrove's inference runner, in an environment of its own.

    python peer_datatrove.py PROMPTS URL MODEL SAMPLES TOKENS AT_ONCE FOLDER

The rule that its reader must not break: nothing of this project is imported here, for it is not installed there. Checkpoints
and the cache of requests lie in FOLDER, so that the same command goes on from them.
"""

import json
import sys
from pathlib import Path

from datatrove.data import Document
from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceRunner
from datatrove.pipeline.writers import JsonlWriter


async def rollout(document, generate):  # type: ignore[no-untyped-def]  # its types are not here
    messages = [{"role": "user", "content": document.text}]
    return await generate({"messages": messages, "max_tokens": int(TOKENS), "temperature": 0.7})


if __name__ == "__main__":
    PROMPTS, URL, MODEL, SAMPLES, TOKENS, AT_ONCE, FOLDER = sys.argv[1:]
    rows = [json.loads(line) for line in Path(PROMPTS).read_text(encoding="utf-8").splitlines()]
    runner = InferenceRunner(
        rollout_fn=rollout,
        config=InferenceConfig(
            server_type="endpoint",
            endpoint_url=URL.removesuffix("/v1"),
            model_name_or_path=MODEL,
            rollouts_per_document=int(SAMPLES),
            max_concurrent_generations=int(AT_ONCE),
        ),
        output_writer=JsonlWriter(
            f"{FOLDER}/out", output_filename="${rank}_chunk_${chunk_index}.jsonl", compression=None
        ),
        checkpoints_local_dir=f"{FOLDER}/checkpoints",
        records_per_chunk=10,
    )
    runner.run([Document(text=row["prompt"], id=str(number)) for number, row in enumerate(rows)])
