"""A run with a server of its own, stopped and gone on with: every answer is kept, and the server goes in order each time."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from factory.client.spending import read_spent
from factory.run import RunFolder
from tests.runs import kept

DATA = Path(__file__).parents[2] / "data" / "prompts"
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(find_spec("vllm") is None, reason="no vLLM in this environment"),
]


def recipe(folder: Path) -> Path:
    path = folder / "stopped.yaml"
    path.write_text(
        f"""
name: stopped
prompts: {{sources: [{{path: {DATA / "short_answers.jsonl"}}}], sample: 4}}
policy: {{model: SmolLM2-135M-Instruct}}
rollouts: {{max_tokens: 24}}
jury: {{judges: [{{judge: clarity}}], trust: {{canaries: 0, reasked: 0}}}}
pairing: {{margin: 0.0, agreement: 0.0, allow_unfinished: true}}
export: {{test_share: 0.0}}
machine: {{runs: {folder}, shard_size: 2, concurrency: 8, max_num_seqs: 8, max_model_len: 1024}}
"""
    )
    return path


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "flows.cli", *words]


def test_real_stop_keeps_every_answer_and_leaves_no_process(tmp_path: Path) -> None:
    path, root = recipe(tmp_path), tmp_path / "stopped"
    with subprocess.Popen(
        command("run", str(path), "--plain"),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        while not (root / "round=0").exists() or kept(root) < 6:
            assert process.poll() is None
            time.sleep(0.05)
        family = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=120)

    assert process.returncode == 130, said
    assert "every answer that was under way is kept" in said.splitlines()[-1]
    assert len(family) >= 3  # the guard, the server, its engine
    assert psutil.wait_procs(family, timeout=10)[1] == []
    have = kept(root)
    assert have == read_spent(RunFolder(root).spent_path).requests < 24

    again = subprocess.run(command("run", str(path), "--plain"), capture_output=True, text=True)

    assert again.returncode == 0, again.stderr
    assert "vLLM: up after" in again.stderr
    left = [one for one in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(one.info["cmdline"] or [])]
    assert left == []
    status = json.loads(subprocess.run(command("status", str(root), "--json"), capture_output=True, text=True).stdout)
    assert status["prompts"] == 4 == status["pairs"] + sum(status["dropped"].values())
    judged = [RunFolder(root).record("verdicts", shard) for shard in range(2)]
    assert status["spent"]["requests"] == 24 + sum(record.requests for record in judged if record)


def test_real_stop_while_the_server_starts_does_not_wait_for_it(tmp_path: Path) -> None:
    path = recipe(tmp_path)
    with subprocess.Popen(command("run", str(path), "--plain"), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "vLLM: starting" not in (line := process.stderr.readline()):
            assert line, "it ended"
        time.sleep(2)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)

    assert process.returncode == 143, said
    assert "the same command goes on from here" in said.splitlines()[-1]
    assert family
    assert psutil.wait_procs(family, timeout=10)[1] == []
