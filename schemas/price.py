"""What a model's tokens are paid with.

The rule that must not break: where a price or a count is not known the money is not known either, and never 0.
"""

from pydantic import Field

from schemas.section import Section

MILLION = 1_000_000


class Price(Section):
    """For a million tokens, in whatever currency you pay: all that is said of money is in that one."""

    prompt: float = Field(ge=0)
    completion: float = Field(ge=0)

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / MILLION


def money_text(money: float) -> str:
    """Three digits that say something, of small sums and of large ones."""
    return f"{money:,.2f}" if money >= 1 else f"{money:.3g}"
