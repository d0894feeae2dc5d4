"""The pure parts of `benchmarks.formats`: what counts as read."""

from benchmarks.formats import judged
from tests.format_cases import CASES

SIDES = [[f"assistant\n{case.pair.chosen}<end>", case.pair.rejected] for case in CASES if case.pair.chosen.strip()]
LEFT_OUT = {"empty_answer": 1}


def test_judged_every_side_as_written_is_read() -> None:
    outcome = judged("axolotl", {"rows": {"train": 6, "test": 4}, "answers": SIDES}, LEFT_OUT)

    assert outcome.passed
    assert (outcome.written, outcome.read, outcome.unlike) == (len(CASES) - 1, len(CASES) - 1, 0)


def test_judged_a_row_that_the_loader_lost_is_not_read() -> None:
    assert not judged("axolotl", {"rows": {"train": 5, "test": 4}, "answers": SIDES[1:]}, LEFT_OUT).passed


def test_judged_a_side_that_is_cut_or_swapped_is_unlike() -> None:
    (chosen, rejected), *others = SIDES

    for wrong in ([chosen[:-8], rejected], [rejected, chosen]):
        outcome = judged("axolotl", {"rows": {"train": 10}, "answers": [wrong, *others]}, LEFT_OUT)
        assert (outcome.unlike, outcome.passed) == (1, False)
