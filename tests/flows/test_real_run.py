"""The main job on the real thing: the shipped model behind real vLLM servers, a handful of prompts, laws over the tables."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from factory.looking import queries
from factory.opening import cache_folder
from factory.recipes.recipe_file import read_recipe
from factory.serving.models import resolve_model
from factory.serving.server import serve

DATA = Path(__file__).parents[2] / "data" / "prompts"
MODEL = "SmolLM2-135M-Instruct"
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(find_spec("vllm") is None, reason="no vLLM in this environment"),
]


@dataclass(frozen=True)
class RealRun:
    """A finished run, the recipe that made it, and the server that answered."""

    recipe: Path
    root: Path
    url: str

    def column(self, sql: str) -> list[object]:
        return [row[0] for row in queries.ask(self.root, sql).rows]


def recipe_text(name: str, policy: str, folder: Path, sample: int, max_tokens: int) -> str:
    return f"""
name: {name}
seed: 3
prompts:
  sources:
    - {{path: {DATA / "short_answers.jsonl"}, weight: 3}}
    - {{path: {DATA / "reasoning.jsonl"}, weight: 1}}
    - {{path: {endless(folder)}, weight: 1}}
  sample: {sample}
policy: {policy}
rollouts: {{max_tokens: {max_tokens}}}
jury:
  judges: [{{judge: helpfulness}}, {{judge: correctness}}, {{judge: clarity}}]
  verifiers: [math_answer, language]
pairing: {{margin: 0.0, agreement: 0.0, allow_unfinished: true}}
export: {{test_share: 0.0}}
machine: {{runs: {folder}, shard_size: 4, max_num_seqs: 48, max_model_len: 1024}}
"""


def endless(folder: Path) -> Path:
    """A source with one prompt that is longer than any context here."""
    path = folder / "endless.jsonl"
    path.write_text(json.dumps({"prompt": "Summarise: " + "the rain in spring " * 10_000}) + "\n")
    return path


def prefactory(*arguments: str) -> str:
    """The command in a process of its own, as a user runs it."""
    done = subprocess.run([sys.executable, "-m", "flows.cli", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "recipe.yaml").write_text(recipe_text("server", f"{{model: {MODEL}}}", folder, 4, 48))
    recipe = read_recipe(folder / "recipe.yaml")
    model = resolve_model(recipe.policy, cache_folder(), print)
    with asyncio.Runner() as runner:
        served = serve(model, recipe.policy, recipe.machine, folder / "server.log", print)
        url = runner.run(served.__aenter__())
        try:
            yield url
        finally:
            runner.run(served.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def run(server: str, tmp_path_factory: pytest.TempPathFactory) -> RealRun:
    folder = tmp_path_factory.mktemp("real")
    recipe = folder / "real.yaml"
    recipe.write_text(recipe_text("real", f"{{model: {MODEL}, urls: [{server}]}}", folder, 7, 48))
    prefactory("run", str(recipe))
    return RealRun(recipe, folder / "real", server)


def answered(url: str) -> float:
    """The server's own count of finished requests."""
    lines = httpx.get(url.removesuffix("/v1") + "/metrics", trust_env=False).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:request_success_total"))


def test_real_run_each_prompt_has_six_slots_with_seeds_of_their_own(run: RealRun) -> None:
    slots = queries.ask(run.root, "SELECT list(slot ORDER BY slot) FROM rollouts GROUP BY prompt_id").rows
    assert slots == ((["greedy", "t0", "t1", "t2", "t3", "t4"],),) * 7
    assert run.column("SELECT count(DISTINCT seed) FROM rollouts") == [42]


def test_real_run_every_prompt_ends_in_exactly_one_row(run: RealRun) -> None:
    ended = "SELECT prompt_id FROM pairs UNION ALL SELECT prompt_id FROM dropped"
    assert run.column(f"SELECT prompt_id FROM ({ended}) ORDER BY ALL") == run.column(
        "SELECT prompt_id FROM prompts ORDER BY ALL"
    )
    assert run.column("SELECT count(*) FROM pairs") != [0]


def test_real_run_prompt_beyond_the_context_is_dropped_with_its_reason(run: RealRun) -> None:
    sql = "SELECT reason, detail FROM dropped JOIN prompts USING (prompt_id) WHERE source = 'endless'"
    ((reason, detail),) = queries.ask(run.root, sql).rows
    assert reason == "prompt_too_long"
    assert "1024" in str(detail)


