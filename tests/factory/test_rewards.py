import json
import math
import pickle
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.rewards import Conversation, Penalty, loop_penalty, repetition_penalty

END = 2
ENDED, CAPPED = [5, 6, 7, END], [5, 6, 7]
HARD = "I will check the value again. " * 40  # where it is capped
SOFT = HARD  # where it ended by itself
CLEAN = "A bridge carries a road over a river."
ASKS = 'Write "I will check the value again." 100 times.'

needs_trl = pytest.mark.skipif(find_spec("trl") is None, reason="no TRL in this environment")


def said(text: object, role: str = "assistant") -> dict[str, object]:
    return {"role": role, "content": text}


def reward(function: Penalty, completion: Conversation, ids: list[int], prompt: Conversation = "Is it so?") -> float:
    (value,) = function(prompts=[prompt], completions=[completion], completion_ids=[ids])
    return value


# --- loops ---


def test_loop_penalty_is_full_for_hard_a_part_for_soft_and_none_for_clean() -> None:
    function = loop_penalty(END, penalty=-2.0, soft=0.25)
    rewards = function(
        prompts=["Is it so?"] * 4,
        completions=[HARD, SOFT, CLEAN, CLEAN],
        completion_ids=[CAPPED, ENDED, ENDED, CAPPED],
    )
    assert rewards == [-2.0, -0.5, 0.0, 0.0]


@pytest.mark.parametrize("ends", [END, [END], (9, END), {END: "<end>"}, iter([END])])
def test_loop_penalty_takes_one_end_token_or_several(ends: int | Iterable[int]) -> None:
    function = loop_penalty(ends)
    assert reward(function, HARD, CAPPED) == -1.0
    assert reward(function, SOFT, ENDED) == -0.5


def test_loop_penalty_end_token_before_the_last_place_does_not_end_the_answer() -> None:
    assert reward(loop_penalty(END), HARD, [5, END, 6]) == -1.0


def test_loop_penalty_answer_without_a_token_is_clean() -> None:
    assert reward(loop_penalty(END), "", []) == 0.0


@pytest.mark.parametrize(
    "prompt",
    [
        ASKS,
        [said("Be brief.", "system"), said(ASKS, "user")],
        [said([{"type": "image"}, {"type": "text", "text": ASKS}], "user")],
    ],
)
def test_loop_penalty_repetition_that_the_prompt_asks_for_is_soft(prompt: Conversation) -> None:
    assert reward(loop_penalty(END), HARD, CAPPED, prompt) == -0.5
    assert reward(loop_penalty(END, soft=0), HARD, CAPPED, prompt) == 0.0


@given(st.sampled_from([HARD, CLEAN, ""]), st.sampled_from([ENDED, CAPPED]), st.sampled_from([ASKS, "Is it so?"]))
def test_loop_penalty_is_the_same_for_a_string_and_for_a_message(text: str, ids: list[int], prompt: str) -> None:
    function = loop_penalty(END)
    assert reward(function, text, ids, prompt) == reward(function, [said(text)], ids, [said(prompt, "user")])
    assert reward(function, text, ids, prompt) == reward(function, [{"content": text}], ids, prompt)


@pytest.mark.parametrize("field", ["reasoning_content", "thinking"])
def test_loop_penalty_sees_a_loop_in_the_reasoning(field: str) -> None:
    assert reward(loop_penalty(END), [{"role": "assistant", field: HARD, "content": ""}], CAPPED) == -1.0
    assert reward(loop_penalty(END), [{"role": "assistant", field: HARD, "content": None}], CAPPED) == -1.0


def test_loop_penalty_of_several_turns_the_worst_counts_and_only_the_last_message_is_capped() -> None:
    function, tool = loop_penalty(END), said(HARD, "tool")
    assert reward(function, [said(CLEAN), tool, said(HARD)], CAPPED) == -1.0
    assert reward(function, [said(SOFT), tool, said(CLEAN)], CAPPED) == -0.5
    assert reward(function, [said(SOFT), tool], CAPPED) == -0.5
    assert reward(function, [said(CLEAN), tool], CAPPED) == 0.0


def test_loop_penalty_logs_the_shares_of_loops() -> None:
    logged: dict[str, float] = {}
    loop_penalty(END)(
        prompts=["Is it so?"] * 4,
        completions=[HARD, SOFT, CLEAN, HARD],
        completion_ids=[CAPPED, ENDED, ENDED, CAPPED],
        log_metric=logged.__setitem__,
        trainer_state=None,
        topic=["bridges"] * 4,
    )
    assert logged == {"loops/hard": 0.5, "loops/soft": 0.25}


