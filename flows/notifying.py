"""Tells a web address that a run failed, or that a gate held a checkpoint back.

The rule that must not break: the address is a secret. It comes from the environment, goes to nobody else, and is in no message.
"""

import httpx
from pydantic import BaseModel

TIMEOUT = 10.0  # seconds


class Notice(BaseModel):
    """What is posted, as JSON. `text` alone is what chat services show."""

    text: str
    run: str
    flow: str
    state: str
    why: str


def notice(run: str, flow: str, state: str, why: str) -> Notice:
    return Notice(text=f"prefactory: {flow} of {run}: {state}: {why}", run=run, flow=flow, state=state, why=why)


def notify(address: str, told: Notice, client: httpx.Client) -> str | None:
    """None where it was taken; else what went wrong, in a few words."""
    try:
        answer = client.post(address, json=told.model_dump(), timeout=TIMEOUT)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return f"the webhook was not told ({type(error).__name__})"
    return None if answer.is_success else f"the webhook was not told (it answered {answer.status_code})"