def test_real_run_no_loop_is_chosen_and_sides_differ(run: RealRun) -> None:
    chosen = "SELECT loop FROM pairs JOIN rollouts ON rollout_id = chosen_id"
    assert set(run.column(chosen)) == {"clean"}
    assert run.column("SELECT count(*) FROM pairs WHERE chosen = rejected OR chosen_id = rejected_id") == [0]


def test_real_run_scores_are_null_exactly_where_the_status_is_not_ok(run: RealRun) -> None:
    assert run.column("SELECT count(*) FROM verdicts WHERE (status = 'ok') != (score IS NOT NULL)") == [0]
    assert run.column("SELECT count(*) FROM verdicts WHERE status = 'ok' AND mass IS NOT NULL") != [0]


def test_real_run_token_ids_are_the_servers_own(run: RealRun) -> None:
    row = queries.ask(run.root, "SELECT prompt_token_ids, token_ids, text FROM rollouts WHERE slot = 'greedy'").rows[0]
    prompt_ids, ids, text = row
    assert isinstance(prompt_ids, list)
    assert isinstance(ids, list)
    asked = {"model": MODEL, "tokens": ids}
    back = httpx.post(run.url.removesuffix("/v1") + "/detokenize", json=asked, trust_env=False).json()["prompt"]
    assert back.removesuffix("<|im_end|>") == text
    assert len(prompt_ids) > 10


def test_real_run_again_sends_nothing(run: RealRun) -> None:
    before = answered(run.url)
    assert before > 0
    assert "Requests sent: 0" in prefactory("run", str(run.recipe), "--plain")
    assert answered(run.url) == before


def test_real_run_under_another_name_gives_the_same_texts(run: RealRun, tmp_path: Path) -> None:
    """One request at a time: in bfloat16 the make-up of a batch moves even greedy answers."""
    told = recipe_text("one", f"{{model: {MODEL}, urls: [{run.url}]}}", tmp_path, 3, 16)
    for line in (
        "reasoning.jsonl",
        "endless.jsonl",
    ):  # prompts long enough for the prefix cache to change the arithmetic
        told = "\n".join(other for other in told.splitlines() if line not in other)
    told = told.replace("{max_tokens: 16}", "{max_tokens: 16, slots: [{}]}").replace("shard_size: 4", "concurrency: 1")
    texts = []
    for name in ("one", "two"):
        recipe = tmp_path / f"{name}.yaml"
        recipe.write_text(told.replace("name: one", f"name: {name}"))
        prefactory("rollout", str(recipe))
        sql = "SELECT rollout_id, text FROM rollouts ORDER BY ALL"
        texts.append(queries.ask(tmp_path / name, sql).rows)
    assert len(texts[0]) == 6
    assert texts[0] == texts[1]


@pytest.mark.filterwarnings("default")  # of the trainer's own libraries
@pytest.mark.skipif(find_spec("trl") is None, reason="no TRL in this environment")
def test_real_run_export_is_taken_by_trl(run: RealRun, tmp_path: Path) -> None:
    """One step of TRL's DPOTrainer, on a model that has the shipped one's tokenizer and next to no weights."""
    from datasets import load_dataset
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from trl import DPOConfig, DPOTrainer

    folder = resolve_model(read_recipe(run.recipe).policy.model_copy(update={"urls": []}), cache_folder(), print).folder
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    tiny = tmp_path / "tiny"
    LlamaForCausalLM(config).save_pretrained(tiny)
    settings = DPOConfig(
        output_dir=str(tmp_path / "trained"),
        max_steps=1,
        per_device_train_batch_size=2,
        use_cpu=True,
        bf16=False,
        report_to=[],
    )
    pairs = load_dataset(str(run.root / "export" / "trl"), split="train")
    trainer = DPOTrainer(str(tiny), args=settings, train_dataset=pairs, processing_class=tokenizer)
    before = trainer.model.lm_head.weight.detach().clone()
    result = trainer.train()
    assert result.global_step == 1
    assert 0 < result.training_loss < 10
    assert not before.equal(trainer.model.lm_head.weight)


