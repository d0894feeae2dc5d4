"""The recipe's section `schedule`: what runs that nobody watches do.

The rule that must not break: nothing here decides a row. A round that a schedule began and one that a person began are the
same round.
"""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from schemas.section import Section


class Overlap(StrEnum):
    """What a run does where another one still works on the same run folder."""

    WAIT = "wait"  # for its turn
    SKIP = "skip"  # this one does not take place
    CANCEL = "cancel"  # the other is stopped, what it was answered is kept, and this one goes on from there


class DeploymentKind(StrEnum):
    """What of a recipe a scheduler runs."""

    ROUND = "round"
    SEMI_ONLINE = "semi-online"
    EXPORT = "export"
    VERIFY = "verify"


class Schedule(Section):
    """`prefactory run --more` heeds the prompts' part of it too."""

    prompts: Literal["new", "same"] = "new"  # of each run: a further round of new ones, or the one round once more
    least_prompts: int = Field(default=1, ge=1)  # fewer new ones than these make no further round: nothing to do
    overlap: Overlap = Overlap.WAIT
    failed_shards: int = Field(default=0, ge=0)  # so many may be left for the next run before this one counts as failed
    webhook_env: str | None = None  # the NAME of the environment variable with the address that hears of failures
