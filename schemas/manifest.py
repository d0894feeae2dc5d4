"""What the run folder says of itself: one record for each finished part, one identity for the run.

A record is written after its part and never before: where there is no record, there is no part, whatever lies there.
"""

import hashlib
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from schemas.price import Price
from schemas.tables import Table


class Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


UNCOUNTED = "uncounted"  # note of a record that was written anew over its parts: what they cost is not known
UNASKED = "unasked"  # note of a record: so many of its questions could not be asked then, and still may be


class PartFile(Document):
    """A file that a stage read or wrote; `path` is relative to the run folder.

    Where a stage is made from another's record, the checksum is the record's `digest`.
    """

    path: str
    sha256: str
    rows: int
    size: int  # in bytes: a part that was cut is seen without reading it


class StageRecord(Document):
    """That a stage has finished one shard, from what, into what, and with which versions."""

    stage: str
    shard: int
    fingerprint: str  # of everything that decides these rows
    inputs: list[PartFile]
    outputs: list[PartFile]
    started: datetime
    ended: datetime
    requests: int  # sent to an engine for this shard, by the process that finished it
    notes: dict[str, float | str]  # figures that a person asks for later
    versions: dict[str, str]

    @property
    def digest(self) -> str:
        """Of what the stage found, not of when or by which versions: a record that is made again counts as the same."""
        found = self.model_dump_json(include={"stage", "shard", "fingerprint", "outputs", "notes"})
        return hashlib.sha256(found.encode()).hexdigest()

    def sealed(self) -> str:
        """As it lies in the folder: JSON whose last field is a checksum of all before it."""
        return _sealed(self.model_dump_json(indent=1).removesuffix("\n}"))

    @classmethod
    def unsealed(cls, raw: bytes) -> "StageRecord":
        """Raises ValueError where it is not, byte for byte, what was written."""
        content = raw.decode().rpartition(_SEAL)[0]
        if raw.decode() != _sealed(content):
            raise ValueError("not what was written")
        return cls.model_validate_json(f"{content}\n}}")

    @property
    def closed(self) -> bool:
        """Nothing of the shard is left to be asked."""
        return not self.notes.get(UNASKED)

    def output(self, table: Table) -> PartFile:
        """The part of `table` that this stage wrote. Raises KeyError where it wrote none."""
        for part in self.outputs:
            if f"/{table.value}/" in f"/{part.path}":
                return part
        raise KeyError(table)


_SEAL = ',\n "checksum": "'


def _sealed(content: str) -> str:
    return f'{content}{_SEAL}{hashlib.sha256(content.encode()).hexdigest()}"\n}}'


class Spent(Document):
    """What a run has cost so far, over all processes that worked on it."""

    requests: int = 0  # HTTP attempts for answers
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0  # at work
    money: float = 0.0  # of the models that had a price

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def plus(self, other: "Spent") -> "Spent":
        return Spent(
            requests=self.requests + other.requests,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            seconds=self.seconds + other.seconds,
            money=self.money + other.money,
        )


class ServerNow(Document):
    """One server, as the process at work sees it."""

    url: str
    state: str
    in_flight: int
    places: int  # the most that may be in flight now


class Live(Document):
    """What the process at work says every few seconds. Older than that: nobody is at work."""

    at: float  # seconds since 1970
    servers: list[ServerNow]


class Provenance(Document):
    """What decides the data, beside the recipe itself."""

    models: dict[str, str]  # role (`policy`, or a seat that has a model of its own) -> digest of the weights
    rubrics: dict[str, str]  # judge name -> digest of its rubric and question
    sources: dict[str, str]  # source name -> digest of its content
    detector: str
    weights: str | None = None  # digest of the judges' weights, where the recipe names some
    marks: str | None = None  # digest of what people say of the pairs, where the recipe heeds it


class RunManifest(Document):
    """The roll-up at the top of a run folder."""

    name: str
    created: datetime
    updated: datetime
    identity: dict[str, str]  # dotted field -> canonical JSON value; compared field by field with a new recipe
    provenance: Provenance
    prompts: int
    shards: int
    pairs: int
    dropped: dict[str, int]
    seconds: dict[str, float]  # phase -> wall time, summed over the processes that worked on this run
    prices: dict[str, Price] = {}  # of `policy` and of each judge that has one