TINY_REWARD_MODEL = """
import sys, torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification
source, target = sys.argv[1:]
torch.manual_seed(0)
tokenizer = AutoTokenizer.from_pretrained(source)
shape = dict(hidden_size=128, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2)
ends = dict(pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)
config = LlamaConfig(vocab_size=len(tokenizer), num_labels=1, **shape, **ends)
LlamaForSequenceClassification(config).to(torch.bfloat16).save_pretrained(target)
tokenizer.save_pretrained(target)
"""


@pytest.fixture(scope="module")
def jury(run: RealRun, tmp_path_factory: pytest.TempPathFactory) -> RealRun:
    """Every way to judge beside the usual one: listwise, samples, a rubric of one's own, a reward model, confirmation."""
    folder = tmp_path_factory.mktemp("jury")
    reward_model = folder / "tiny-reward-model"
    policy = resolve_model(read_recipe(run.recipe).policy.model_copy(update={"urls": []}), cache_folder(), print)
    made = [sys.executable, "-c", TINY_REWARD_MODEL, str(policy.folder), str(reward_model)]
    subprocess.run(made, capture_output=True, check=True)
    (folder / "short.txt").write_text("You grade how short an answer is. 1: very long. 9: very short.")
    recipe = folder / "jury.yaml"
    text = recipe_text("jury", f"{{model: {MODEL}, urls: [{run.url}]}}", folder, 3, 32)
    judges = f"""
    - {{judge: helpfulness, protocol: listwise}}
    - {{judge: correctness, samples: 2}}
    - {{judge: clarity, name: short, rubric: {folder / "short.txt"}}}
    - {{judge: reward_model, model: {{model: {reward_model}}}}}
    - {{judge: helpfulness, name: thinker, thinking_tokens: 48}}
  confirm: true"""
    shipped = "[{judge: helpfulness}, {judge: correctness}, {judge: clarity}]"
    assert shipped in text
    recipe.write_text(text.replace(shipped, judges).replace(f"    - {{path: {endless(folder)}, weight: 1}}\n", ""))
    prefactory("run", str(recipe), "--plain")
    return RealRun(recipe, folder / "jury", run.url)


def test_real_jury_every_way_to_judge_is_read(jury: RealRun) -> None:
    ok = queries.ask(
        jury.root, "SELECT judge, avg((status = 'ok')::INT) FROM verdicts WHERE calls IS NOT NULL GROUP BY 1"
    )
    judges = {"helpfulness", "correctness", "short", "reward_model"}
    assert {str(judge): float(str(share)) for judge, share in ok.rows if judge in judges} == dict.fromkeys(judges, 1.0)


def test_real_jury_thinking_judge_thinks_and_a_thought_without_a_grade_is_no_score(jury: RealRun) -> None:
    said = queries.ask(
        jury.root, "SELECT status, score, completion_tokens FROM verdicts WHERE judge = 'thinker' AND calls > 0"
    ).rows
    assert said
    assert {str(status) for status, _, _ in said} <= {"ok", "unreadable", "truncated"}
    assert all((score is None) == (status != "ok") for status, score, _ in said)
    assert max(int(str(tokens)) for _, _, tokens in said) > 1


def test_real_jury_listwise_spends_a_call_a_prompt_and_samples_two_an_answer(jury: RealRun) -> None:
    calls = queries.ask(
        jury.root, "SELECT judge, sum(calls), count(*) FROM verdicts WHERE status = 'ok' GROUP BY 1"
    ).rows
    spent = {str(judge): (calls, count) for judge, calls, count in calls}
    assert spent["helpfulness"][0] == 3
    assert spent["correctness"][0] == 2 * int(str(spent["correctness"][1]))
    assert spent["reward_model"][0] == spent["reward_model"][1]


def test_real_jury_confirms_pairs_in_both_orders(jury: RealRun) -> None:
    opinions = "SELECT count(*) FROM scorecards WHERE score IS NOT NULL"
    assert jury.column(opinions) != [0]
    assert jury.column("SELECT count(*) FROM confirmations WHERE status != 'ok'") == [0]
    sides = "SELECT count(*) FILTER (chosen_first) - count(*) FILTER (NOT chosen_first) FROM confirmations"
    assert jury.column(sides) == [0]
    assert set(jury.column("SELECT DISTINCT judge FROM confirmations")) <= {"helpfulness", "correctness", "short"}
