"""Where this machine keeps its copy of a run that lies in an object store.

    <cache>/copies/<digest of the URL>/store.url  index.sqlite    beside the copy, never in it
    <cache>/copies/<digest of the URL>/<name>/                    the copy: a run folder like any other

The rule that must not break: the store is the run, and the copy is what this machine knows of it. A copy may be taken away
whole at any time when nobody works on it: what the store has comes back.
"""

import hashlib
import re
from pathlib import Path

import platformdirs

from schemas.recipe import STORE_URL

_NOTE = "store.url"


def is_url(text: str) -> bool:
    return "://" in text


def is_store(url: str) -> bool:
    """Whether it names a place in a store of a kind that is known."""
    return re.fullmatch(STORE_URL, url) is not None


def copies_folder() -> Path:
    """In the user's cache folder, which XDG_CACHE_HOME moves."""
    return Path(platformdirs.user_cache_dir("prefactory")) / "copies"


def copy_of(url: str) -> Path:
    """The root of this machine's copy, which may be empty."""
    url = url.rstrip("/")
    folder = copies_folder() / hashlib.sha256(url.encode()).hexdigest()[:16]
    if not (folder / _NOTE).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _NOTE).write_text(url, encoding="utf-8")
    return folder / url.rpartition("/")[2]


def url_of(root: Path) -> str | None:
    """Of a copy; None: the folder is a run of its own."""
    try:
        return (root.parent / _NOTE).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None


def in_urls(text: str) -> str:
    """A line for a person, in which copies are called by what they are copies of."""
    known = re.escape(f"{copies_folder()}/")
    return re.sub(f"{known}([0-9a-f]{{16}})/[^/\\s:,;`'\"()]+", _as_url, text)


def _as_url(match: re.Match[str]) -> str:
    return url_of(Path(match[0])) or match[0]
