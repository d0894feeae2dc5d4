"""What each round of a run came to, in a line."""

from dataclasses import dataclass

from factory.looking import queries
from factory.run import RunFolder

_EACH = """
SELECT rounds.round, policy, promoted, coalesce(asked, 0), coalesce(made, 0), coalesce(dropped_, 0), coalesce(hard, 0),
       coalesce(answers, 0)
FROM rounds
LEFT JOIN (SELECT round, count(*) AS asked FROM prompts GROUP BY 1) USING (round)
LEFT JOIN (SELECT round, count(*) AS made FROM pairs GROUP BY 1) USING (round)
LEFT JOIN (SELECT round, count(*) AS dropped_ FROM dropped GROUP BY 1) USING (round)
LEFT JOIN (SELECT round, count(*) FILTER (loop = 'hard') AS hard, count(text) AS answers FROM rollouts GROUP BY 1)
  USING (round)
ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class RoundFigures:
    """`hard`: hard loops of all `answers`, greedy and sampled."""

    round: int
    policy: str
    promoted: str | None
    prompts: int
    pairs: int
    dropped: int
    hard: int
    answers: int


def round_figures(run: RunFolder) -> list[RoundFigures]:
    """Raises Fixable where the tables or the run's documents cannot be read."""
    return [RoundFigures(*row) for row in queries.ask(run.root, _EACH).rows]  # type: ignore[arg-type]  # as selected
