"""What a process that trains sees of the environment, whichever training it is.

The rule that must not break: no key reaches it, and nothing in it looks anything up on the network.
"""

import os
from collections.abc import Collection

from factory.keys import keyless


def training_environment(device: str, threads: int | None, withheld: Collection[str]) -> dict[str, str]:
    """`device`: `cpu` hides every GPU. `threads`: None leaves that to torch. `withheld`: variables that it must not see."""
    env = keyless(os.environ, withheld) | {
        "HF_HUB_OFFLINE": "1",  # the weights are here already
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if threads is not None:
        env["OMP_NUM_THREADS"] = str(threads)
    if device == "cpu":
        env["CUDA_VISIBLE_DEVICES"] = ""
    return env
