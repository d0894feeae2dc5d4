"""The verb `loops`: what a person sees, what a script reads, what a CI gate does, what is said of faults."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from factory.looking.figures import figures
from factory.recipes.recipe_file import read_recipe
from factory.run import run_folder
from factory.survey.loop_examples import Example
from flows.loops import marked
from tests.conftest import Command, RecipeWriter
from tests.flows.test_cli import strictly

UNIT = "and then she said it to him once more, "
HARD = {"text": "Well" + UNIT * 60, "finish_reason": "length", "model": "a", "prompt": "Tell me."}
CLEAN = {"text": "Well.", "finish_reason": "length", "model": "b", "prompt": "Tell me."}


def answers(folder: Path, *rows: object) -> Path:
    path = folder / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def example(before: str = "Well", unit: str = UNIT, second: str = UNIT, repeats: float = 60.0) -> Example:
    return Example("a:1", (), "hard", "exact", 4 + len(unit), None, len(unit), repeats, 0.9, before, unit, second)


def shown(text: Example, *, colour: bool, width: int = 80) -> str:
    console = Console(width=width, force_terminal=colour, color_system="standard" if colour else None)
    with console.capture() as capture:
        console.print(marked(text))
    return capture.get()


def test_loops_shows_rates_rules_and_the_marked_loop(prefactory: Command, tmp_path: Path) -> None:
    ended = prefactory("loops", answers(tmp_path, HARD, CLEAN, {**CLEAN, "text": None}))

    assert ended.code == 0, ended.err
    assert "answers.jsonl: 3 rows, 2 answers" in ended.out
    assert "1 = 50.0% (9.5%-90.5%)" in ended.out
    assert "model b" in ended.out
    assert "which are not counted: 1" in ended.out
    assert "hard, exact: 39 bytes, 60.0 times, from character 43 on" in ended.out
    assert f"Well⟦{UNIT}⟧⟦" in ended.out
    assert "× 58.0 more" in ended.out


def test_loops_without_finish_reasons_and_prompts_says_so(prefactory: Command, tmp_path: Path) -> None:
    out = prefactory("loops", answers(tmp_path, {"response": HARD["text"]})).out

    assert "No finish reason is known: every answer is read as cut off at its cap" in out
    assert "No prompt is known" in out


def test_loops_json_is_one_document_without_nan(prefactory: Command, tmp_path: Path) -> None:
    path = answers(tmp_path, HARD, {**CLEAN, "model": float("nan")})

    found = strictly(prefactory("loops", path, "--json").out)
    empty = strictly(prefactory("loops", answers(tmp_path), "--json").out)

    assert found["all"]["hard"] == 1
    assert found["all"]["rules"] == [{"rule": "exact", "kind": "hard", "answers": 1}]
    assert [group["by"] for group in found["groups"]] == [{"model": "a"}, {"model": "nan"}]
    assert (found["examples"][0]["onset"], found["examples"][0]["unit"]) == (43, UNIT)
    assert (empty["answers"], empty["all"]["hard_rate"], empty["all"]["interval_95"]) == (0, None, None)


def test_loops_out_writes_the_rows_and_says_what_it_replaced(prefactory: Command, tmp_path: Path) -> None:
    once, twice = tmp_path / "once.jsonl", tmp_path / "twice.jsonl"

    first = prefactory("loops", answers(tmp_path, HARD, CLEAN), "--out", once)
    second = prefactory("loops", once, "--out", twice)

    assert "Written: 2 rows to" in first.out
    assert "replaced" not in first.out
    assert "which are replaced: loop, loop_rule, loop_onset" in second.out.replace("\n", " ")
    assert twice.read_text() == once.read_text()
    assert [json.loads(line)["loop"] for line in once.read_text().splitlines()] == ["hard", "clean"]


@pytest.mark.parametrize(("most", "code"), [("0.5", 0), ("0.49", 1), ("0", 1), ("1", 0)])
def test_loops_fail_over_is_a_gate(prefactory: Command, tmp_path: Path, most: str, code: int) -> None:
    ended = prefactory("loops", answers(tmp_path, HARD, CLEAN), "--fail-over", most, "--json")

    assert ended.code == code
    assert strictly(ended.out)["all"]["hard_rate"] == 0.5
    if code:
        assert ended.error.startswith("hard-loop rate 50.00% (95% interval 9.45%-90.55%) is over ")
        assert ended.error.endswith(": 1 of 2 answers")
    else:
        assert ended.err == ""


@pytest.mark.parametrize("rate", ["-0.1", "1.5", "nan"])
def test_loops_fail_over_rate_that_is_none_exits_with_2(prefactory: Command, tmp_path: Path, rate: str) -> None:
    ended = prefactory("loops", answers(tmp_path, HARD), f"--fail-over={rate}")

    assert (ended.code, ended.out) == (2, "")
    assert ended.error == f"--fail-over {rate}: write a rate from 0 to 1, such as 0.05"


def test_loops_fail_over_without_answers_is_no_pass(prefactory: Command, tmp_path: Path) -> None:
    ended = prefactory("loops", answers(tmp_path, {"text": None}), "--fail-over", "0.05")

    assert ended.code == 2
    assert ended.error == "--fail-over: no answers, so no rate; give a file with answers"


def test_loops_fault_is_one_line_that_lists_the_columns(prefactory: Command, tmp_path: Path) -> None:
    ended = prefactory("loops", answers(tmp_path, {"answer": "a", "id": 1}))

    assert ended.code == 2
    assert ended.error.endswith(
        "answers.jsonl: no column `text`, `response` or `completion`; name one of answer, id with --column"
    )


def test_loops_of_a_runs_rollouts_are_those_that_the_run_counted(
    prefactory: Command, write_recipe: RecipeWriter, tmp_path: Path
) -> None:
    path = write_recipe()
    prefactory("rollout", path)
    root = run_folder(read_recipe(path))
    target = tmp_path / "again.parquet"

    ended = prefactory("loops", root / "round=0" / "rollouts", "--by", "slot", "--json", "--out", target)

    assert ended.code == 0, ended.err
    found = strictly(ended.out)
    slots = figures(root).slots
    assert found["all"]["hard"] == sum(slot.hard for slot in slots) > 0
    assert found["columns"]["reasoning"] == "reasoning"
    before = pq.read_table(root / "round=0" / "rollouts")
    assert pq.read_table(target).equals(before)


# How a loop is marked


def test_marked_says_how_it_goes_on() -> None:
    assert shown(example(), colour=False, width=200) == f"Well⟦{UNIT}⟧⟦{UNIT}⟧ … × 58.0 more\n"
    assert shown(example(repeats=2.0), colour=False, width=200) == f"Well⟦{UNIT}⟧⟦{UNIT}⟧\n"


def test_marked_on_a_terminal_has_the_copies_in_styles_of_their_own() -> None:
    text = shown(example(), colour=True, width=200)

    assert f"\x1b[1;31m{UNIT}\x1b[0m" in text
    assert f"\x1b[33m{UNIT}\x1b[0m" in text


def test_marked_what_a_model_wrote_is_shown_and_never_obeyed() -> None:
    text = shown(example(before="\x1b]0;title\x07 [bold]", unit="\u202e\x1b[2J", second="\r\n\x9b"), colour=False)

    assert text == "\\x1b]0;title\\x07 [bold]⟦\\u202e\\x1b[2J⟧⟦↵\\x9b⟧ … × 58.0 more\n"


def test_marked_long_copy_is_cut_in_its_middle() -> None:
    text = shown(example(unit="a" * 2000, second="b" * 2000), colour=False)

    assert "1760 characters left out" in text.replace("\n", " ")
    assert len(text) < 1000


@pytest.mark.parametrize("width", [40, 80, 120])
def test_marked_wide_letters_stay_within_the_width(width: int) -> None:
    text = shown(
        example(before="日本語" * 60, unit="我们需要重新考虑这个问题。", second="👩‍👩‍👧 مرحبا"),
        colour=False,
        width=width,
    )

    assert "我们需要重新考虑这个问题。" in text.replace("\n", "")
    assert all(Console().render_str(line).cell_len <= width for line in text.splitlines())
