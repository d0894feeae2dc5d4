"""Which prompts of an evaluation a run has not been trained on.

The rule that must not break: a prompt that the run has trained on, word for word or nearly, counts in no figure of any
checkpoint of a table, and the table says how many those were. The other half is the recipe's: name the evaluation's files
in `prompts.decontaminate.paths`, and no such prompt is ever trained on.
"""

from collections.abc import Sequence
from itertools import count, takewhile
from pathlib import Path

from factory.gathering.dedupe import near_any, overlapping
from factory.prompts import compared_text
from factory.run import RunFolder
from schemas.recipe import NearDuplicates
from schemas.rows import Prompt

NGRAM = 13  # words in a row, as `prompts.decontaminate` has it


def trained_prompts(root: Path) -> list[Prompt]:
    """The prompts of every round of a run; none where there is no run."""
    rounds = takewhile(lambda run: run.shards() > 0, (RunFolder(root, number) for number in count()))
    return [prompt for run in rounds for shard in range(run.shards()) for prompt in run.read_rows(Prompt, shard)]


def known(prompts: Sequence[Prompt], trained: Sequence[Prompt]) -> frozenset[str]:
    """The prompt_ids of those that were trained on: with the same id, 13 words in a row, or nearly the same words.

    Prompts that share their words and differ in system prompt or tools are nearly the same here.
    """
    ids = {prompt.prompt_id for prompt in trained}
    texts, theirs = ([compared_text(prompt.messages) for prompt in each] for each in (prompts, trained))
    shared = overlapping(texts, theirs, NGRAM) | near_any(texts, theirs, NearDuplicates())
    return frozenset(
        prompt.prompt_id for number, prompt in enumerate(prompts) if prompt.prompt_id in ids or number in shared
    )
