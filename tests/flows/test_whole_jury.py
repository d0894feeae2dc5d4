"""The jury's other ways through the whole run: cascade, confirmation, a share of loops, listwise judges, canaries."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from factory.engine import TRIES
from factory.ledger.identity import Stage
from factory.looking import queries
from factory.opening import open_run
from factory.progress import Silent
from factory.recipes.recipe_file import read_recipe
from factory.run import RunFolder, run_folder
from flows.plain import PlainRunner
from flows.round import make_round
from tests.conftest import RecipeWriter
from tests.fake_engine import FakeEngine, empty_text, reset, whenever


def make(path: Path, *, offline: bool = False) -> tuple[Path, int]:
    recipe = read_recipe(path)
    folder = RunFolder(run_folder(recipe))
    with folder.locked():
        opened = open_run(recipe, Silent(), redone=Stage.BALANCE if offline else None)
        _, sent = asyncio.run(make_round(opened, PlainRunner(2), Stage.PAIRS, offline=offline))
    return folder.root, sent


def counted(root: Path, sql: str) -> dict[str, int]:
    return {str(name): int(str(count)) for name, count in queries.ask(root, sql).rows}


def test_cascade_confirmation_and_canaries_end_to_end(write_recipe: RecipeWriter) -> None:
    changes: dict[str, object] = {
        "jury.cascade": {"first": 1, "margin": 0.5},
        "jury.confirm": True,
        "jury.trust": {"canaries": 0.1, "reasked": 0.1},
        "pairing.loop_share": 0.2,
        "pairing.margin": 0.05,
    }
    root, sent = make(write_recipe(changes=changes))
    assert sent > 0
    status = counted(root, "SELECT status, count(*) FROM verdicts GROUP BY ALL")
    assert status["ok"] > 0
    assert status["not_asked"] > 0
    unchosen = "FROM verdicts JOIN dropped USING (prompt_id) WHERE reason = 'unfinished'"
    assert counted(root, f"SELECT status, count(*) {unchosen} GROUP BY ALL").keys() == {"not_asked"}
    causes = counted(root, "SELECT cause, count(*) FROM pairs GROUP BY ALL")
    assert causes["jury"] > 0
    assert causes.get("loop", 0) <= 0.2 * sum(causes.values())
    assert counted(root, "SELECT 'all', count(*) FROM confirmations")["all"] >= 6 * causes["jury"]
    assert set(counted(root, "SELECT kind, count(*) FROM canaries GROUP BY ALL")) == {
        "looped", "empty", "truncated", "padded", "off_prompt", "injected"
    }  # fmt: skip
    figures = counted(root, "SELECT figure, count(*) FROM trust GROUP BY ALL")
    assert {"alpha_raw", "alpha_centred", "n_eff", "injections", "canaries", "flips", "calls"} <= figures.keys()

    _, again = make(write_recipe(changes=changes))
    assert again == 0

    _, repaired = make(write_recipe(changes=changes | {"pairing.margin": 0.4}), offline=True)
    assert repaired == 0
    unasked = "SELECT status, count(*) FROM confirmations GROUP BY ALL"
    assert counted(root, unasked).keys() <= {"ok", "not_asked"}


def test_cascade_whose_first_judge_says_nothing_hears_the_others(
    write_recipe: RecipeWriter, fake_engine: FakeEngine
) -> None:
    fake_engine.faults = whenever(
        lambda seen: seen.is_judging and "how well one answer helps" in str(seen.body), empty_text
    )
    root, _ = make(write_recipe(changes={"jury.cascade": {"first": 1, "margin": 0.5}, "jury.quorum": 1}))
    heard = counted(root, "SELECT judge, count(*) FROM verdicts WHERE status = 'ok' GROUP BY ALL")
    assert set(heard) == {"correctness", "clarity"}
    assert counted(root, "SELECT cause, count(*) FROM pairs GROUP BY ALL")["jury"] > 0


@dataclass
class Counting(Silent):
    """Keeps what each phase came to."""

    done: Counter[str] = field(default_factory=Counter)
    total: Counter[str] = field(default_factory=Counter)

    def begin(self, phase: str, total: int) -> None:
        self.total[phase] += total

    def advance(self, phase: str, steps: int = 1) -> None:
        self.done[phase] += steps

    def expect(self, phase: str, more: int) -> None:
        self.total[phase] += more


def test_progress_every_phase_ends_at_its_total(write_recipe: RecipeWriter) -> None:
    changes: dict[str, object] = {
        "jury.cascade": {"first": 1, "margin": 0.5},
        "jury.confirm": True,
        "jury.trust": {"canaries": 0.3, "reasked": 0.3},
        "pairing.margin": 0.05,
    }
    recipe, progress = read_recipe(write_recipe(changes=changes)), Counting()
    with RunFolder(run_folder(recipe)).locked():
        asyncio.run(make_round(open_run(recipe, progress), PlainRunner(2), Stage.PAIRS))
    assert progress.done["verdicts"] > 0
    assert progress.done["confirmations"] > 0
    assert progress.done == progress.total


def test_listwise_judges_spend_a_call_a_prompt(write_recipe: RecipeWriter) -> None:
    judges = [{"judge": name, "protocol": "listwise"} for name in ("helpfulness", "clarity")]
    root, _ = make(write_recipe(changes={"jury.judges": judges}))
    calls = counted(root, "SELECT judge, sum(calls) FROM verdicts WHERE status = 'ok' GROUP BY ALL")
    (prompts,) = counted(root, "SELECT 'n', count(DISTINCT prompt_id) FROM verdicts WHERE status = 'ok'").values()
    assert calls == {"helpfulness": prompts, "clarity": prompts}


def test_verdicts_record_counts_attempts_for_questions_that_nobody_ever_answered(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, unhurried: list[float]
) -> None:
    fake_engine.faults = whenever(
        lambda seen: seen.is_judging and "number 3" in seen.asked and "how well one answer helps" in str(seen.body),
        reset,
    )
    root, _ = make(write_recipe({"jury.verifiers": []}))
    run = RunFolder(root)
    notes = [record.notes for shard in range(run.shards()) if (record := run.record("verdicts", shard))]
    asked = [seen for seen in fake_engine.questions if seen.is_judging]
    assert sum(float(one["attempts"]) for one in notes) == len(asked)
    assert sum(float(one.get("retries.cut_off", 0)) for one in notes) >= TRIES
