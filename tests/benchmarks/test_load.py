"""The pure parts of the load benchmark, and the stage that it measures, once and small."""

from dataclasses import replace
from pathlib import Path

from benchmarks.load import Loaded, figures, prompts_file

SMALL = Loaded(500, 3000, 3000, 2.0, 1500.0, 0.5, 2000.0, 0.1, 300.0, 200.0, 70, 250.0)


def test_figures_judge_the_largest_size_and_the_growth_from_the_smallest() -> None:
    large = replace(SMALL, prompts=5000, requests=30_000, attempts=30_000, memory=330.0, requests_per_s=1100.0)

    found = figures([SMALL, large])

    assert (found["rate_reached"], found["core_rate_reached"], found["memory_reached"]) == (False, True, True)
    assert found["memory_growth"] == 1.1
    assert found["every_request_once"]
    assert not figures([SMALL, replace(large, attempts=30_001)])["every_request_once"]


def test_prompts_file_has_no_prompt_twice(tmp_path: Path) -> None:
    lines = prompts_file(tmp_path, 300).read_text().splitlines()

    assert len(lines) == len(set(lines)) == 300
