"""The parts of a run that are in its store and not here, as a file system that DuckDB reads from.

The rule that must not break: it only reads, and knows no more than the index does. So a question lists nothing and asks for no
object's size: each request brings bytes that the question wants.
"""

from datetime import UTC, datetime
from pathlib import Path

from fsspec import AbstractFileSystem
from fsspec.spec import AbstractBufferedFile

from factory.objects.bucket import Objects
from factory.objects.holding import away
from factory.objects.place import url_of

AHEAD = 2**16  # bytes that are read beyond what was asked: a footer's end and the footer are one request


class StoredParts(AbstractFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """By whole URLs. fsspec's names."""

    cachable = False

    def __init__(self, url: str, sizes: dict[str, int]) -> None:
        super().__init__()
        self.protocol = url.partition("://")[0]
        self._objects, self._sizes = Objects(url), {f"{url}/{path}": size for path, size in sizes.items()}
        self._from = len(url) + 1

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path

    def info(self, path: str, **_: object) -> dict[str, object]:
        if path not in self._sizes:
            raise FileNotFoundError(path)
        return {"name": path, "size": self._sizes[path], "type": "file"}

    def glob(self, path: str, **_: object) -> list[str]:
        return [path] if path in self._sizes else []

    def modified(self, path: str) -> datetime:
        """Always the same: within a question nothing changes."""
        return datetime.fromtimestamp(0, UTC)

    def _open(self, path: str, mode: str = "rb", **_: object) -> "_StoredPart":
        return _StoredPart(self, path, mode, block_size=AHEAD, cache_type="readahead", size=self._sizes[path])

    def read_range(self, path: str, start: int, end: int) -> bytes:
        return self._objects.read(path[self._from :], end, start)


class _StoredPart(AbstractBufferedFile):  # type: ignore[misc]  # as above
    fs: StoredParts

    def _fetch_range(self, start: int, end: int) -> bytes:
        return self.fs.read_range(self.path, start, end)


def stored_parts(root: Path) -> StoredParts | None:
    """None: all that there is of the run is here."""
    url, sizes = url_of(root), away(root)
    return StoredParts(url, dict(sizes)) if url is not None and sizes else None
