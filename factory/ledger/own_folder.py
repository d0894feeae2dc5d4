"""Whose a folder is, before a run writes into it.

The rule that must not break: a recipe may come from a stranger, and so may a run folder. A run makes a new folder or goes on
in a run, and what it writes never leaves that folder through a link. That the folder itself is a link is the user's own
doing, as is where `machine.runs` lies.
"""

from pathlib import Path

from schemas.errors import Fixable

LOCK = ".lock"
_INNER = (
    "round=*/*",
    "round=*/_journal/*",
    "logs/*",
    "export/*",
    "export/round-*/*",
    "report/*",
    "grpo/*",
    "train/*",
    "train/*/*",
    "train/*/*/*",
)
_MARKS = frozenset({LOCK, "manifest.json"})  # one of them lies in every run
_BEFORE = frozenset({"logs", "evaluation"})  # what a probe of the judges or an evaluation leaves before there is a run


def refuse_foreign(root: Path) -> None:
    """Raises Fixable where the folder holds something that is no run, or a link that would be written through.

    A part or a record that is a link is none: those are replaced, never written into.
    """
    entries = list(root.iterdir()) if root.is_dir() else []
    names = {entry.name for entry in entries}
    if names - _BEFORE and not names & _MARKS:
        raise Fixable(f"{root}: holds something that is no run; give the recipe another `name`")
    inner = (path for pattern in _INNER for path in root.glob(pattern))
    for path in (*entries, *inner):
        if path.is_symlink():
            raise Fixable(f"{path}: a link, through which this run would write elsewhere; take it away")
