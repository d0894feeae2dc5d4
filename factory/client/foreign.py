"""What strangers write, read so that nothing but ValueError comes of it. Pure; no I/O."""

import json


def read_json(text: bytes | str) -> object:
    """Any JSON document. Raises ValueError where it is none, or nests deeper than can be read."""
    try:
        found: object = json.loads(text)
    except RecursionError as error:
        raise ValueError("it nests too deep") from error
    return found
