"""axolotl's `chat_template.default` for DPO: `messages`, `chosen` and `rejected`, with the lines for its YAML.

Read by `axolotl.prompt_strategies.dpo.chat_template.default`. It renders an answer behind a dummy question and looks for the
answer's text in what the template made of both. A template may trim, so that the text stands here without outer white space;
and an answer that stands in the dummy or in a template's own marks would be found there, so that such a one is left out.
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

FOUND_ELSEWHERE = "found_elsewhere"

# What stands before an answer in the usual templates. A system prompt that a template brings along is not known here.
_BEFORE = (
    "<|im_start|>system <|im_start|>user [[dummy_message]]<|im_end|> <|im_start|>assistant <|startoftext|><|begin_of_text|>"
    "<|start_header_id|>user<|end_header_id|> <|eot_id|> <bos><start_of_turn>user <start_of_turn>model <s>[INST] [/INST]"
)
_TRIMMED = r"regexp_replace({}, '^\s+|\s+$', '', 'g')"


def _found_before(column: str) -> str:
    return f"contains('{_BEFORE}', {_TRIMMED.format(column)})"


def _yaml(written: Written) -> Mapping[str, str]:
    lines = ["rl: dpo", "chat_template: tokenizer_default"]
    for split, path in written.files.items():
        lines += [
            "datasets:" if split == "train" else "test_datasets:",
            f"  - path: {path}",
            "    ds_type: json",
            "    split: train",
            "    type: chat_template.default",
        ]
    note = "# Paths start from the folder in which axolotl is run."
    return {"axolotl.yaml": "\n".join([note, *lines, "rl_beta: 5.0", "dpo_loss_type: [sigmoid_norm]"]) + "\n"}


FORMAT = Format(
    name=ExportFormat.AXOLOTL,
    what="axolotl's DPO, `type: chat_template.default`",
    sql=pair_rows(
        f"""messages, {assistant(_TRIMMED.format("chosen"))} AS chosen,
        {assistant(_TRIMMED.format("rejected"))} AS rejected, {TRACED}""",
        {
            EMPTY_ANSWER: IS_EMPTY,
            TOOLS: HAS_TOOLS,
            FOUND_ELSEWHERE: f"{_found_before('chosen')} OR {_found_before('rejected')}",
        },
    ),
    files=Files.JSON_LINES,
    columns="`messages` is the prompt, `chosen` and `rejected` are one message each, without outer white space, since the "
    "loader looks for the text in what the chat template made of it. Where the template brings a system prompt of its own, an "
    f"answer that is a piece of it is misread: leave such a prompt out. {CLOSES}",
    use="Add the lines of `axolotl.yaml` to the configuration.",
    reasons={
        EMPTY_ANSWER: WHY[EMPTY_ANSWER],
        TOOLS: WHY[TOOLS],
        FOUND_ELSEWHERE: "so short an answer that the loader would find it in the template's own marks",
    },
    beside=_yaml,
)
