"""Whether a budget is enough: never said to be enough where a whole run would take more."""

import pytest

from factory.opening import jury_of
from factory.recipes.affording import Need, budget_lines, needs
from schemas.chat import Message, Role
from schemas.manifest import Spent
from schemas.recipe import Budget, Recipe
from schemas.rows import Prompt


def a_recipe(**jury: object) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "n",
            "prompts": {"sources": [{"path": "p.jsonl"}]},
            "policy": {"model": "m", "urls": ["http://127.0.0.1:9/v1"]},
            "rollouts": {"max_tokens": 100},
            "jury": {
                "judges": [{"judge": "helpfulness"}, {"judge": "clarity"}],
                "trust": {"canaries": 0, "reasked": 0},
            }
            | jury,
        }
    )


def asked(text: str) -> Prompt:
    return Prompt(text[:5], "s", (Message(Role.USER, text),))


def of(recipe: Recipe, *texts: str) -> tuple[Need, Need]:
    return needs(recipe, jury_of(recipe), [asked(text) for text in texts])


def test_needs_counts_an_answer_a_slot_and_a_call_for_each_judge_and_answer() -> None:
    answering, judging = of(a_recipe(), "What is rain?", "What is snow?")

    assert (answering.requests, judging.requests) == (6, 12)
    assert answering.tokens >= 6 * 100
    assert judging.tokens >= 12 * 100


@pytest.mark.parametrize(
    ("jury", "calls"),
    [
        ({"judges": [{"judge": "clarity", "samples": 3}]}, 18),
        ({"judges": [{"judge": "clarity", "protocol": "listwise"}]}, 1),
        ({"confirm": True}, 16),
        ({"trust": {"canaries": 0, "reasked": 0.5}}, 18),
        ({"trust": {"canaries": 0.5, "reasked": 0}}, 18),
    ],
    ids=["samples", "listwise", "confirmed", "asked twice", "canaries"],
)
def test_needs_knows_the_ways_to_ask(jury: dict[str, object], calls: float) -> None:
    _, judging = of(a_recipe(**jury), "What is rain?")

    assert judging.requests == pytest.approx(calls)


def test_needs_grows_with_the_prompts() -> None:
    short, long = of(a_recipe(), "rain"), of(a_recipe(), "rain" * 3000)

    assert long[0].tokens - short[0].tokens == pytest.approx(6 * 4 * 2999 / 3)
    assert long[1].tokens > short[1].tokens


def test_needs_of_no_prompts_is_nothing() -> None:
    assert of(a_recipe()) == (Need(), Need())


@pytest.mark.parametrize(("most", "enough"), [(99, False), (100, True), (101, True)])
def test_budget_line_counts_what_is_used(most: int, enough: bool) -> None:
    (line,) = budget_lines(Budget(max_requests=most), Need(60, 0), Spent(requests=40))

    assert line.startswith(f"budget.max_requests {most}: 40 used, at most about 60 to go")
    assert line.endswith("enough") == enough
    assert ("may not be enough" in line) != enough


def test_budget_lines_of_hours_go_by_the_pace_so_far() -> None:
    hours = Budget(max_hours=3)

    (before,) = budget_lines(hours, Need(100, 0), Spent())
    (slow,) = budget_lines(hours, Need(100, 0), Spent(requests=50, seconds=3600 * 1.5))
    (fast,) = budget_lines(hours, Need(100, 0), Spent(requests=50, seconds=3600 * 0.5))

    assert "can be told when something was sent" in before
    assert "may not be enough" in slow
    assert fast.endswith(": enough")


def test_budget_lines_only_for_limits_that_are_set() -> None:
    assert budget_lines(Budget(), Need(100, 100), Spent()) == []
    assert len(budget_lines(Budget(max_requests=1, max_tokens_total=1, max_hours=1), Need(1, 1), Spent())) == 3
