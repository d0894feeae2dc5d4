"""The command line: exit codes, one line for each thing that can be wrong, JSON that scripts can read.

0: done. 1: a retry may help. 2: something must be changed first.
"""

import json
import resource
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from factory.client.protocol import Ability
from factory.recipes.recipe_file import read_recipe
from factory.run import RunFolder, run_folder
from schemas.rows import Loop, Rollout, VerdictStatus
from tests.conftest import PROMPTS, Command, Ended, RecipeWriter
from tests.fake_engine import (
    MODELS,
    FakeEngine,
    always,
    dies_after,
    error,
    from_then_on,
    html,
    in_turn,
    instead,
    no_faults,
    whenever,
)
from tests.runs import tables


def strictly(text: str) -> Any:
    """JSON as everybody else reads it: without NaN and Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def in_a_process(*words: object, file_size: int | None = None) -> Ended:
    """As a user starts it. `file_size`: the most bytes that any file may grow to."""

    def limit() -> None:
        if file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))

    ended = subprocess.run(
        [sys.executable, "-m", "flows.cli", *map(str, words)], capture_output=True, text=True, preexec_fn=limit
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


# What it says of itself


def test_cli_help_names_every_verb(prefactory: Command) -> None:
    ended = prefactory("--help")

    assert ended.code == 0
    for verb in (
        "run",
        "sample",
        "rollout",
        "judge",
        "pair",
        "export",
        "plan",
        "status",
        "query",
        "loops",
        "judges",
        "evaluate",
    ):
        assert f" {verb} " in ended.out


def test_cli_module_started_by_a_user_says_the_same(prefactory: Command) -> None:
    assert in_a_process("judges") == prefactory("judges")


@pytest.mark.parametrize("words", [["walk"], ["run"], ["run", "x.yaml", "--fast"]], ids=" ".join)
def test_cli_command_that_is_none_exits_with_2(prefactory: Command, words: list[str]) -> None:
    assert prefactory(*words).code == 2


def test_cli_judges_says_what_each_asks(prefactory: Command) -> None:
    lines = prefactory("judges").out.splitlines()

    assert {line.split()[1] for line in lines} >= {"helpfulness", "correctness", "clarity", "math_answer"}
    assert all(len(line.split()) > 4 for line in lines)


# A run


def test_run_says_what_came_of_it_and_where_it_lies(prefactory: Command, write_recipe: RecipeWriter) -> None:
    path = write_recipe()

    ended = prefactory("run", path, "--plain")

    root = run_folder(read_recipe(path))
    assert ended.code == 0, ended.err
    assert f"Run folder: {root}" in ended.out
    assert (root / "export" / "trl" / "README.md").exists()


def test_run_a_second_time_says_that_everything_was_there(
    prefactory: Command, write_recipe: RecipeWriter, fake_engine: FakeEngine
) -> None:
    prefactory("run", write_recipe(), "--plain")
    fake_engine.seen.clear()

    ended = prefactory("run", write_recipe(), "--plain")

    assert (ended.code, fake_engine.seen) == (0, [])
    assert "Requests sent: 0" in ended.out


def test_status_query_and_plan_speak_json(prefactory: Command, write_recipe: RecipeWriter) -> None:
    path = write_recipe()
    prefactory("run", path, "--plain")
    root = run_folder(read_recipe(path))

    status = strictly(prefactory("status", root, "--json").out)
    rows = strictly(
        prefactory("query", root, "SELECT cause, count(*) AS n FROM pairs GROUP BY ALL", "--format", "json").out
    )
    plan = strictly(prefactory("plan", path, "--json").out)

    assert status["prompts"] == len(PROMPTS) == status["pairs"] + sum(status["dropped"].values())
    assert {row["cause"]: row["n"] for row in rows} == status["causes"]
    assert (plan["prompts"], plan["rollouts"]) == (len(PROMPTS), 6 * len(PROMPTS))
    assert set(plan["shards_done"].values()) == {plan["shards"]}


def test_status_sets_what_the_engine_stopped_against_what_the_detector_saw(
    prefactory: Command, write_recipe: RecipeWriter
) -> None:
    path = write_recipe(prompts=[{"prompt": f"{n} [loops]"} for n in range(4)] + [{"prompt": "one [ends]"}])
    prefactory("run", path, "--plain")
    folder = RunFolder(run_folder(read_recipe(path)))
    answers = [row for shard in range(folder.shards()) for row in folder.read_rows(Rollout, shard)]
    stopped = [row for row in answers if row.finish_reason == "repetition"]
    seen = [row for row in answers if row.loop is Loop.HARD and row.finish_reason != "repetition"]
    cap = read_recipe(path).rollouts.max_tokens

    status = strictly(prefactory("status", folder.root, "--json").out)
    said = " ".join(prefactory("status", folder.root).out.split())

    assert len(stopped) > 0
    assert status["loops"]["stopped"] == status["loops"]["confirmed"] == len(stopped)
    assert status["loops"]["only_detector"] == len(seen)
    assert status["tokens_saved_at_most"] == sum(cap - len(row.token_ids or ()) for row in stopped) > 0
    assert status["loops"]["rules"] == [["hard", "exact", len(stopped) + len(seen)]]
    assert f"The engine stopped {len(stopped)} as repetition: {len(stopped)} are hard loops" in said
    assert f"saved at most {status['tokens_saved_at_most']} tokens" in said
    assert (f"Only the detector saw {len(seen)} hard loops" in said) == bool(seen)


def test_query_of_what_json_has_no_word_for_is_json_all_the_same(
    prefactory: Command, write_recipe: RecipeWriter
) -> None:
    path = write_recipe()
    prefactory("sample", path)

    sql = "SELECT 'nan'::DOUBLE a, now() b, 'x'::BLOB c, 1.5::DECIMAL d, ['inf'::DOUBLE] e"
    ended = prefactory("query", run_folder(read_recipe(path)), sql, "--format", "json")

    assert ended.code == 0
    strictly(ended.out)


def test_plan_sends_nothing_and_writes_nothing(
    prefactory: Command, write_recipe: RecipeWriter, fake_engine: FakeEngine
) -> None:
    path = write_recipe()

    assert prefactory("plan", path).code == 0

    assert fake_engine.seen == []
    assert not run_folder(read_recipe(path)).exists()


def test_plan_says_what_is_read_who_is_asked_and_which_keys_go_out(
    prefactory: Command, write_recipe: RecipeWriter, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGES_KEY", "a-value-that-nobody-sees")
    model = {"model": "m", "urls": ["https://judges.example/v1"], "api_key_env": "JUDGES_KEY"}
    judges = [{"judge": "clarity"}, {"judge": "correctness", "model": model}]
    ended = prefactory("plan", write_recipe({"jury.judges": judges}))
    said = " ".join(ended.out.split())
    assert "prompts.jsonl" in said
    assert f"asks {fake_engine.url}, https://judges.example/v1" in said
    assert "sends the keys in JUDGES_KEY" in said
    assert "nobody-sees" not in ended.out + ended.err
    assert "sends no key" in prefactory("plan", write_recipe()).out


def test_plan_of_rounds_foresees_all_of_them_and_what_they_are_asked(
    prefactory: Command, write_recipe: RecipeWriter, tmp_path: Path
) -> None:
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text("".join(json.dumps({"prompt": f"Name river {n}."}) + "\n" for n in range(5)))
    evaluation = {"paths": [str(held_out)], "max_tokens": [8, 32], "samples": 2}
    loop = {"rounds": 3, "on_tripped": "retry", "fallback": {"tries": 2}}
    changes = {"evaluation": evaluation, "semi_online": loop, "prompts.sample": 5}

    said = " ".join(prefactory("plan", write_recipe(changes)).out.split())
    files = strictly(prefactory("plan", write_recipe(changes), "--json").out)["files"]

    assert (
        f"3 rounds of this size: 90 rollouts; the sources have {len(PROMPTS)} prompts: enough for 2, 3 prompts" in said
    )
    assert "4 evaluations, of the policy and of each round's checkpoint; a gate that trips takes up to 2 more" in said
    assert "5 held-out prompts, 15 answers, at most 480 tokens written, 45 judge calls at most" in said
    assert str(held_out) in files
    assert "evaluations" not in prefactory("plan", write_recipe()).out


def test_plan_of_rounds_whose_held_out_prompts_are_gone_says_so(
    prefactory: Command, write_recipe: RecipeWriter, tmp_path: Path
) -> None:
    gone = tmp_path / "gone.jsonl"
    changes = {"evaluation.paths": [str(gone)], "semi_online": {"rounds": 2}}
    assert str(gone) in prefactory("plan", write_recipe(changes)).error


def test_status_of_a_run_whose_prompts_are_gone_still_shows_it(
    prefactory: Command, write_recipe: RecipeWriter, tmp_path: Path
) -> None:
    path = write_recipe()
    prefactory("run", path, "--plain")
    root = run_folder(read_recipe(path))
    (tmp_path / "prompts.jsonl").unlink()

    ended = prefactory("status", root)

    assert ended.code == 0, ended.err
    assert "13 prompts" in ended.out


# What a user gets wrong


def test_run_recipe_that_is_not_there_is_one_line(prefactory: Command, tmp_path: Path) -> None:
    ended = prefactory("run", tmp_path / "nothing.yaml")

    assert ended.code == 2
    assert f"{tmp_path}/nothing.yaml: no such file" in ended.error


def test_run_broken_json_names_file_and_line(prefactory: Command, write_recipe: RecipeWriter) -> None:
    lines = [json.dumps({"prompt": f"number {number}"}) for number in range(20)]
    lines[16] = '{"prompt": "no end'

    ended = prefactory("run", write_recipe(prompts="\n".join(lines)), "--plain")

    assert ended.code == 2
    assert "prompts.jsonl:17" in ended.error


def test_run_empty_source_is_one_line(prefactory: Command, write_recipe: RecipeWriter) -> None:
    ended = prefactory("run", write_recipe(prompts=""), "--plain")

    assert ended.code == 2
    assert "prompts.jsonl: holds no prompts" in ended.error


def test_run_prompt_of_40000_tokens_is_dropped_and_the_run_goes_on(
    prefactory: Command, write_recipe: RecipeWriter
) -> None:
    path = write_recipe(prompts=[*PROMPTS, {"prompt": "x" * 40_000}])

    ended = prefactory("run", path, "--plain")

    status = strictly(prefactory("status", run_folder(read_recipe(path)), "--json").out)
    assert ended.code == 0, ended.err
    assert status["dropped"]["prompt_too_long"] == 1
    assert "prompt_too_long (1): raise `machine.max_model_len`" in " ".join(ended.out.split())


def test_run_unknown_judge_is_one_line_with_the_nearest_name(prefactory: Command, write_recipe: RecipeWriter) -> None:
    ended = prefactory("run", write_recipe({"jury.judges": [{"judge": "clearity"}]}), "--plain")

    assert ended.code == 2
    assert "clearity" in ended.error
    assert "clarity" in ended.error


def test_run_other_recipe_in_the_same_folder_names_the_field(prefactory: Command, write_recipe: RecipeWriter) -> None:
    prefactory("rollout", write_recipe())

    ended = prefactory("run", write_recipe({"rollouts.max_tokens": 64}), "--plain")

    assert ended.code == 2
    assert "rollouts.max_tokens: 400 -> 64" in ended.error


def test_run_folder_that_somebody_else_works_on_is_refused(prefactory: Command, write_recipe: RecipeWriter) -> None:
    path = write_recipe()
    root = run_folder(read_recipe(path))
    root.mkdir(parents=True)
    holder = f"import filelock, sys\nwith filelock.FileLock({str(root / '.lock')!r}):\n print(); input()"
    with subprocess.Popen(
        [sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()

        refused = prefactory("sample", path)
        other.communicate("\n")

    assert refused.code == 2
    assert "another process works on this run" in refused.error
    assert prefactory("sample", path).code == 0


@pytest.mark.parametrize("verb", [["status"], ["query", "SELECT 1"]], ids=["status", "query"])
def test_look_at_a_folder_that_is_no_run_is_one_line(prefactory: Command, tmp_path: Path, verb: list[str]) -> None:
    ended = prefactory(verb[0], tmp_path / "nothing", *verb[1:])

    assert ended.code == 2
    assert "no run there" in ended.error


def test_query_sql_error_is_one_line(prefactory: Command, write_recipe: RecipeWriter) -> None:
    path = write_recipe()
    prefactory("sample", path)

    ended = prefactory("query", run_folder(read_recipe(path)), "SELECT promt_id\nFROM prompts")

    assert ended.code == 2
    assert "prompt_id" in ended.error


# Servers that are none, or not enough


def test_run_address_that_answers_html_is_one_line(
    prefactory: Command, write_recipe: RecipeWriter, fake_engine: FakeEngine
) -> None:
    fake_engine.faults = always(html(), MODELS)

    ended = prefactory("run", write_recipe(), "--plain")

    assert ended.code == 2
    assert fake_engine.url in ended.error
    assert "should end in /v1" in ended.error


def test_run_address_without_v1_is_one_line(
    prefactory: Command, write_recipe: RecipeWriter, fake_engine: FakeEngine
) -> None:
    ended = prefactory("run", write_recipe({"policy.urls": [fake_engine.url.removesuffix("/v1")]}), "--plain")

    assert ended.code == 2
    assert "should end in /v1" in ended.error


def test_run_nothing_listens_may_be_tried_again(prefactory: Command, write_recipe: RecipeWriter) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets it either
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        ended = prefactory("run", write_recipe({"policy.urls": [url]}), "--plain")

    assert ended.code == 1
    assert url in ended.error


def test_run_replica_that_does_not_listen_is_done_without(
    prefactory: Command, write_recipe: RecipeWriter, fake_engine: FakeEngine
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        ended = prefactory("run", write_recipe({"policy.urls": [url, fake_engine.url]}), "--plain")

    assert ended.code == 0
    assert f"{url}: out of the pool, 1 of 2 servers answer the probe" in ended.err


def test_run_first_probe_that_meets_a_fault_is_tried_again(
    prefactory: Command, write_recipe: RecipeWriter, fake_engine: FakeEngine
) -> None:
    fake_engine.faults = in_turn(error(500))

    assert prefactory("run", write_recipe(), "--plain").code == 0


@pytest.mark.usefixtures("unhurried")
def test_run_engine_that_dies_may_be_tried_again(
    prefactory: Command, write_recipe: RecipeWriter, fake_engine: FakeEngine
) -> None:
    fake_engine.faults = dies_after(20)
    died = prefactory("run", write_recipe(), "--plain")
    fake_engine.faults = no_faults

    assert died.code == 1
    assert fake_engine.url in died.error
    assert prefactory("run", write_recipe(), "--plain").code == 0


@pytest.mark.parametrize(("status", "said"), [(402, "Insufficient Balance"), (400, "model_decommissioned")])
@pytest.mark.parametrize("questions", [20, 100], ids=["of rollouts", "of verdicts"])
def test_run_engine_that_refuses_everything_from_then_on_stops_it_and_leaves_no_row(
    prefactory: Command, write_recipe: RecipeWriter, fake_engine: FakeEngine, status: int, said: str, questions: int
) -> None:
    fake_engine.faults = from_then_on(questions, error(status, said))
    stopped = prefactory("run", write_recipe(), "--plain")
    asked = len(fake_engine.questions)
    fake_engine.faults = no_faults

    assert stopped.code == 2
    assert f"{status}: {said}" in stopped.error
    assert asked <= questions + 3 * 16
    assert prefactory("run", write_recipe(), "--plain").code == 0
    rows = tables(run_folder(read_recipe(write_recipe())))
    assert [row.error for row in rows.rollouts] == [None] * 6 * len(PROMPTS)
    assert all(row.status is not VerdictStatus.FAILED for row in rows.verdicts)


def test_run_wrong_key_is_one_line_without_the_key(
    prefactory: Command, write_recipe: RecipeWriter, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_KEY", "sk-secret-0123456789")
    fake_engine.faults = whenever(lambda _: True, error(401, "Incorrect API key provided: sk-secret-0123456789."))

    ended = prefactory("run", write_recipe({"policy.api_key_env": "FAKE_KEY"}), "--plain")

    assert ended.code == 2
    assert "api_key_env" in ended.error
    assert "sk-secret" not in ended.out + ended.err
    assert fake_engine.seen[0].headers["Authorization"] == "Bearer sk-secret-0123456789"


def test_run_key_is_in_no_file_of_the_run(
    prefactory: Command, write_recipe: RecipeWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_KEY", "sk-secret-0123456789")
    path = write_recipe({"policy.api_key_env": "FAKE_KEY"})

    assert prefactory("run", path, "--plain").code == 0

    files = [file for file in run_folder(read_recipe(path)).rglob("*") if file.is_file()]
    assert files
    assert [file for file in files if b"sk-secret" in file.read_bytes()] == []


def test_rollout_weak_server_says_what_is_lost_before_a_rollout_is_paid(
    prefactory: Command, write_recipe: RecipeWriter, fake_engine: FakeEngine
) -> None:
    fake_engine.abilities = frozenset(Ability) - {Ability.TOKEN_IDS, Ability.LOGPROBS}

    ended = prefactory("rollout", write_recipe())

    assert ended.code == 0, ended.err
    said = ended.err[: ended.err.index("rollouts: 0 of")]
    assert "lacks token_ids: " in said
    assert "lacks logprobs: " in said


def test_judge_weak_server_of_a_judge_is_said_before_a_rollout_is_paid(
    prefactory: Command, write_recipe: RecipeWriter
) -> None:
    with FakeEngine(model="judge-model", abilities=frozenset(Ability) - {Ability.LOGPROBS}) as second:
        seat = {"judge": "clarity", "model": {"model": "judge-model", "urls": [second.url]}}
        ended = prefactory("judge", write_recipe({"jury.judges": [seat]}))

    assert ended.code == 0, ended.err
    assert "judge-model: the server lacks logprobs" in ended.err[: ended.err.index("rollouts: 0 of")]


def test_rollout_judge_that_hardly_means_its_digits_is_warned_of(
    prefactory: Command, write_recipe: RecipeWriter, fake_engine: FakeEngine
) -> None:
    fake_engine.digit_mass = 0.01

    ended = prefactory("rollout", write_recipe())

    assert ended.code == 0, ended.err
    assert "1.0% of its probability to digits" in ended.err


def test_run_server_that_does_not_take_a_sampler_that_the_recipe_sets_is_refused(
    prefactory: Command, write_recipe: RecipeWriter, fake_engine: FakeEngine
) -> None:
    fake_engine.abilities = frozenset(Ability) - {Ability.SAMPLERS}

    ended = prefactory("run", write_recipe({"rollouts.sampling": {"min_p": 0.1}}), "--plain")

    assert ended.code == 2
    assert "min_p" in ended.error
    assert fake_engine.questions == []


def test_run_server_of_several_models_says_their_names(
    prefactory: Command, write_recipe: RecipeWriter, fake_engine: FakeEngine
) -> None:
    fake_engine.faults = always(instead({"data": [{"id": "one"}, {"id": "two"}]}), MODELS)

    ended = prefactory("run", write_recipe(), "--plain")

    assert ended.code == 2
    assert "serves one, two, not 'fake-model'" in ended.error


# No room, no right


@pytest.mark.parametrize("below", ["prompts.jsonl", "/proc"], ids=["a file", "a folder that nobody may write to"])
def test_run_folder_that_cannot_be_made_is_one_line(
    prefactory: Command, write_recipe: RecipeWriter, tmp_path: Path, below: str
) -> None:
    ended = prefactory("run", write_recipe({"machine.runs": str(tmp_path / below / "runs")}), "--plain")

    assert ended.code == 2
    assert str(Path(below) / "runs") in ended.error
    assert "machine.runs" in ended.error


@pytest.mark.parametrize("file_size", [1_000, 4_000, 16_000])
def test_run_disk_full_is_one_line_and_the_same_command_goes_on(
    prefactory: Command, write_recipe: RecipeWriter, fake_engine: FakeEngine, file_size: int
) -> None:
    """No file may grow beyond some size, so that another write each time is the one that meets the end of the disk."""
    path = write_recipe()

    full = in_a_process("run", path, "--plain", file_size=file_size)
    asked = len(fake_engine.questions)
    after = prefactory("run", path, "--plain")

    assert full.code == 2, full.err
    assert "cannot be written" in full.error
    assert str(run_folder(read_recipe(path))) in full.error
    assert after.code == 0, after.err
    again = len(fake_engine.questions) - len({str(seen.body) for seen in fake_engine.questions})
    assert again <= min(asked, 2 * 16)  # what was under way: a window, filled once more by the shard beside it
