"""What judges are worth against gold: pairs whose better answer is known, and the weights that follow from them.

    a[j] = (c + 3) / (n + 4)                 c of n gold pairs right; the prior is three in four
    w[j] = clip(log(a / (1 - a)), 0, 3)      log-odds: naive Bayes over judges that err independently

A judge whose Wilson lower bound is at or under one half is not heard: its weight is 0. The rule that must not break: a
pair that a judge leaves open counts as half right, and one that it gave no verdict on does not count.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from factory.judging.aggregation import sign
from factory.wilson import wilson
from schemas.errors import RecipeError

MOST = 3.0  # the largest weight: no judge outvotes everybody


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Of one judge against gold: `right` counts a tie as one half."""

    right: float
    pairs: int

    @property
    def rate(self) -> float:
        return self.right / self.pairs if self.pairs else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95% interval, of the right ones rounded down."""
        return wilson(math.floor(self.right), self.pairs)

    @property
    def weight(self) -> float:
        """0 where the judge cannot be told from a coin."""
        if self.interval[0] <= 0.5:
            return 0.0
        return log_odds_weight(self.right, self.pairs)


def counted(leads: Iterable[float]) -> Accuracy:
    """From how far a judge scores the better answer of each pair above the other one."""
    signs = [sign(lead) for lead in leads]
    return Accuracy(sum((one + 1) / 2 for one in signs), len(signs))


def log_odds_weight(right: float, pairs: int) -> float:
    """w of the docstring above, without the bound that silences."""
    a = (right + 3) / (pairs + 4)
    return min(MOST, max(0.0, math.log(a / (1 - a))))


def weights_document(found: Mapping[str, Accuracy]) -> str:
    """The file that a recipe names as `pairing.weights`."""
    document = {
        "weights": {judge: round(one.weight, 4) for judge, one in found.items()},
        "accuracy": {
            judge: {"right": one.right, "pairs": one.pairs, "interval": [round(bound, 4) for bound in one.interval]}
            for judge, one in found.items()
        },
    }
    return json.dumps(document, indent=1) + "\n"


def read_weights(path: Path, seats: tuple[str, ...]) -> tuple[dict[str, float], str]:
    """The weights of a jury's seats, and the digest of the file. Raises RecipeError where it does not fit them."""
    at = f"pairing.weights: {path}"
    try:
        content = path.read_bytes()
        document = json.loads(content)
    except OSError as error:
        raise RecipeError(f"{at}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise RecipeError(f"{at}: is no JSON; `prefactory judges calibrate` writes such a file") from None
    weights = document.get("weights") if isinstance(document, dict) else None
    if not isinstance(weights, dict) or not all(_is_weight(value) for value in weights.values()):
        raise RecipeError(f'{at}: has no "weights" from judge to a number of 0 or more')
    missing = [seat for seat in seats if seat not in weights]
    if missing:
        raise RecipeError(
            f"{at}: has no weight for {', '.join(missing)}; it has {', '.join(sorted(weights)) or 'none'}"
        )
    if not any(weights[seat] > 0 for seat in seats):
        raise RecipeError(f"{at}: every judge of this jury weighs 0: none was better than a coin on gold")
    return {seat: float(weights[seat]) for seat in seats}, hashlib.sha256(content).hexdigest()


def _is_weight(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
