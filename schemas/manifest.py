"""What the run folder says of itself: one record for each finished part, one identity for the run.

A record is written after its part and never before: where there is no record, there is no part, whatever lies there.
"""

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from schemas.tables import Table


class Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class PartFile(Document):
    """A Parquet file that a stage read or wrote; `path` is relative to the run folder."""

    path: str
    sha256: str
    rows: int


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

    def output(self, table: Table) -> PartFile:
        """The part of `table` that this stage wrote. Raises KeyError where it wrote none."""
        for part in self.outputs:
            if f"/{table.value}/" in f"/{part.path}":
                return part
        raise KeyError(table)


class Spent(Document):
    """What a run has cost so far, over all processes that worked on it."""

    requests: int = 0  # HTTP attempts for answers
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0  # at work

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class Provenance(Document):
    """What decides the data, beside the recipe itself."""

    models: dict[str, str]  # model name -> digest of the weights
    rubrics: dict[str, str]  # judge name -> digest of its rubric and question
    sources: dict[str, str]  # source name -> digest of its content
    detector: str
    weights: str | None = None  # digest of the judges' weights, where the recipe names some


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
