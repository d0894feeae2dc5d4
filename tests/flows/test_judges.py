"""The verbs that ask what the judges of a recipe are worth, and the line of a run that says it."""

import json
import math
import os
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest

from factory.judging.calibration import drawn, marked_gold, read_gold
from factory.ledger.identity import Stage
from factory.ledger.marks import write_mark
from factory.looking.figures import TrustFigures, figures
from factory.run import RunFolder
from flows.show import trust_lines
from schemas.errors import SourceError
from schemas.marks import HumanMark, Mark
from schemas.rows import Cause
from tests.conftest import Command, RecipeWriter
from tests.fake_engine import CHAT, FakeEngine, Fault, Seen, empty_text, error, merit, no_faults, slowly, whenever
from tests.runs import make, tables

WORDS = ("rain", "moss", "slate", "copper", "willow", "harbour", "lantern", "thistle")
ANSWERS = sorted(
    (f"It is made of {first} and {second}." for first in WORDS for second in WORDS if first != second),
    key=lambda answer: merit(json.dumps(answer)),
)[::2]  # those of most and of least merit are far apart; the pairs in the middle are close


def gold_rows(swapped: int = 0) -> list[dict[str, object]]:
    """The fake judges' own taste as gold, but for the first `swapped` rows."""
    rows: list[dict[str, object]] = []
    for number in range(28):
        one, two = ANSWERS[number], ANSWERS[(number + 14) % 28]
        better = 1 if merit(json.dumps(one)) > merit(json.dumps(two)) else 2
        better = 3 - better if number < swapped else better
        rows.append(
            {"instruction": f"What is house {number} made of?", "output_1": one, "output_2": two, "better": better}
        )
    return rows


def gold_file(folder: Path, rows: list[dict[str, object]]) -> Path:
    path = folder / "gold.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_probe_says_what_each_judge_reads_and_sees(prefactory: Command, write_recipe: RecipeWriter) -> None:
    ended = prefactory("judges", "probe", write_recipe(), "--json")
    assert ended.code == 0
    found = json.loads(ended.out)
    assert [one["judge"] for one in found] == ["helpfulness", "correctness", "clarity"]
    for one in found:
        assert one["readable"] == one["asked"] == 28  # four answers, six twins of each
        assert one["won"] + one["tied"] + one["lost"] == 24
        low, high = one["interval"]
        assert low <= one["won"] / 24 <= high
        assert (low <= 0.5) == any("cannot be told from a coin" in line for line in one["warnings"])
    shown = prefactory("judges", "probe", write_recipe())
    assert "28 of 28" in shown.out
    assert "fake-model: helpfulness, correctness, clarity" in shown.out


def test_probe_judge_that_cannot_be_read_ends_with_two(
    prefactory: Command, write_recipe: RecipeWriter, fake_engine: FakeEngine
) -> None:
    fake_engine.faults = whenever(
        lambda seen: seen.is_judging and "how well one answer helps" in str(seen.body), empty_text
    )
    ended = prefactory("judges", "probe", write_recipe())
    assert ended.code == 2
    assert "helpfulness: none of 28 replies could be read" in ended.out
    assert ended.error.startswith("jury.judges: helpfulness: no reply could be read")


def test_calibrate_writes_weights_that_a_recipe_can_name(
    prefactory: Command, write_recipe: RecipeWriter, fake_engine: FakeEngine, tmp_path: Path
) -> None:
    gold = gold_file(tmp_path, gold_rows(swapped=2))
    ended = prefactory("judges", "calibrate", write_recipe(), "--gold", gold)
    assert ended.code == 0
    weights = tmp_path / "small.weights.json"
    document = json.loads(weights.read_text())
    assert document["accuracy"]["clarity"]["pairs"] == 28
    assert document["accuracy"]["clarity"]["right"] == 26
    assert document["weights"]["clarity"] == round(math.log(29 / 3), 4)  # (26 + 3) / (28 + 4)
    assert "0.929 (0.774-0.980)" in ended.out

    sent = len(fake_engine.questions)
    assert prefactory("judges", "calibrate", write_recipe(), "--gold", gold, "--json").code == 0
    assert len(fake_engine.questions) == sent, "every answer was paid for already"

    changes = {"pairing.weights": str(weights), "pairing.aggregation": "gold_log_odds"}
    assert prefactory("run", write_recipe(changes), "--plain").code == 0


