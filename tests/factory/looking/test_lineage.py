"""From which checkpoint a pair comes, and to which it led.

prefactory query RUN "SELECT chosen_by, trained, promoted FROM lineage WHERE round = 1"
"""

import shutil
from pathlib import Path

import duckdb
import pytest

from factory.ledger.identity import Stage
from factory.looking import queries
from factory.run import RunFolder
from schemas.recipe import ModelRef
from schemas.semi_online import RoundOutcome, Story
from schemas.tables import OF_ROUNDS
from tests.conftest import RecipeWriter
from tests.fake_engine import FakeEngine
from tests.runs import make, make_later

STORY = Story(
    rounds=[
        RoundOutcome(round=0, policy="remote:fake-model", reference="remote:fake-model", trained="t0", promoted="p0"),
        RoundOutcome(round=1, policy="p0", reference="remote:fake-model"),
    ]
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with FakeEngine() as first, FakeEngine(model="next-model") as second:
        recipe = RecipeWriter(tmp_path_factory.mktemp("lineage"), first.url)({"prompts.sample": 6})
        root, _ = make(recipe, Stage.EXPORT)
        (root / "semi_online.json").write_text(STORY.model_dump_json())
        make_later(recipe, 1, ModelRef(model="next-model", urls=[second.url]), Stage.EXPORT)
    return root


def test_lineage_has_a_row_for_each_pair_with_who_wrote_it(root: Path) -> None:
    pairs = queries.ask(root, "SELECT round, prompt_id, chosen_id, rejected_id FROM pairs ORDER BY ALL").rows

    found = queries.ask(root, "SELECT round, prompt_id, chosen_id, rejected_id FROM lineage ORDER BY ALL").rows
    made = queries.ask(root, "SELECT DISTINCT round, chosen_by, rejected_by FROM lineage ORDER BY ALL").rows

    assert found == pairs
    assert made == (
        (0, "remote:fake-model", "remote:fake-model"),
        (1, "remote:next-model", "remote:next-model"),
    )


def test_lineage_says_what_each_round_led_to(root: Path) -> None:
    found = queries.ask(root, "SELECT DISTINCT round, reference, trained, promoted FROM lineage ORDER BY ALL").rows

    assert found == ((0, "remote:fake-model", "t0", "p0"), (1, "remote:fake-model", None, None))


def test_rounds_name_policy_and_judges(root: Path) -> None:
    found = queries.ask(root, "SELECT round, policy, judges FROM rounds ORDER BY 1").rows

    assert found[0] == (0, "remote:fake-model", {})
    assert found[1][:2] == (1, "remote:next-model")
    assert found[1][2] == dict.fromkeys(("helpfulness", "correctness", "clarity"), "remote:fake-model")


def test_lineage_stands_in_the_catalog_and_moves_with_the_folder(root: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(root, moved)
    queries.write_catalog(RunFolder(moved).catalog_path, moved)

    with duckdb.connect(str(moved / "catalog.duckdb"), read_only=True) as client:
        (count,) = client.execute("SELECT count(*) FROM lineage").fetchone() or (None,)

    assert ((count,),) == queries.ask(root, "SELECT count(*) FROM pairs").rows


@pytest.mark.parametrize("name", OF_ROUNDS)
def test_lineage_of_nothing_has_the_columns_and_types_of_something(root: Path, tmp_path: Path, name: str) -> None:
    described = [
        queries.ask(folder, f"SELECT column_name, column_type FROM (DESCRIBE {name})").rows
        for folder in (tmp_path, root)
    ]

    assert described[0] == described[1]
    assert [column for column, _ in described[0]] == OF_ROUNDS[name].names
