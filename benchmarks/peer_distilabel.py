"""The rollouts of `benchmarks.peers` through distilabel, in an environment of its own.

    python peer_distilabel.py PROMPTS URL MODEL SAMPLES TOKENS AT_ONCE FOLDER

The rule that its reader must not break: nothing of this project is imported here, for it is not installed there. The cache of
the pipeline lies in FOLDER, so that the same command goes on from it. As many prompts make a batch as give AT_ONCE answers:
distilabel sends a batch at once, waits for all of it, and keeps what it has batch by batch.
"""

import json
import sys
from pathlib import Path

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration

if __name__ == "__main__":
    PROMPTS, URL, MODEL, SAMPLES, TOKENS, AT_ONCE, FOLDER = sys.argv[1:]
    rows = [json.loads(line) for line in Path(PROMPTS).read_text(encoding="utf-8").splitlines()]
    batch = max(1, int(AT_ONCE) // int(SAMPLES))
    with Pipeline(name="peer", cache_dir=f"{FOLDER}/cache") as pipeline:
        load = LoadDataFromDicts(data=[{"instruction": row["prompt"]} for row in rows], batch_size=batch)
        write = TextGeneration(
            llm=OpenAILLM(
                model=MODEL,
                base_url=URL,
                api_key="none",
                generation_kwargs={"max_new_tokens": int(TOKENS), "temperature": 0.7},
                timeout=600,
            ),
            num_generations=int(SAMPLES),
            group_generations=True,
            input_batch_size=batch,
        )
        load >> write
    pipeline.run(use_cache=True)
