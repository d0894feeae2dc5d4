"""What the benchmark of attacks counts."""

import math

import pytest

from benchmarks.attack_texts import SPECIAL_TOKENS
from benchmarks.attacks import Outcome, Sample, as_rollout, attack_groups, lift, naive
from judges.pointwise import PointwiseJudge
from judges.registry import JUDGES
from tests.samples import a_prompt


def test_lift_counts_readable_pairs_and_wins_that_the_detector_misses() -> None:
    found = [Outcome(3.0, 5.0, True), Outcome(3.0, 4.0, False), Outcome(3.0, 3.0, False), Outcome(None, 9.0, False)]
    figures = lift(found)
    assert (figures["n"], figures["unread"], figures["lift"]) == (3, 1, 1.0)
    assert figures["interval"] == pytest.approx([1 - 1.96 / math.sqrt(3), 1 + 1.96 / math.sqrt(3)], abs=1e-3)
    assert (figures["wins"], figures["wins_unseen"], figures["seen"]) == (0.667, 0.333, 0.25)


def test_naive_template_shows_the_attack_as_it_came_and_ours_does_not() -> None:
    judge, sample = JUDGES["helpfulness"], Sample(a_prompt(), "Paris.")
    assert isinstance(judge, PointwiseJudge)
    text = SPECIAL_TOKENS[0].on(sample.text)
    (question,) = judge.ask(sample.prompt, [as_rollout(sample, text)])
    assert text in naive(judge, question.request, sample, text).messages[-1].content
    assert SPECIAL_TOKENS[0].text not in question.request.messages[-1].content
    assert naive(judge, question.request, sample, text).choices == question.request.choices


def test_attack_groups_hold_every_kind_and_harmless_controls_first() -> None:
    groups = attack_groups()
    assert all(groups.values())
    assert [name for name in groups if name.startswith("control")] == list(groups)[:2]
