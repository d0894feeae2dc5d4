"""The interval of a proportion.

The rule that must not break: it holds for nothing tried as well, where it says nothing.
"""

from math import sqrt
from statistics import NormalDist

Z = NormalDist().inv_cdf(0.975)


def wilson(hits: float, trials: float) -> tuple[float, float]:
    """95% score interval (Wilson, JASA 22, 1927, p. 209); (0, 1) where nothing was tried.

    In closed form: scipy.stats takes a second and more to import.
    """
    if not trials:
        return 0.0, 1.0
    rate = hits / trials
    centre, around = rate + Z**2 / (2 * trials), Z * sqrt(rate * (1 - rate) / trials + Z**2 / (4 * trials**2))
    low, high = ((centre + side) / (1 + Z**2 / trials) for side in (-around, around))
    return (max(0.0, low) if hits else 0.0), (min(1.0, high) if hits < trials else 1.0)
