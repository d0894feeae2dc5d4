"""A lot for each prompt: how prompts are drawn from a run without knowing the others.

The rule that must not break: a lot depends on the prompt's id and the purpose alone, never on shards or on the order of
the work, and two purposes draw independently.
"""

import hashlib


def lot(prompt_id: str, purpose: str) -> float:
    """A number from 0 to 1, and 1 not in it, that is the prompt's own for this purpose."""
    return int.from_bytes(hashlib.sha256(f"{purpose}:{prompt_id}".encode()).digest()[:6]) / 2**48
