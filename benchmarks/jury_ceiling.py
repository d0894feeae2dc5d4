"""The most that weighted votes can come to: the weights of 0 or more that are right most often, found with the labels in hand.

A mixed-integer programme over the ways in which the judges split, solved to the end: weights w in [0, 1], and for each split
two switches, "the sum leans to this side" and "to the other". The rule that its reader must not break: this is no way to
weigh judges but a bound for all of them; it has seen every answer.
"""

from collections import Counter
from collections.abc import Iterable

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

_LEAST = 0.01  # a sum of weights in [0, 1] that is nearer to 0 counts as a tie: the solver needs a step
Votes = tuple[int, ...]  # of each judge: 1 for the better answer, -1 for the other, 0 for neither


def ceiling(votes: Iterable[Votes]) -> float:
    """The greatest share that any weights get right, ties half. ValueError where the solver does not get to the end."""
    splits, judges, halves = _splits(votes)
    if not splits:
        return 0.5
    names = list(splits)
    count, whole = len(names), sum(pro + con for pro, con in splits.values())
    gain = np.array([(pro - con) / 2 for pro, con in splits.values()])
    rows, bounds = [], []
    for number, split in enumerate(names):
        sums = np.array(split, dtype=float)
        lean, other = np.zeros(2 * count), np.zeros(2 * count)
        lean[number], other[count + number] = 1.0, 1.0
        for side, switch in ((sums, lean), (-sums, other)):
            rows.append(np.concatenate([side, -(judges + _LEAST) * switch]))  # switched on: the sum leans there
            rows.append(np.concatenate([side, judges * (lean + other)]))  # it leans somewhere: one is switched on
            bounds += [-float(judges), 0.0]
    cost = np.concatenate([np.zeros(judges), -gain, gain])
    integral = np.concatenate([np.zeros(judges), np.ones(2 * count)])
    found = milp(
        cost, constraints=LinearConstraint(np.array(rows), lb=bounds), integrality=integral, bounds=Bounds(0, 1)
    )
    if not found.success:
        raise ValueError(f"no ceiling: {found.message}")
    return float((halves + whole) / 2 - found.fun) / (halves + whole)


def _splits(votes: Iterable[Votes]) -> tuple[dict[Votes, tuple[int, int]], int, int]:
    """How often each split (the first vote in it is 1) was for the better answer, and against; judges; pairs without a vote."""
    seen, judges, none = Counter[Votes](), 0, 0
    for own in votes:
        judges = len(own)
        seen[own] += 1
    found: dict[Votes, tuple[int, int]] = {}
    for own, number in seen.items():
        first = next((vote for vote in own if vote), 0)
        key = own if first >= 0 else tuple(-vote for vote in own)
        pro, con = found.get(key, (0, 0))
        if first == 0:
            none += number
        else:
            found[key] = (pro + number, con) if first > 0 else (pro, con + number)
    return found, judges, none
