"""Names and folders of files that appear whole or not at all.

The rule that must not break: what is unfinished is known by its name alone, so that whoever finds it after a kill may throw it
away unread.
"""

import itertools
import os
import re
import secrets
from pathlib import Path

import psutil


def temporary_of(path: Path) -> Path:
    """Where a file or folder is put together that is to become `path`: beside it, and known as unfinished by its name."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def spill_of(folder: Path) -> Path:
    """Where in a folder one connection may put what does not fit into memory: nobody's as soon as its process is gone."""
    return temporary_of(folder / f"spill-{_PROCESS}-{next(_spills)}")


def is_spilling(name: str) -> bool:
    """Whether it is the spill of a process that lives: who only looks at a folder holds no lock of it."""
    found = _SPILL.fullmatch(name)
    if found is None:
        return False
    return found[1] == _PROCESS or (int(found[2]) != os.getpid() and psutil.pid_exists(int(found[2])))


def is_temporary(name: str) -> bool:
    """Whether a file or folder of that name is unfinished, or belongs to one (a write-ahead log of DuckDB)."""
    return _TEMPORARY.fullmatch(name) is not None


_PROCESS = secrets.token_hex(4)  # another process may have this one's number by now
_SPILL = re.compile(r"\.spill-([0-9a-f]+)-\d+\.(\d+)\.tmp")
_spills = itertools.count()
_TEMPORARY = re.compile(r"\..+\.\d+\.tmp(\.wal|\.tmp)?")


def make_folder(folder: Path) -> None:
    """With all above it, and so that they outlive a power cut. Raises OSError."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def sync(path: Path) -> None:
    """Until what is there is on the disk, and of a folder the names in it. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
