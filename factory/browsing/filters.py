"""What a person wants to see of a run's pairs, as an address says it: filters, an order, a sample.

Pure. The rule that must not break: an address means the same whenever it is opened. The order is total, and a sample is drawn
before anybody's marks are looked at, so that marking a pair never moves another one.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated
from urllib.parse import urlencode

from pydantic import Field, ValidationError

from schemas.errors import Fixable
from schemas.marks import Mark
from schemas.rows import Cause, LoopRule
from schemas.section import Section

UNMARKED, NO_RULE = "unmarked", "none"
MOST_SAMPLED = 5000
LAST = 1e300  # where a pair without a margin stands
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Order(StrEnum):
    STORED = "stored"
    CLOSE = "close"  # the smallest margin first
    CLEAR = "clear"  # the largest margin first
    DISPUTED = "disputed"  # those first that most judges would not have chosen so; of equals the smaller margin
    RANDOM = "random"


_CLOSE, _DISPUTED = f"coalesce(margin, {LAST})", "-coalesce(disagreement, -1.0)"
_KEYS = {
    Order.STORED: (),
    Order.CLOSE: (_CLOSE,),
    Order.CLEAR: (f"coalesce(-margin, {LAST})",),
    Order.DISPUTED: (_DISPUTED, _CLOSE),
}


class Filters(Section):
    """All of it; what is left out does not narrow. `least`, `most`: of the margin. `disagreement`: at least so much."""

    round: int | None = Field(default=None, ge=0, le=10**6)
    cause: Cause | None = None
    rule: str | None = Field(default=None, pattern=f"^({NO_RULE}|{'|'.join(LoopRule)})$")
    source: str | None = Field(default=None, max_length=2000)
    chosen: str | None = Field(default=None, max_length=40)
    rejected: str | None = Field(default=None, max_length=40)
    least: Finite | None = None
    most: Finite | None = None
    disagreement: Finite | None = Field(default=None, ge=0, le=1)
    mark: str | None = Field(default=None, pattern=f"^({UNMARKED}|{Mark.RIGHT}|{Mark.FLIPPED}|{Mark.BOTH_BAD})$")
    text: str | None = Field(default=None, max_length=200, pattern="^[^\x00]*$")
    order: Order = Order.STORED
    seed: int = Field(default=1, ge=0, le=10**9)
    sample: int | None = Field(default=None, ge=1, le=MOST_SAMPLED)

    @property
    def keys(self) -> tuple[str, ...]:
        """What the order sorts by, as SQL, each from low to high; the last one tells any two pairs apart."""
        if self.order is Order.RANDOM:
            return f"hash(number + {self.seed * 1_000_003})", "number"
        return (*_KEYS[self.order], "number")

    @property
    def narrows_before_drawing(self) -> bool:
        """Whether a sample is drawn from less than all pairs."""
        return bool(set(self.model_dump(exclude_defaults=True)) - {"order", "seed", "sample", "mark"})

    def query(self, **more: object) -> str:
        """As the end of an address; `more` stands behind it."""
        own = self.model_dump(mode="json", exclude_defaults=True)
        return urlencode(own | {name: value for name, value in more.items() if value is not None})


def read_filters(asked: Mapping[str, str]) -> Filters:
    """From an address; fields of a form that were left empty ask for nothing. Raises Fixable."""
    try:
        return Filters.model_validate({name: value.strip() for name, value in asked.items() if value.strip()})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        at = ".".join(map(str, first["loc"]))
        raise Fixable(f"{at}: {first.get('input')!r}: {first['msg']}; take it out of the address") from None


def where(filters: Filters, sources: Mapping[str, tuple[str, ...]]) -> tuple[str, list[object]]:
    """The condition on the index's columns, marks and words apart. `sources`: what each name that is shown stands for."""
    named = None if filters.source is None else list(sources.get(filters.source, ()))
    conditions: list[tuple[str, object]] = [
        ("round = ?", filters.round),
        ("cause = ?", filters.cause),
        ("source IN (SELECT unnest(?::VARCHAR[]))", named),
        ("chosen_slot = ?", filters.chosen),
        ("rejected_slot = ?", filters.rejected),
        ("margin >= ?", filters.least),
        ("margin <= ?", filters.most),
        ("disagreement >= ? - 1e-9", filters.disagreement),
    ]
    if filters.rule == NO_RULE:
        conditions.append(("loop_rule IS NULL AND ?", True))
    else:
        conditions.append(("loop_rule = ?", filters.rule))
    held = [(sql, value) for sql, value in conditions if value is not None]
    return " AND ".join([sql for sql, _ in held] or ["true"]), [value for _, value in held]