def test_calibrate_judges_no_better_than_a_coin_are_said_so(
    prefactory: Command, write_recipe: RecipeWriter, tmp_path: Path
) -> None:
    ended = prefactory("judges", "calibrate", write_recipe(), "--gold", gold_file(tmp_path, gold_rows(swapped=14)))
    assert ended.code == 0
    assert "0: not heard" in ended.out
    assert "No judge is clearly better than a coin" in ended.out


def test_calibrate_nothing_scored_writes_no_file(
    prefactory: Command, write_recipe: RecipeWriter, fake_engine: FakeEngine, tmp_path: Path
) -> None:
    fake_engine.faults = whenever(lambda seen: seen.is_judging, empty_text)
    ended = prefactory("judges", "calibrate", write_recipe(), "--gold", gold_file(tmp_path, gold_rows()))
    assert ended.code == 2
    assert "no judge scored both answers of any pair" in ended.error
    assert not (tmp_path / "small.weights.json").exists()


def test_calibrate_hears_the_marks_that_people_put_on_pairs(
    prefactory: Command, write_recipe: RecipeWriter, tmp_path: Path
) -> None:
    recipe = write_recipe()
    root, _ = make(recipe, Stage.PAIRS)
    run, said = RunFolder(root), [Mark.RIGHT, Mark.FLIPPED, Mark.BOTH_BAD]
    opinions = [pair for pair in tables(root).pairs if pair.cause is Cause.JURY]
    loop = next(pair for pair in tables(root).pairs if pair.cause is Cause.LOOP)
    for pair, word in zip([*opinions, loop], [*said, *[Mark.RIGHT] * len(opinions)], strict=False):
        key = (pair.prompt_id, 0, pair.chosen_id, pair.rejected_id)
        write_mark(run, HumanMark(*key, word, "", "ann", datetime.now(UTC)), None)
    assert prefactory("judges", "calibrate", recipe).error.endswith("say --marks")

    gold = marked_gold(run)
    alone = prefactory("judges", "calibrate", recipe, "--marks", "--json")
    both = prefactory("judges", "calibrate", recipe, "--marks", "--json", "--gold", gold_file(tmp_path, gold_rows()))

    better = {pair.prompt.prompt_id: pair.answers[pair.better].rollout_id for pair in gold}
    expected = {pair.prompt_id: pair.chosen_id for pair in opinions}
    del expected[opinions[2].prompt_id]  # both bad: nothing to learn; the loop no judge reads
    assert better == expected | {opinions[1].prompt_id: opinions[1].rejected_id}
    for ended, pairs in ((alone, len(gold)), (both, len(gold) + 28)):
        assert ended.code == 0
        assert {one["pairs"] for one in json.loads(ended.out)["accuracy"].values()} == {pairs}


def test_read_gold_preference_rows_are_put_on_both_sides(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {
            "messages": [{"role": "user", "content": f"Question {number}?"}],
            "chosen": [{"role": "assistant", "content": "good"}],
            "rejected": "bad",
        }
        for number in range(60)
    ]
    pairs = read_gold(gold_file(tmp_path, rows))
    assert len(pairs) == 60
    assert all(pair.answers[pair.better].text == "good" for pair in pairs)
    assert 15 <= sum(pair.better for pair in pairs) <= 45
    assert len(drawn(pairs, 7)) == len({pair.prompt.prompt_id for pair in drawn(pairs, 7)}) == 7


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "a", "output_1": "x", "output_2": "y", "better": 3}, r"gold\.jsonl:1: better: got 3; write 1 or 2"),
        ({"prompt": "a", "output_1": "x", "better": 1}, r"gold\.jsonl:1: output_2: got 'None'; write an answer's text"),
        ({"prompt": "a", "chosen": "x"}, r"gold\.jsonl:1: rejected: got 'None'"),
        ({"chosen": "x", "rejected": "y"}, r"gold\.jsonl:1: neither `prompt` nor `messages` is there"),
    ],
)
def test_read_gold_row_that_does_not_fit_is_named(tmp_path: Path, row: dict[str, object], said: str) -> None:
    with pytest.raises(SourceError, match=said):
        read_gold(gold_file(tmp_path, [row]))


