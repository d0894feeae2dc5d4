"""Prompts with what their answers can be checked by, for reinforcement learning on verifiable rewards.

The columns are what the reward functions of `factory.rewards` take; every prompt of the run is here, paired or not.
"""

from factory.formats.base import TOOLS, Files, Format, RowsOf, first_of
from schemas.export import ExportFormat

_LEFT_OUT = {TOOLS: "tools IS NOT NULL"}

FORMAT = Format(
    name=ExportFormat.GRPO,
    what="TRL's GRPOTrainer, and `prefactory grpo`: prompts, and what answers are checked by",
    sql=f"""SELECT messages AS prompt, answer, constraints, language, prompt_id, source,
        prompt_id AS _prompt_id, round AS _round, 0 AS _place, {first_of(_LEFT_OUT)} AS _left_out
        FROM prompts""",
    files=Files.PARQUET,
    rows_of=RowsOf.PROMPTS,
    columns="`prompt` is a list of messages. `answer` (a reference), `constraints` (IFEval and IFBench ids with their "
    "arguments as JSON) and `language` are what the "
    "reward functions of `factory.rewards` check an answer by; each may be empty.",
    use="""```python
import datasets
import trl
from factory.rewards import loop_penalty, verifier_reward

prompts = datasets.load_dataset("FOLDER")
rewards = [verifier_reward("math_answer"), verifier_reward("constraints"), loop_penalty(tokenizer.eos_token_id)]
trl.GRPOTrainer(model, reward_funcs=rewards, train_dataset=prompts["train"]).train()
```""",
    reasons={TOOLS: "GRPOTrainer declares one set of tools for all prompts, and none of a prompt's own"},
)
