"""A run is watched until it is through; a log and a terminal each get it in their own way."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from factory.ledger.identity import Stage
from factory.run import RunFolder
from flows.terminal import PlainLines, Pulsing, PulsingBars
from flows.watching import watch
from tests.conftest import Command, RecipeWriter
from tests.runs import make


@pytest.mark.parametrize("terminal", [False, True])
def test_watch_ends_when_the_run_is_through(write_recipe: RecipeWriter, *, terminal: bool) -> None:
    path, waited, sink = write_recipe(), list[float](), io.StringIO()
    root, _ = make(path, Stage.PROMPTS)

    def meanwhile(seconds: float) -> None:
        make(path)
        waited.append(seconds)

    watch(root, Console(file=sink, force_terminal=terminal, width=200), meanwhile)

    assert len(waited) == 1
    assert "rollouts 0 of 78" in sink.getvalue()
    assert "rollouts 78 of 78" in sink.getvalue()
    assert ("\x1b" in sink.getvalue()) is terminal


def test_watch_is_ended_by_the_one_who_looks(write_recipe: RecipeWriter) -> None:
    root, _ = make(write_recipe(), Stage.PROMPTS)

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    watch(root, Console(file=io.StringIO()), interrupted)


def test_status_watch_of_a_finished_run_goes_on_to_its_figures(prefactory: Command, write_recipe: RecipeWriter) -> None:
    root, _ = make(write_recipe())

    ended = prefactory("status", root, "--watch")

    assert ended.code == 0
    assert ended.out.index("rollouts 78 of 78") < ended.out.index("13 prompts = ")


def test_log_of_a_run_has_its_pulse(write_recipe: RecipeWriter, capsys: pytest.CaptureFixture[str]) -> None:
    root, _ = make(write_recipe())
    lines = PlainLines(Pulsing(RunFolder(root), 0.0))

    lines.begin("judging", 2)
    lines.advance("judging", 2)

    said = capsys.readouterr().err
    assert "judging: 2 of 2" in said
    assert "round 0: rollouts 78 of 78" in said
    assert "hard loops" in said


def test_terminal_of_a_run_has_its_pulse_below_the_bars(write_recipe: RecipeWriter) -> None:
    root, _ = make(write_recipe())
    sink = io.StringIO()
    bars = PulsingBars(console=Console(file=sink, force_terminal=True, width=200), auto_refresh=False)
    bars.pulse = Pulsing(RunFolder(root), 0.0)

    with bars:
        bars.refresh()

    assert "round 0: rollouts 78 of 78" in sink.getvalue()


def test_pulse_of_what_is_not_there_yet_is_silent(tmp_path: Path) -> None:
    later = Pulsing(RunFolder(tmp_path), 0.0)

    assert not later.due()
    assert later.lines == []
    assert not Pulsing(None, 0.0).due()
