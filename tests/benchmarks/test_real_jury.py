"""What the benchmark of a real jury counts."""

import json
from pathlib import Path

from benchmarks.cascade_replay import court_of
from benchmarks.jury_cost import POINTWISE
from benchmarks.real_jury import Beaten, beaten, jury_accuracy, natural_pairs
from schemas.chat import Completion, TokenAlternative
from schemas.rows import Canary, CanaryKind, VerdictStatus

ROWS = (
    {"subset": "Natural", "instruction": "Name a river.", "output_1": "The Rhine.", "output_2": "Rome.", "better": 1},
    {"subset": "Manual", "instruction": "Name a lake.", "output_1": "Oslo.", "output_2": "Como.", "better": 2},
    {"subset": "Natural", "instruction": "Name a hill.", "output_1": "No.", "output_2": "Capitol.", "better": 2},
)


def a_file(folder: Path) -> Path:
    path = folder / "gold.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


def test_natural_pairs_are_of_that_subset_alone(tmp_path: Path) -> None:
    pairs = natural_pairs(a_file(tmp_path))
    assert [pair.prompt.messages[-1].content for pair in pairs] == ["Name a river.", "Name a hill."]
    assert [pair.answers[pair.better].text for pair in pairs] == ["The Rhine.", "Capitol."]


def test_jury_accuracy_goes_by_the_scores_of_all_judges_and_halves_ties(tmp_path: Path) -> None:
    pairs = natural_pairs(a_file(tmp_path))
    judges = list(court_of(POINTWISE).judges.values())
    grades = {"Name a river.": ((9, 1), (5, 4), (4, 5)), "Name a hill.": ((5, 5), (5, 5), (5, 5))}
    kept = {}
    for pair in pairs:
        for judge, own in zip(judges, grades[pair.prompt.messages[-1].content], strict=True):
            for question, grade in zip(judge.ask(pair.prompt, pair.answers), own, strict=True):
                asked = question.request.request_id
                kept[asked] = Completion(asked, str(grade), "length", first_token=(TokenAlternative(str(grade), 0.0),))
    found = jury_accuracy(pairs, judges, kept)
    assert (found.right, found.pairs) == (1.5, 2)


def test_beaten_counts_by_judge_and_a_tie_is_not_beaten() -> None:
    ok, bad = VerdictStatus.OK, VerdictStatus.UNREADABLE
    rows = [
        Canary("p", "p:a", "one", CanaryKind.EMPTY, ok, 5.0, 1.0),
        Canary("p", "p:a", "other", CanaryKind.EMPTY, ok, 5.0, 5.0),
        Canary("q", "q:a", "one", CanaryKind.EMPTY, bad),
    ]
    found = beaten(rows)
    assert found["one", CanaryKind.EMPTY] == Beaten(1, 0, 1)
    assert found["other", CanaryKind.EMPTY] == Beaten(0, 1, 1)
    assert found["one", CanaryKind.PADDED] == Beaten(0, 0, 0)
