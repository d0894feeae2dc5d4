"""What is worth changing is said where the figures carry it, and only there.

advice(run_report(root))[0].seen     # "9.4% (3.2% to 24%) of the greedy answers are hard loops at 192 tokens"
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from factory.looking import advice as rules
from factory.looking.advice import advice
from factory.looking.figures import SlotFigures
from factory.looking.report_figures import Cut, JudgeReport, Measured, Rate, RunReport, Side, run_report
from tests.reports import a_run


@pytest.fixture
def sound(tmp_path: Path) -> RunReport:
    """A run with nothing to say of it."""
    run = run_report(a_run(tmp_path))
    slots = (SlotFigures("greedy", 1000, 0, 0, 10, 0, 9),)
    counted = replace(run.figures, prompts=100, causes={"jury": 95}, dropped={"below_margin": 5}, slots=slots)
    return replace(run, figures=counted, loops={}, jury={}, judges=(), lengths=replace(run.lengths, medians={}))


def looping(run: RunReport, hard: int, answers: int) -> RunReport:
    slots = (SlotFigures("greedy", answers, hard, 0, hard, 0, 9),)
    return replace(run, figures=replace(run.figures, slots=slots))


def judged(run: RunReport, ok: int = 100, failed: int = 0, **trust: Measured) -> RunReport:
    return replace(run, judges=(JudgeReport("clarity", ok, failed, 5.0, trust),))


def sized(run: RunReport, chosen: float, rejected: float) -> RunReport:
    medians = {("jury", Side.CHOSEN): chosen, ("jury", Side.REJECTED): rejected}
    return replace(run, lengths=replace(run.lengths, medians=medians))


def of_jury(run: RunReport, n_eff: float, alpha: float) -> RunReport:
    figures = {"judges": 3.0, "n_eff": n_eff, "alpha_centred": alpha}
    return replace(run, jury={name: Measured(value, None, None, 9) for name, value in figures.items()})


def test_advice_of_a_sound_run_is_nothing(sound: RunReport) -> None:
    assert advice(sound) == ()


SPEAKS: list[tuple[Callable[[RunReport], RunReport], str, str]] = [
    (lambda run: looping(run, 100, 1000), "10% (8.3% to 12%) of the greedy answers", "train on these pairs"),
    (
        lambda run: replace(run, figures=replace(run.figures, causes={"jury": 80}, dropped={"below_margin": 20})),
        "20% of the prompts (20) were dropped as below_margin",
        "pairing.margin",
    ),
    (
        lambda run: replace(
            run, figures=replace(run.figures, causes={"loop": 90, "jury": 10}, prompts=100, dropped={})
        ),
        "loops make 90%",
        "loop_share",
    ),
    (
        lambda run: replace(run, figures=replace(run.figures, slots=(SlotFigures("greedy", 100, 0, 0, 40, 0, 9),))),
        "40% (31% to 50%) of the answers were cut off at 64 tokens",
        "max_tokens",
    ),
    (lambda run: judged(run, canaries=Measured(0.6, 0.4, 0.8, 20)), "clarity 60% (40% to 80%)", "larger judge"),
    (lambda run: judged(run, flips=Measured(0.4, 0.3, 0.5, 90)), "clarity 40% (30% to 50%)", "`samples`"),
    (lambda run: judged(run, length_slope=Measured(0.5, None, None, 90)), "like longer answers", "rubric"),
    (lambda run: judged(run, length_slope=Measured(-0.5, None, None, 90)), "like shorter answers", "rubric"),
    (lambda run: judged(run, mass=Measured(0.1, None, None, 90)), "clarity 10%", "thinking_tokens"),
    (lambda run: judged(run, ok=80, failed=20), "clarity 20% (13% to 29%)", "verdicts"),
    (lambda run: of_jury(run, 1.2, 0.9), "3 judges are worth 1.2 independent ones", "families"),
    (lambda run: of_jury(run, 2.9, 0.1), "agree little", "agreement"),
    (lambda run: sized(run, 100, 40), "longer: median 100 tokens against 40", "length-normalised"),
    (lambda run: sized(run, 40, 100), "shorter: median 40 tokens against 100", "length-normalised"),
    (
        lambda run: replace(run, loops={Cut.SOURCE: (Rate("math", 50, 100), Rate("prose", 1, 100))}),
        "source math: 50% (40% to 60%) hard loops, 1.0% (0.2% to 5.4%) elsewhere",
        "source's prompts",
    ),
]


@pytest.mark.parametrize(("change", "seen", "mend"), SPEAKS, ids=[seen for _, seen, _ in SPEAKS])
def test_advice_names_its_figures_and_a_change(
    sound: RunReport, change: Callable[[RunReport], RunReport], seen: str, mend: str
) -> None:
    (found,) = advice(change(sound))

    assert seen in found.seen
    assert mend in found.change


SILENT: list[Callable[[RunReport], RunReport]] = [
    lambda run: looping(run, 1, 10),  # 10% too, but of ten
    lambda run: judged(run, canaries=Measured(0.9, 0.7, 0.98, 20)),
    lambda run: judged(run, flips=Measured(0.4, 0.1, 0.7, 5)),
    lambda run: judged(run, ok=9, failed=1),
    lambda run: sized(run, 50, 40),
    lambda run: replace(run, loops={Cut.SOURCE: (Rate("math", 1, 2), Rate("prose", 5, 100))}),
    lambda run: replace(run, loops={Cut.SOURCE: (Rate("math", 50, 100),)}),  # with nothing to compare it with
]


@pytest.mark.parametrize("change", SILENT)
def test_advice_is_silent_where_chance_alone_would_do(
    sound: RunReport, change: Callable[[RunReport], RunReport]
) -> None:
    assert advice(change(sound)) == ()


def test_the_rest_is_all_others_together() -> None:
    found = list(rules.against_the_rest([Rate("a", 1, 10), Rate("b", 5, 10), Rate("c", 0, 5)]))

    assert found[0] == (Rate("b", 5, 10), Rate("others", 1, 15))
    assert len(found) == 3
