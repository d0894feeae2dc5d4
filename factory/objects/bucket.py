"""The objects of one run in its store, through fsspec: S3 and what speaks like it, Google Cloud Storage.

The rule that must not break: an object is put in one request, or not at all, and `create` is the only way to put one where two
may want to. Credentials, endpoints and retries are the libraries' own, found where these look.
"""

import asyncio
import hashlib
import re
from base64 import b64decode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from pathlib import Path

import fsspec

from schemas.errors import Fixable, StorageError, StoreUnavailable

WHOLE = 64 * 2**20  # bytes that are read into memory to be put; larger files go up in pieces


@dataclass(frozen=True, slots=True)
class Kind:
    """What differs between the stores."""

    package: str
    extra: str
    errors: tuple[tuple[str, str], ...]  # module and class
    settings: tuple[tuple[str, str], ...] = ()


KINDS = {
    "s3": Kind(
        "s3fs",
        "s3",
        (("botocore.exceptions", "BotoCoreError"), ("botocore.exceptions", "ClientError")),
        (("default_cache_type", "none"),),
    ),
    "gs": Kind("gcsfs", "gcs", (("gcsfs.retry", "HttpError"), ("google.auth.exceptions", "GoogleAuthError"))),
}
_NO_WAY_IN = (
    "NoCredentialsError",
    "PartialCredentialsError",
    "DefaultCredentialsError",
    "ProfileNotFound",
    "RefreshError",
)


@dataclass(frozen=True, slots=True)
class Item:
    """An object as a listing has it. `version`: another for other content."""

    version: str
    md5: str | None
    size: int
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Put:
    """What was put. `version` None: the store did not say."""

    version: str | None
    md5: str | None
    size: int


class NotThere(StorageError):
    """No such bucket, or no such object."""


class Objects:
    """By their path below the run's URL. Every method raises StorageError, StoreUnavailable."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._kind = KINDS[url.partition("://")[0]]
        self._base = url.partition("://")[2]
        try:
            self._errors = _types(self._kind)
            with self._told():
                self._files = fsspec.filesystem(
                    url.partition("://")[0], use_listings_cache=False, **dict(self._kind.settings)
                )
        except ImportError as error:
            raise Fixable(
                f"{url}: needs the package {self._kind.package}: install prefactory with its extra `{self._kind.extra}`"
            ) from error

    def list(self, below: str = "") -> dict[str, Item]:
        """All of them, or those below a path."""
        prefix = f"{self._base}/{below}".rstrip("/")
        with self._told():
            found = self._files.find(prefix, detail=True)
        return {
            name[len(self._base) + 1 :]: _item(info)
            for name, info in found.items()
            if info["type"] == "file" and name.startswith(f"{self._base}/") and not name.endswith("/")
        }

    def read(self, path: str, end: int, start: int = 0) -> bytes:
        """A range of bytes; whole, where `end` is its size. With that said nothing has to ask for it."""
        if start >= end:
            return b""
        with self._told():
            return bytes(self._files.cat_file(self._key(path), start=start, end=end))

    def fetch(self, path: str, size: int, target: Path) -> None:
        """Into a file. Raises OSError where that cannot be written."""
        if size <= WHOLE:
            target.write_bytes(self.read(path, size))
            return
        with self._told():
            self._files.get_file(self._key(path), str(target))

    def put(self, path: str, source: Path) -> Put:
        """A file. Raises FileNotFoundError where it is gone by now."""
        size = source.stat().st_size
        if size <= WHOLE:
            return self.write(path, source.read_bytes())
        with self._told():
            self._files.put_file(str(source), self._key(path))
            item = _item(self._files.info(self._key(path)))
        return Put(item.version, item.md5, item.size)

    def write(self, path: str, content: bytes) -> Put:
        with self._told():
            said = self._files.pipe_file(self._key(path), content)
        version = said.get("ETag") if isinstance(said, dict) else None
        return Put(version, hashlib.md5(content, usedforsecurity=False).hexdigest(), len(content))

    def create(self, path: str, content: bytes) -> bool:
        """Put an object that is not there. False: it is, by now."""
        with self._told():
            try:
                self._files.pipe_file(self._key(path), content, mode="create")
            except FileExistsError:
                return False
        return True

    def delete(self, paths: Iterable[str]) -> None:
        """What is gone already is no error."""
        if keys := [self._key(path) for path in paths]:
            with self._told():
                self._files.rm(keys)

    def _key(self, path: str) -> str:
        return f"{self._base}/{path}"

    @contextmanager
    def _told(self) -> Iterator[None]:
        """The libraries' errors as ours, each with its mend."""
        try:
            yield
        except PermissionError as error:
            raise StorageError(
                f"{self.url}: refused ({_line(error)}); give these credentials the right to it"
            ) from error
        except FileNotFoundError as error:
            raise NotThere(f"{self.url}: {_line(error)}; name a bucket that is there") from error
        except self._errors as error:
            if type(error).__name__ in _NO_WAY_IN:
                raise StorageError(
                    f"{self.url}: no credentials ({_line(error)}); set them where {self._kind.package} looks for them"
                ) from error
            raise StoreUnavailable(
                f"{self.url}: the store cannot be reached, or is out of order ({_line(error)}); try again later"
            ) from error


def _types(kind: Kind) -> tuple[type[Exception], ...]:
    """What a library raises. Raises ImportError where it is not installed."""
    import_module(kind.package)
    errors = (*kind.errors, ("aiohttp", "ClientError"))  # nobody else waits for these modules
    return (*(getattr(import_module(module), name) for module, name in errors), OSError, asyncio.TimeoutError)


def _item(info: dict[str, object]) -> Item:
    version = str(info.get("ETag") or info.get("generation") or info.get("etag"))
    plain = b64decode(str(info.get("md5Hash", ""))).hex() or version.strip('"')
    md5 = (
        plain if re.fullmatch("[0-9a-f]{32}", plain) else None
    )  # of an object that was put in pieces it is something else
    at = info.get("LastModified") or info.get("mtime")
    return Item(version, md5, int(str(info["size"])), at if isinstance(at, datetime) else None)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
