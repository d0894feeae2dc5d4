"""What one run of a deployment may do otherwise than its recipe: the fields of the form that Prefect shows.

The rule that must not break: none of these decides a row, since a run folder is of one recipe.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.export import ExportFormat
from schemas.recipe import Recipe
from schemas.schedule import Overlap

SECTIONS = {
    "budget": ("max_requests", "max_tokens_total", "max_hours", "max_cost"),
    "machine": ("concurrency", "shards_in_flight", "shard_size"),
    "schedule": ("prompts", "least_prompts", "overlap", "failed_shards"),
    "export": ("formats",),
}


class Changes(BaseModel):
    """Left empty, a field is as the recipe says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompts: Literal["new", "same"] | None = Field(
        None, description="schedule.prompts: a further round of new prompts, or the one round once more"
    )
    least_prompts: int | None = Field(None, ge=1, description="schedule.least_prompts: fewer new ones make no round")
    overlap: Overlap | None = Field(
        None, description="schedule.overlap: wait for a run that still works, skip this one, or cancel that one"
    )
    failed_shards: int | None = Field(
        None, ge=0, description="schedule.failed_shards: so many may be left for the next run"
    )
    max_requests: int | None = Field(None, ge=0, description="budget.max_requests, over all runs of the folder")
    max_tokens_total: int | None = Field(None, ge=0, description="budget.max_tokens_total, over all runs of the folder")
    max_hours: float | None = Field(None, ge=0, description="budget.max_hours, over all runs of the folder")
    max_cost: float | None = Field(None, ge=0, description="budget.max_cost, over all runs of the folder")
    concurrency: int | None = Field(None, ge=1, description="machine.concurrency: requests in flight for each server")
    shards_in_flight: int | None = Field(None, ge=1, description="machine.shards_in_flight")
    shard_size: int | None = Field(None, ge=1, description="machine.shard_size: prompts in a shard of a new round")
    formats: list[ExportFormat] | None = Field(None, description="export.formats: the trainers to write for")


def changed(recipe: Recipe, changes: Changes) -> Recipe:
    """The recipe with what the form says; the form has the recipe's own bounds."""
    given = {name: value for name, value in changes if value is not None}
    sections: dict[str, object] = {}
    for section, names in SECTIONS.items():
        if own := {name: given[name] for name in names if name in given}:
            sections[section] = getattr(recipe, section).model_copy(update=own)
    return recipe.model_copy(update=sections)
