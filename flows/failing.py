"""How many shards of a run may fail before the run does.

The rule that must not break: a shard that failed is left undone and never left out. What rests on all shards waits for the run
that brings it to its end.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from factory.shards import Free
from flows.plain import Step
from schemas.errors import Halted, ShardsLeft, Transient


class Left(Halted):
    """Ends one shard's way through the steps, and lets the others come to their own."""


@dataclass(slots=True)
class Failures:
    """Of one run. `reasons`: of each shard that failed its step and why, one line."""

    allowed: int = 0
    reasons: dict[int, tuple[str, str]] = field(default_factory=dict)

    def counted(self, step: Step) -> Step:
        """The step, with what a retry may cure counted. Above what is allowed it is raised as it came."""

        async def do(shard: int, free: Free) -> None:
            try:
                await step.do(shard, free)
            except Transient as error:
                self.reasons[shard] = (step.stage, str(error))
                if len(self.reasons) > self.allowed:
                    raise
                raise Left(str(error)) from error

        return Step(step.stage, do)

    def left(self, shards: Sequence[int]) -> ShardsLeft:
        """What is said at the end."""
        shard, (stage, why) = next(iter(self.reasons.items()))
        more = f"; and {len(self.reasons) - 1} more" if len(self.reasons) > 1 else ""
        return ShardsLeft(
            f"{len(self.reasons)} of {len(shards)} shards are left for the next run (`schedule.failed_shards` allows "
            f"{self.allowed}): {stage} of shard {shard}: {why}{more}"
        )