def test_loop_penalty_without_token_ids_is_refused() -> None:
    with pytest.raises(ValueError, match="loop_penalty needs completion_ids"):
        loop_penalty(END)(prompts=[""], completions=[HARD])


def test_loop_penalty_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        loop_penalty(END)(prompts=["", ""], completions=[HARD, HARD], completion_ids=[CAPPED])


# --- n-grams ---

IDS = st.lists(st.integers(0, 5), max_size=40)


@given(IDS, st.integers(1, 6), st.floats(-10, 0))
def test_repetition_penalty_lies_between_the_penalty_and_zero(ids: list[int], ngram: int, penalty: float) -> None:
    value = reward(repetition_penalty(ngram, penalty), "", ids)
    assert penalty <= value <= 0
    assert math.copysign(1, value) == (1 if value == 0 else -1)


@given(st.lists(st.integers(), unique=True), st.integers(1, 6))
def test_repetition_penalty_different_tokens_cost_nothing(ids: list[int], ngram: int) -> None:
    assert reward(repetition_penalty(ngram), "", ids) == 0.0


@given(st.integers(1, 200), st.integers(1, 6))
def test_repetition_penalty_one_token_said_again_costs_all_but_one_ngram(more: int, ngram: int) -> None:
    ids = [7] * (ngram + more)
    assert reward(repetition_penalty(ngram, -3.0), "", ids) == pytest.approx(-3.0 * more / (more + 1))


def test_repetition_penalty_token_ids_go_before_the_text() -> None:
    assert reward(repetition_penalty(2), "so so so so so", [1, 2, 3, 4]) == 0.0
    assert reward(repetition_penalty(2), "one two three", [5, 5, 5, 5, 5]) == -0.75


@pytest.mark.parametrize(
    ("completion", "value"),
    [
        ("So it is, so it is.", -0.4),  # so it, it is, is so, so it, it is: 3 of 5 differ
        ("我再检查", 0.0),
        ("再检再检再检", -0.6),  # a word each character: 2 of 5 differ
        ([said("so it is"), said("so it is so it is", "tool"), said("so it is")], -0.4),
        ([said("one two three four")], 0.0),
        ("", 0.0),
    ],
)
def test_repetition_penalty_without_token_ids_counts_words(completion: Conversation, value: float) -> None:
    (got,) = repetition_penalty(2)(prompts=["Is it so?"], completions=[completion])
    assert got == pytest.approx(value)


@needs_trl
@given(IDS, st.integers(1, 6), st.floats(-10, 0))
def test_repetition_penalty_equals_trls_own(ids: list[int], ngram: int, penalty: float) -> None:
    from trl.rewards import get_repetition_penalty_reward

    assert (
        reward(repetition_penalty(ngram, penalty), "", ids) == get_repetition_penalty_reward(ngram, penalty)([ids])[0]
    )


# --- parameters ---


@pytest.mark.parametrize("penalty", [0.5, math.nan, -math.inf, math.inf])
def test_rewards_penalty_that_is_no_penalty_is_refused(penalty: float) -> None:
    with pytest.raises(ValueError, match="penalty must be a finite number of at most 0"):
        loop_penalty(END, penalty)
    with pytest.raises(ValueError, match="penalty must be a finite number of at most 0"):
        repetition_penalty(penalty=penalty)


@pytest.mark.parametrize("soft", [-0.1, 1.1, math.nan])
def test_loop_penalty_soft_part_beyond_the_whole_is_refused(soft: float) -> None:
    with pytest.raises(ValueError, match="soft must lie between 0 and 1"):
        loop_penalty(END, soft=soft)


@pytest.mark.parametrize("ends", [[], [None], "</s>", ["</s>"]])
def test_loop_penalty_what_is_no_token_id_is_refused(ends: Iterable[int]) -> None:
    with pytest.raises(ValueError, match="end_token_ids must be one token id or more"):
        loop_penalty(ends)


@pytest.mark.parametrize("ngram", [0, -3])
def test_repetition_penalty_ngram_without_a_token_is_refused(ngram: int) -> None:
    with pytest.raises(ValueError, match="ngram must be at least 1"):
        repetition_penalty(ngram)


@pytest.mark.parametrize("function", [loop_penalty([END, 9], -2.0, 0.1), repetition_penalty(4, -0.5)])
def test_rewards_survive_pickling(function: Penalty) -> None:
    """A trainer may score in a process of its own."""
    assert pickle.loads(pickle.dumps(function)) == function


# --- through TRL ---

