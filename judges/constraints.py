"""The verifier of instructions on form: does the answer keep what the prompt's `constraints` column says?

It knows the kinds of IFEval and IFBench by their ids, and reads strictly: every one of them must hold, on the text as it
stands. A constraint that cannot be told (the language of three words) neither passes nor fails.
"""

from judges.base import check_result, no_score
from judges.instructions.kinds import KINDS, holds, objection_to
from schemas.rows import Prompt, Rollout, Verdict, VerdictStatus

name = "constraints"
proves = True

OTHERS = frozenset({"json:schema"})  # ids that other verifiers look after


def objection(prompt: Prompt) -> str | None:
    for number, constraint in enumerate(prompt.constraints):
        if constraint.id not in OTHERS and (found := objection_to(constraint)):
            return f"constraints.{number}.{found}"
    return None


def applies(prompt: Prompt, rollout: Rollout) -> bool:
    return any(constraint.id in KINDS for constraint in prompt.constraints)


def check(prompt: Prompt, rollout: Rollout) -> Verdict:
    """Names every constraint that is broken. Abstains where none can be told."""
    asked = [constraint for constraint in prompt.constraints if constraint.id in KINDS]
    found = {constraint: holds(constraint, prompt, rollout.text or "") for constraint in asked}
    broken = [constraint.id for constraint, kept in found.items() if kept is False]
    if not broken and True not in found.values():
        return no_score(rollout, name, VerdictStatus.ABSTAINED, "cannot be told")
    return check_result(rollout, name, float(not broken), f"broken: {', '.join(broken)}" if broken else "all kept")
