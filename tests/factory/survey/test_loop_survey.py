"""What is counted of anybody's answers, and which examples are kept."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.survey.answer_columns import Wanted
from factory.survey.answer_files import answer_files
from factory.survey.loop_examples import KEPT, Clearest, Looped
from factory.survey.loop_survey import ASKED_GROUPS, USUAL_GROUPS, Survey, survey
from factory.wilson import wilson
from schemas.errors import SourceError

UNIT = "and then she said it to him once more, "
HARD = {"text": "Well" + UNIT * 60, "finish_reason": "length"}
SOFT = {"text": "Well" + UNIT * 60, "finish_reason": "stop"}
CLEAN = {"text": "Well.", "finish_reason": "length"}


def surveyed(folder: Path, *rows: object, wanted: Wanted | None = None, processes: int = 1) -> Survey:
    path = folder / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return survey(answer_files(path), wanted or Wanted(), processes)


def test_survey_counts_every_row_once(tmp_path: Path) -> None:
    found = surveyed(tmp_path, HARD, HARD, SOFT, CLEAN, {"text": None}, {"error": "no answer"})

    whole = found.whole
    assert (found.rows, found.without_text, whole.answers, whole.hard, whole.soft) == (6, 2, 4, 2, 1)
    assert whole.rules == (("exact", "hard", 2), ("finished", "soft", 1))
    assert (whole.rate, whole.interval) == (0.5, wilson(2, 4))
    assert whole.published == 3
    assert found.groups == ()


def test_survey_usual_groups_are_counted_each_by_itself(tmp_path: Path) -> None:
    rows = [{**HARD, "model": "b", "temperature": 0}, {**CLEAN, "model": "a", "temperature": 0.5}]
    found = surveyed(tmp_path, *rows, {**CLEAN, "model": "a", "temperature": 0.0}, {**SOFT, "model": "a"})

    assert [(group.by, group.answers, group.hard) for group in found.groups] == [
        ((("model", "a"),), 3, 0),
        ((("model", "b"),), 1, 1),
        ((("temperature", 0),), 2, 1),
        ((("temperature", 0.5),), 1, 0),
        ((("temperature", None),), 1, 0),
    ]


def test_survey_groups_that_are_asked_for_are_crossed(tmp_path: Path) -> None:
    rows = [{**HARD, "seed": seed, "model": model} for seed in (10, 9) for model in "ba"]

    found = surveyed(tmp_path, *rows, wanted=Wanted(by=("seed", "model")))

    assert [tuple(value for _, value in group.by) for group in found.groups] == [
        (9, "a"),
        (9, "b"),
        (10, "a"),
        (10, "b"),
    ]


def test_survey_column_with_too_many_values_is_left_out_or_refused(tmp_path: Path) -> None:
    rows = [{**CLEAN, "model": f"m{number}", "slot": number % 2} for number in range(ASKED_GROUPS + 1)]

    found = surveyed(tmp_path, *rows)

    assert found.left_out == ("model",)
    assert [group.by for group in found.groups] == [(("slot", 0),), (("slot", 1),)]
    assert surveyed(tmp_path, *rows[:USUAL_GROUPS]).left_out == ()
    assert len(surveyed(tmp_path, *rows[:ASKED_GROUPS], wanted=Wanted(by=("model",))).groups) == ASKED_GROUPS
    with pytest.raises(SourceError, match="--by model: more than 200 groups"):
        surveyed(tmp_path, *rows, wanted=Wanted(by=("model",)))


def test_survey_says_what_the_file_does_not(tmp_path: Path) -> None:
    unsaid = surveyed(tmp_path, {"text": SOFT["text"]}, {"text": None})
    partly = surveyed(tmp_path, {**SOFT, "finish_reason": None}, {**SOFT, "finish_reason": "gave up"}, SOFT)

    assert (unsaid.unsaid, unsaid.whole.hard) == (1, 1)
    assert unsaid.columns is not None
    assert unsaid.columns.finish_reason is None
    assert (partly.unsaid, partly.unknown_reasons) == (1, (("gave up", 1),))
    assert (partly.whole.hard, partly.whole.soft) == (1, 2)


def test_survey_column_that_holds_no_finish_reasons_is_refused(tmp_path: Path) -> None:
    rows = [{"text": "a", "finish_reason": f"Because of {number}."} for number in range(200)]

    with pytest.raises(SourceError, match=r"more than 100 values such as 'Because of 0\.'"):
        surveyed(tmp_path, *rows)


def test_survey_prompt_that_asks_for_it_makes_a_loop_soft(tmp_path: Path) -> None:
    asked = {**HARD, "prompt": f"Repeat this 1000 times: {UNIT}"}

    assert surveyed(tmp_path, asked).whole.hard == 0
    assert surveyed(tmp_path, asked, wanted=Wanted(prompt="")).whole.hard == 1


def test_survey_token_ids_give_the_onset_in_tokens(tmp_path: Path) -> None:
    ids = [1, *range(10, 20)] + [*range(20, 29)] * 60

    (example,) = surveyed(tmp_path, {**HARD, "token_ids": ids}).examples

    assert example.onset_token == 11 + 9


def test_survey_without_rows_knows_no_rate(tmp_path: Path) -> None:
    found = surveyed(tmp_path)

    assert (found.columns, found.rows, found.whole.rate, found.examples) == (None, 0, None, ())


def test_survey_in_two_processes_finds_the_same(tmp_path: Path) -> None:
    rows = [{"text": f"{number}. " + UNIT * (number % 40), "model": number % 3} for number in range(3000)]

    assert surveyed(tmp_path, *rows, processes=2) == surveyed(tmp_path, *rows, processes=1)


def test_survey_folder_whose_files_mean_different_columns_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "model": ["m"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "b.parquet")

    assert survey(answer_files(tmp_path), Wanted(), 1).rows == 2
    pq.write_table(pa.table({"response": ["a"]}), tmp_path / "c.parquet")
    with pytest.raises(SourceError, match=r"c\.parquet: its columns are response, not those of .*a\.parquet"):
        survey(answer_files(tmp_path), Wanted(), 1)


# Examples


def looped(text: str, unit: str, kind: str = "hard") -> Looped:
    start = text.index(unit)
    run = len((text[start:]).encode())
    period = len(unit.encode())
    return Looped(
        text, kind, "exact", start + len(unit), None, period, run / period, (run - period) / len(text.encode())
    )


def test_clearest_shows_the_two_copies_and_what_stands_before() -> None:
    clearest = Clearest()
    clearest.take(looped("x" * 300 + "再说一遍," * 9, "再说一遍,"), "a:1", ())

    (example,) = clearest.examples()

    assert (example.before, example.unit, example.second) == ("x" * 200, "再说一遍,", "再说一遍,")


def test_clearest_keeps_hard_ones_before_longer_soft_ones() -> None:
    clearest = Clearest()
    clearest.take(looped("soft. " * 900, "soft. ", "soft"), "a:1", ())
    clearest.take(looped("hard. " * 9, "hard. "), "a:2", ())

    assert [example.place for example in clearest.examples()] == ["a:2", "a:1"]


def test_clearest_unit_from_another_place_on_or_with_other_numbers_is_the_same() -> None:
    clearest = Clearest()
    for place, unit in enumerate(("Step 1: check. ", "check. Step 22: ", "STEP 9: check. ")):
        clearest.take(looped(unit * (20 + place), unit), f"a:{place}", ())

    assert [example.place for example in clearest.examples()] == ["a:1"]


@given(st.lists(st.tuples(st.sampled_from("abcdefghijklmnop"), st.integers(3, 400)), max_size=60))
def test_clearest_any_order_keeps_what_sorting_all_would(found: Sequence[tuple[str, int]]) -> None:
    clearest = Clearest()
    for letter, copies in found:
        clearest.take(looped(letter * copies, letter), f"{letter}{copies}", ())

    best = {letter: max(copies for other, copies in found if other == letter) for letter, _ in found}
    expected = sorted(best.values(), reverse=True)[:KEPT]
    assert [int(example.place[1:]) for example in clearest.examples()] == expected
    assert all(best[example.place[0]] == int(example.place[1:]) for example in clearest.examples())
