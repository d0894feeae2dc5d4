"""NeMo-RL's preference data: `context` and two ranked `completions`, the lower rank preferred.

Read by `nemo_rl.data.datasets.preference_datasets.PreferenceDataset` and
`nemo_rl.data.processors.preference_preprocessor`, as its guide to DPO documents them.
"""

from collections.abc import Mapping

from factory.formats.base import (
    CLOSES,
    EMPTY_ANSWER,
    HAS_TOOLS,
    IS_EMPTY,
    TOOLS,
    TRACED,
    WHY,
    Files,
    Format,
    Written,
    assistant,
    pair_rows,
)
from schemas.export import ExportFormat


def _yaml(written: Written) -> Mapping[str, str]:
    names = {"train": "train", "test": "validation"}
    lines = ["# Overrides for examples/configs/dpo.yaml; paths start from the folder in which it is run.", "data:"]
    for split, path in written.files.items():
        lines += [
            f"  {names[split]}:",
            "    dataset_name: PreferenceDataset",
            f"    data_path: {path}",
            "    split: train",
        ]
    lines += ["dpo:", "  preference_average_log_probs: true  # length-normalised", "  reference_policy_kl_penalty: 5.0"]
    return {"nemo_rl.yaml": "\n".join(lines) + "\n"}


FORMAT = Format(
    name=ExportFormat.NEMO_RL,
    what="NeMo-RL's DPO (`PreferenceDataset`)",
    sql=pair_rows(
        f"""messages AS context,
        [{{'rank': 0, 'completion': [{assistant("chosen")}]}}, {{'rank': 1, 'completion': [{assistant("rejected")}]}}]
        AS completions, {TRACED}""",
        {EMPTY_ANSWER: IS_EMPTY, TOOLS: HAS_TOOLS},
    ),
    files=Files.JSON_LINES,
    columns="`context` is the prompt, `completions` holds the chosen answer with rank 0 and the rejected one with rank 1. "
    f"{CLOSES}",
    use="Set what `nemo_rl.yaml` says in the configuration of `examples/run_dpo.py`.",
    reasons={EMPTY_ANSWER: WHY[EMPTY_ANSWER], TOOLS: WHY[TOOLS]},
    beside=_yaml,
)
