"""What a server says that a request took. Pure; no I/O."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

MOST_TOKENS = 2**31  # of one request


def _believable(count: object) -> object:
    """What no request can take counts as not said: a budget that was told nonsense would stop a run, or never."""
    if isinstance(count, int) or (isinstance(count, float) and count.is_integer()):
        return count if 0 <= count < MOST_TOKENS else None
    return None


_Count = Annotated[int | None, BeforeValidator(_believable)]


class _Told(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Cached(_Told):
    cached_tokens: _Count = None


class Usage(_Told):
    prompt_tokens: _Count = None
    completion_tokens: _Count = None
    prompt_tokens_details: _Cached | None = None