NEXT = {  # what may follow each word, all equally likely; "rain" begins a loop
    "<pad>": ["<pad>"],
    "<end>": ["<end>"],
    "tell": ["rain", "dry"],
    "rain": ["falls"],
    "falls": ["softly"],
    "softly": ["rain"],
    "dry": ["sun"],
    "sun": ["<end>"],
}
WORDS = list(NEXT)


def save_tokenizer(folder: Path) -> None:
    """A word is a token."""
    from transformers import PreTrainedTokenizerFast

    model = {"type": "WordLevel", "vocab": {word: WORDS.index(word) for word in WORDS}, "unk_token": "<pad>"}
    nothing = dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder"))
    described = {"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "WhitespaceSplit"}, "model": model}
    path = folder / "words.json"
    path.write_text(json.dumps(described | nothing))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(path), pad_token="<pad>", eos_token="<end>", padding_side="left"
    )
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    tokenizer.save_pretrained(folder)


def save_model(folder: Path) -> None:
    """A Llama whose weights are the table `NEXT`, so that about half of its answers to "tell" are loops."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=len(WORDS),
        intermediate_size=len(WORDS),
        num_hidden_layers=1,
        num_attention_heads=2,
        pad_token_id=WORDS.index("<pad>"),
        bos_token_id=None,
        eos_token_id=WORDS.index("<end>"),
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(len(WORDS)))
        model.lm_head.weight.copy_(torch.tensor([[20.0 * (after in NEXT[word]) for word in WORDS] for after in WORDS]))
    model.save_pretrained(folder)


class Recorder:
    """A reward function without an opinion, which takes down what the trainer passes."""

    prompts: list[Conversation]
    completions: list[Conversation]
    completion_ids: list[list[int]]

    def __call__(
        self,
        *,
        prompts: list[Conversation],
        completions: list[Conversation],
        completion_ids: list[list[int]],
        **columns: object,
    ) -> list[None]:
        self.prompts, self.completions, self.completion_ids = prompts, completions, completion_ids
        return [None] * len(prompts)

    @property
    def texts(self) -> list[str]:
        return [text if isinstance(text, str) else str(text[0]["content"]) for text in self.completions]


def one_step(
    folder: Path, prompt: Conversation, rewards: list[Penalty | Recorder], mask_truncated: bool
) -> dict[str, float]:
    """The metrics of one step of GRPO."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    settings = GRPOConfig(
        output_dir=str(folder / "trained"),
        max_steps=1,
        per_device_train_batch_size=16,
        num_generations=16,
        max_completion_length=48,
        mask_truncated_completions=mask_truncated,
        logging_steps=1,
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
        report_to="none",
    )
    rows = Dataset.from_dict({"prompt": [prompt] * 2, "topic": ["weather"] * 2})
    trainer = GRPOTrainer(model=str(folder), reward_funcs=rewards, args=settings, train_dataset=rows)
    trainer.train()
    metrics: dict[str, float] = trainer.state.log_history[0]
    return metrics


@pytest.fixture
def no_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    """TRL imports all of vLLM where it is installed, used or not."""
    monkeypatch.setitem(sys.modules, "vllm", None)


@needs_trl
@pytest.mark.usefixtures("no_vllm")
@pytest.mark.parametrize(("prompt", "mask_truncated"), [("tell", False), ([said("tell", "user")], True)])
def test_rewards_are_what_grpo_trains_on(tmp_path: Path, prompt: Conversation, mask_truncated: bool) -> None:
    save_tokenizer(tmp_path)
    save_model(tmp_path)
    recorder, penalties = Recorder(), [loop_penalty(WORDS.index("<end>")), repetition_penalty()]
    metrics = one_step(tmp_path, prompt, [*penalties, recorder], mask_truncated)

    assert set(recorder.texts) == {"dry sun", " ".join(["rain falls softly"] * 16)}
    loops = [text.startswith("rain") for text in recorder.texts]
    ended = [ids[-1] == WORDS.index("<end>") for ids in recorder.completion_ids]
    assert ended == [not loop for loop in loops]
    hard = sum(loops) / len(loops)
    assert metrics["rewards/loop_penalty/mean"] == pytest.approx(-hard)
    assert metrics["rewards/repetition_penalty/mean"] == pytest.approx(-hard * (1 - 3 / 46))
    assert metrics["loops/hard"] == pytest.approx(hard)
    for penalty in penalties:
        ours = penalty(
            prompts=recorder.prompts, completions=recorder.completions, completion_ids=recorder.completion_ids
        )
        assert metrics[f"rewards/{penalty.__name__}/mean"] == pytest.approx(sum(ours) / len(ours))
