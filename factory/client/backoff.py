"""How long to wait before another try, where the server does not say. Pure.

The rule: full jitter (Brooker, "Exponential Backoff and Jitter", AWS 2015), so that those who failed together do not come back
together.
"""

from random import Random

LONGEST_WAIT = 60.0  # seconds between two tries
SHORTEST_WAIT = 0.5
_DOUBLINGS = 16  # far beyond the longest wait; two to the power of a thousand is no number


def full_jitter(jitter: Random, tries: int) -> float:
    """Seconds, after so many tries in vain."""
    return jitter.uniform(0, min(LONGEST_WAIT, SHORTEST_WAIT * 2 ** min(tries, _DOUBLINGS)))
