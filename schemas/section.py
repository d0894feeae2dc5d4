"""What every part of the recipe has in common.

The rule that must not break: a key that nothing reads is an error, never ignored, since it is mostly a misspelt one.
"""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the recipe: unknown keys are refused, values never change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