def test_status_says_what_the_jury_is_worth(prefactory: Command, write_recipe: RecipeWriter, tmp_path: Path) -> None:
    recipe = write_recipe({"jury.trust": {"canaries": 0.3, "reasked": 0.3}})
    assert prefactory("run", recipe, "--plain").code == 0
    root = tmp_path / "runs" / "small"
    shown = " ".join(prefactory("status", root).out.split())
    assert "Trust: 3 judges" in shown
    assert "of re-asked comparisons flip; planted bad answers beaten: clarity" in shown
    found = json.loads(prefactory("status", root, "--json").out)["trust"]
    assert set(found["planted"]) == {"helpfulness", "correctness", "clarity"}
    assert found["judges"] == 3
    trust = figures(root).trust
    assert trust is not None
    assert trust.n_eff is not None
    assert trust.n_eff > 0.5


def test_trust_lines_name_the_judges_that_are_coins() -> None:
    planted = {"good": (0.9, 0.8, 0.95, 60), "coin": (0.55, 0.4, 0.7, 60)}
    lines = trust_lines(TrustFigures(judges=2, n_eff=1.4, alpha=0.31, flips=None, planted=planted))
    assert lines == [
        "Trust: 2 judges are worth 1.4 independent ones; alpha within a prompt 0.31; "
        "planted bad answers beaten: good 90% (80%-95%), coin 55% (40%-70%)",
        "warning: no better than a coin at planted bad answers: coin",
    ]
    assert trust_lines(None) == []


def test_probe_server_that_is_gone_is_one_line(
    prefactory: Command, write_recipe: RecipeWriter, fake_engine: FakeEngine
) -> None:
    fake_engine.faults = whenever(lambda seen: seen.path == CHAT, error(401, "Incorrect API key provided."))
    ended = prefactory("judges", "probe", write_recipe())
    assert ended.code == 2
    assert "401" in ended.error


def judged(engine: FakeEngine) -> list[str]:
    return [str(seen.body) for seen in engine.questions]


def test_calibrate_stopped_by_a_signal_keeps_what_was_under_way_and_goes_on(
    prefactory: Command, write_recipe: RecipeWriter, fake_engine: FakeEngine, tmp_path: Path
) -> None:
    """The signal comes to this process while the twentieth question is answered."""

    def script(_: Seen) -> Fault | None:
        if len(fake_engine.questions) == 20:
            os.kill(os.getpid(), signal.SIGTERM)
        return slowly(0.3) if len(fake_engine.questions) >= 20 else None

    fake_engine.faults = script
    words = ("judges", "calibrate", write_recipe(), "--gold", gold_file(tmp_path, gold_rows()))
    stopped = prefactory(*words)
    assert (stopped.code, stopped.error.split(";")[0]) == (
        143,
        "stopped, and every answer that was under way is kept",
    )
    assert 20 <= len(judged(fake_engine)) < 3 * 2 * 28

    fake_engine.faults = no_faults
    assert prefactory(*words).code == 0
    assert len(judged(fake_engine)) == len(set(judged(fake_engine))) == 3 * 2 * 28


def test_calibrate_stops_where_the_runs_budget_does_and_goes_on_with_a_higher_one(
    prefactory: Command, write_recipe: RecipeWriter, fake_engine: FakeEngine, tmp_path: Path
) -> None:
    gold = gold_file(tmp_path, gold_rows())
    spent = prefactory("judges", "calibrate", write_recipe({"budget.max_requests": 30}), "--gold", gold)
    assert (spent.code, spent.error.split(":")[0]) == (2, "budget.max_requests")
    assert len(judged(fake_engine)) == 30
    assert prefactory("judges", "calibrate", write_recipe({"budget.max_requests": 168}), "--gold", gold).code == 0
    assert len(judged(fake_engine)) == len(set(judged(fake_engine))) == 168


def test_probe_stops_where_the_budget_does_and_counts_in_no_run(
    prefactory: Command, write_recipe: RecipeWriter, fake_engine: FakeEngine
) -> None:
    path = write_recipe({"budget.max_requests": 30})
    for probes in (1, 2):
        ended = prefactory("judges", "probe", path)
        assert (ended.code, ended.error.split(":")[0]) == (2, "budget.max_requests")
        assert len(judged(fake_engine)) == 30 * probes
