"""Whether a recipe's budget is enough for what is left of its run. Pure; nothing is sent or read here.

An estimate, made to be too high rather than too low: every answer as long as it may be, three bytes of text a token, every
answer judged by every judge. Retries are not in it, and a cascade saves what it saves.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from factory.rollouts import slots
from judges.base import Judge, Question
from schemas.manifest import Spent
from schemas.recipe import Budget, Recipe
from schemas.rows import CanaryKind, Prompt, Rollout

BYTES_A_TOKEN = 3
TEMPLATE_TOKENS = 32  # that a chat template adds to a request


@dataclass(frozen=True, slots=True)
class Need:
    """What some work takes at most."""

    requests: float = 0.0
    tokens: float = 0.0

    def __add__(self, other: "Need") -> "Need":
        return Need(self.requests + other.requests, self.tokens + other.tokens)

    def __mul__(self, times: float) -> "Need":
        return Need(self.requests * times, self.tokens * times)


def needs(recipe: Recipe, judges: Mapping[str, Judge], prompts: Sequence[Prompt]) -> tuple[Need, Need]:
    """What the answers to a prompt of middling length take, and what judging them does."""
    if not prompts:
        return Need(), Need()
    text = sum(_text(message.content for message in prompt.messages) for prompt in prompts) / len(prompts)
    answers = len(slots(recipe.rollouts))
    answering = Need(1, _tokens(text) + recipe.rollouts.max_tokens) * answers
    judging = Need()
    for judge in judges.values():
        judging += _opinion(judge, recipe, prompts[0], text)
    return answering, judging * (1 + recipe.jury.confirm * 2 / answers)


def _opinion(judge: Judge, recipe: Recipe, example: Prompt, text: float) -> Need:
    """What one judge takes for a prompt, watched as often as the recipe says."""
    shown = [_blank(example, name) for name, _ in slots(recipe.rollouts)]
    asked = judge.ask(example, shown)
    own = _text(message.content for message in example.messages)
    need = Need()
    for question in asked:
        words = _text(message.content for message in question.request.messages) - own + text
        need += Need(1, _tokens(words) + _shown(question, recipe) + question.request.sampling.max_tokens)
    trust = recipe.jury.trust
    return need * (1 + trust.reasked + trust.canaries * len(CanaryKind) / len(shown))


def _shown(question: Question, recipe: Recipe) -> int:
    """Tokens of the answers that a question shows."""
    return len(question.about) * recipe.rollouts.max_tokens


def _blank(prompt: Prompt, slot: str) -> Rollout:
    return Rollout(
        rollout_id=f"{prompt.prompt_id}:0:{slot}",
        prompt_id=prompt.prompt_id,
        slot=slot,
        temperature=0.0,
        top_p=1.0,
        min_p=0.0,
        seed=0,
        model="",
        model_digest="",
        text="",
        reasoning=None,
        finish_reason="stop",
        prompt_token_ids=None,
        token_ids=None,
    )


def _text(contents: Iterable[str]) -> int:
    return sum(len(content.encode("utf-8", "surrogatepass")) for content in contents)


def _tokens(text: float) -> float:
    return text / BYTES_A_TOKEN + TEMPLATE_TOKENS


def budget_lines(budget: Budget, need: Need, spent: Spent) -> list[str]:
    """A line for each limit: whether it is enough, by what."""
    lines = []
    if budget.max_requests is not None:
        lines.append(_line("max_requests", budget.max_requests, spent.requests, need.requests))
    if budget.max_tokens_total is not None:
        lines.append(_line("max_tokens_total", budget.max_tokens_total, spent.tokens, need.tokens))
    if budget.max_hours is not None:
        used = spent.seconds / 3600
        pace = used / spent.requests if spent.requests else None
        lines.append(_line("max_hours", budget.max_hours, used, None if pace is None else pace * need.requests))
    if budget.max_cost is not None:
        pace = spent.money / spent.requests if spent.requests else None
        lines.append(_line("max_cost", budget.max_cost, spent.money, None if pace is None else pace * need.requests))
    return lines


def _line(name: str, most: float, used: float, need: float | None) -> str:
    said = f"budget.{name} {most:,.10g}: {used:,.10g} used"
    if need is None:
        return f"{said}; whether it is enough can be told when something was sent"
    counted = name in ("max_requests", "max_tokens_total")
    left = f"at most about {need:,.0f} to go" if counted else f"about {need:,.2g} to go at the pace so far"
    if used + need <= most:
        return f"{said}, {left}: enough"
    return f"{said}, {left}: may not be enough; the run then stops clean, and goes on with a higher one"
