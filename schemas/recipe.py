"""The configuration: what decides the data (Recipe) and what only says how it runs (Machine).

The rule that must not break: a field that can change a row belongs outside `machine`, because everything outside
`machine` (but for addresses and keys) is the run's identity, and nothing inside it is.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from schemas.engine_arguments import refusal
from schemas.evaluation import Evaluation
from schemas.export import Export
from schemas.grpo import Grpo
from schemas.marks import MarksUse
from schemas.price import Price
from schemas.schedule import Schedule
from schemas.section import Section
from schemas.semi_online import SemiOnline
from schemas.train import Train

Aggregation = Literal["scaled", "mean", "median", "borda", "copeland", "bradley_terry", "gold_log_odds"]
POLICY = "policy"  # the role of the model that answers; each judge's is the name of its seat
SeatName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]
STORE_URL = (
    r"^(s3|gs)://[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._=+@~-]+)*/?$"  # no sign that stores or globs read otherwise
)
StoreUrl = Annotated[str, StringConstraints(pattern=STORE_URL)]
RunName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


def _http_address(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("must start with http:// or https://, for example http://127.0.0.1:8000/v1")
    return value.rstrip("/")


Address = Annotated[str, AfterValidator(_http_address)]


def _harmless(arguments: list[str]) -> list[str]:
    if problem := refusal(arguments):
        raise ValueError(problem)
    return arguments


EngineArguments = Annotated[list[str], AfterValidator(_harmless)]


class Source(Section):
    """Where prompts come from: exactly one of `path` (JSONL, Parquet, or a saved dataset folder) and `dataset`."""

    path: Path | None = None
    dataset: str | None = None  # a Hugging Face dataset's name
    config: str | None = None  # of a dataset that has several
    revision: str | None = None  # of a dataset: a commit or tag, so that it cannot change under the run
    split: str = "train"
    weight: float = Field(default=1.0, gt=0)
    prompt_column: str = "prompt"
    messages_column: str = "messages"

    @model_validator(mode="after")
    def _one_place(self) -> "Source":
        if (self.path is None) == (self.dataset is None):
            raise ValueError("a source names exactly one of `path` and `dataset`")
        return self


class NearDuplicates(Section):
    """MinHash over word n-grams: of prompts at or above `threshold` estimated Jaccard, the first is kept."""

    threshold: float = Field(default=0.8, gt=0, le=1)
    ngram: int = Field(default=3, ge=1)
    permutations: int = Field(default=128, ge=16, le=1024)


class Decontaminate(Section):
    """Drop prompts that share one word n-gram with a prompt of the named files (evaluation sets)."""

    paths: list[Path] = Field(min_length=1)
    ngram: int = Field(default=13, ge=3)


class Prompts(Section):
    sources: list[Source] = Field(min_length=1)
    sample: int | None = Field(default=None, ge=1)  # how many prompts a round; None: every one
    # A round takes what no earlier one took. Where a source has nothing left: stop, or take again what was taken least.
    used_up: Literal["stop", "start_over"] = "stop"
    near_duplicates: NearDuplicates | None = None
    decontaminate: Decontaminate | None = None


class ModelRef(Section):
    """A model, and the servers that run it already, if any. Without `urls` the factory starts one."""

    model: str = Field(min_length=1)  # the shipped default's name, a folder, or a Hugging Face id
    revision: str | None = None
    trust_remote_code: bool = False
    urls: list[Address] = Field(default=[])
    api_key_env: str | None = None  # the NAME of the environment variable that holds the key


class Decoding(Section):
    """How one slot decodes. What a slot leaves out comes from `rollouts.sampling`."""

    temperature: float | None = Field(default=None, ge=0, le=5)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=5)


class Repetition(Section):
    """vLLM's `repetition_detection`. Its cost grows with the pattern size at every token: keep that at 64 or less."""

    max_pattern_size: int = Field(default=64, ge=1, le=512)
    min_pattern_size: int = Field(default=1, ge=1)
    min_count: int = Field(default=6, ge=2)


class Rollouts(Section):
    max_tokens: int = Field(default=512, ge=1)
    sampling: Decoding = Decoding(temperature=0.7)
    greedy: Decoding | None = Decoding()  # temperature 0 always; null: no greedy slot
    slots: list[Decoding] = Field(default=[Decoding()] * 5, max_length=64)
    stop: list[str] = Field(default=[])
    repetition_detection: Repetition | None = Repetition()

    @model_validator(mode="after")
    def _slots_make_sense(self) -> "Rollouts":
        if len(self.slots) + (self.greedy is not None) < 2:
            raise ValueError("a pair needs at least two rollouts: add to `slots`, or keep `greedy`")
        if self.greedy is not None and self.greedy.temperature not in (None, 0):
            raise ValueError("the greedy slot has temperature 0; a warmer one belongs into `slots`")
        return self


class JudgeRef(Section):
    """One seat of the jury: the name of a file in `judges/`, the model that answers, and how it is asked."""

    judge: str
    name: SeatName | None = None  # in the tables; None: the judge's. Two seats may have one judge and two models
    model: ModelRef | None = None  # None: the policy's
    rubric: Path | None = None  # a text file in the place of the judge's own rubric
    protocol: Literal["pointwise", "listwise"] = "pointwise"
    samples: int = Field(default=1, ge=1, le=64)  # grades to average, for servers without log-probabilities
    thinking_tokens: int | None = Field(
        default=None, ge=16
    )  # of a judge that thinks before it grades; None: it does not

    @property
    def seat(self) -> str:
        return self.name or self.judge


class Cascade(Section):
    """The first judges hear every prompt that opinion can settle; the others only those that the first leave open."""

    first: int = Field(default=1, ge=1)
    margin: float = Field(default=0.75, ge=0)  # in pooled within-prompt SDs; see factory/judging/cascade.py


class Trust(Section):
    """What a run spends on watching its own jury: shares of the prompts."""

    canaries: float = Field(default=0.02, ge=0, le=1)  # prompts with planted answers that must lose
    reasked: float = Field(default=0.02, ge=0, le=1)  # prompts whose judgements are asked for once more


class Jury(Section):
    judges: list[JudgeRef] = Field(min_length=1)
    verifiers: list[str] = Field(default=[])
    quorum: int | None = Field(default=None, ge=1)  # None: max(2, ceil(2J/3)), and 1 for a jury of one
    cascade: Cascade | None = None
    confirm: bool = False  # ask about the final pair in both orders; a winner that flips with the order is a tie
    trust: Trust = Trust()

    @property
    def seats(self) -> tuple[str, ...]:
        """The judges' names as the tables have them, in the recipe's order."""
        return tuple(judge.seat for judge in self.judges)

    @model_validator(mode="after")
    def _each_once(self) -> "Jury":
        names = [*self.seats, *self.verifiers]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"named twice: {', '.join(twice)}")
        if POLICY in self.seats:
            raise ValueError(f"{POLICY} is the role of the model that answers; give that judge another `name`")
        if self.quorum is not None and self.quorum > len(self.judges):
            raise ValueError(f"quorum {self.quorum} can never be met by {len(self.judges)} judges")
        if self.cascade is not None and self.cascade.first >= len(self.judges):
            raise ValueError(f"cascade.first {self.cascade.first} leaves none of {len(self.judges)} judges for later")
        return self


class Pairing(Section):
    margin: float = Field(default=0.2, ge=0)  # smallest S[chosen] - S[rejected], in pooled within-prompt SDs
    agreement: float = Field(default=2 / 3, ge=0, le=1)  # share of the judges that must prefer the chosen one
    floor: float | None = Field(default=None, ge=1, le=9)  # smallest mean raw score of a chosen answer
    allow_unfinished: bool = False
    keep_periods: int = Field(default=2, ge=1)  # how many copies of a loop's unit the rejected side keeps
    aggregation: Aggregation = "scaled"
    weights: Path | None = None  # of the judges, as `prefactory judges calibrate` writes them; None: all alike
    rejected: Literal["worst", "hard_negative"] = "worst"  # or the best one that is clearly worse than the chosen
    loop_share: float | None = Field(default=None, gt=0, le=1)  # largest share of the pairs that a loop may make
    # What people say of the pairs (`prefactory mark`). `exclude` drops what they call flipped or both bad; `flip` exchanges the
    # sides of a flipped pair where its other answer may be chosen, and drops the rest.
    marks: MarksUse = MarksUse.UNUSED


class Budget(Section):
    """What a run may cost, over all its starts. Where a limit is reached it stops clean, and a higher one goes on.

    Like `machine`, it is no part of the run's identity.
    """

    max_requests: int | None = Field(default=None, ge=0)  # sent for answers, each try counted
    max_tokens_total: int | None = Field(default=None, ge=0)  # read and written, as the servers count them
    max_hours: float | None = Field(default=None, ge=0)  # at work; the time between two starts is not counted
    max_cost: float | None = Field(
        default=None, ge=0
    )  # in the currency of `prices`; models without a price cost nothing here
    prices: dict[str, Price] = Field(default={})  # by the name that `policy.model` or a judge's `model.model` has

    @model_validator(mode="after")
    def _cost_has_prices(self) -> "Budget":
        if self.max_cost is not None and not self.prices:
            raise ValueError("max_cost wants prices, for example {my-model: {prompt: 0.15, completion: 0.6}}")
        return self


class Cluster(Section):
    """A Ray cluster whose nodes work on the shards. Every node sees the run folder, and has this environment."""

    address: str = Field(default="auto", min_length=1)  # HOST:PORT; auto: the one that this machine belongs to
    cpus: float = Field(default=1, gt=0)  # of a node, for each worker: one shard at a time is worked on by it
    gpus: float = Field(default=0, ge=0)  # likewise, where a worker starts the server of a model without `urls`


class Machine(Section):
    """How it runs, never what comes out. No field here is part of the run's identity."""

    runs: StoreUrl | Path = Path("runs")  # or an object store's s3://BUCKET/PREFIX, gs://BUCKET/PREFIX
    cluster: Cluster | None = None  # None: this machine alone
    shard_size: int = Field(default=256, ge=1)
    shards_in_flight: int = Field(default=2, ge=1)  # that still have something to send, for each stage
    judging: Literal["overlapped", "after"] = (
        "overlapped"  # with the rollouts where servers allow it, or after the last
    )
    # The most requests in flight for each server: the ceiling of its window, which a vLLM server's own figures, or what
    # other servers turn away and the pace at which they answer, make smaller (factory/client/window.py).
    concurrency: int = Field(default=64, ge=1)
    request_timeout: float = Field(default=600, gt=0)  # seconds, the whole answer
    connect_timeout: float = Field(default=10, gt=0)  # seconds until a connection stands
    # Seconds of silence, before the first byte of an answer or after; None: as long as the whole may take, since a server
    # sends an answer that is not streamed when it is done.
    first_byte_timeout: float | None = Field(default=None, gt=0)
    start_timeout: float = Field(default=900, gt=0)  # seconds until a local server must be up
    port: int | None = Field(default=None, ge=1024, le=65535)  # None: a free one
    max_model_len: int = Field(default=2048, ge=64)
    max_num_seqs: int = Field(default=64, ge=1)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    threads: int | None = Field(default=None, ge=1)  # CPU only; None: every core
    kv_cache_gib: int = Field(default=2, ge=1)  # CPU only
    engine_args: EngineArguments = Field(default=[])  # passed on to vLLM as they are

    @model_validator(mode="after")
    def _nodes_see_the_runs(self) -> "Machine":
        if self.cluster is not None and isinstance(self.runs, str):
            raise ValueError("machine.cluster: its nodes work in one folder; write one that all see as machine.runs")
        return self


class Recipe(Section):
    name: RunName
    seed: int = Field(default=0, ge=0, lt=2**32)
    prompts: Prompts
    policy: ModelRef
    rollouts: Rollouts = Rollouts()
    jury: Jury
    pairing: Pairing = Pairing()
    export: Export = Export()
    train: Train = Train()
    evaluation: Evaluation = Evaluation()
    grpo: Grpo = Grpo()
    semi_online: SemiOnline | None = None
    schedule: Schedule = Schedule()
    budget: Budget = Budget()
    machine: Machine = Machine()

    @model_validator(mode="after")
    def _answers_fit(self) -> "Recipe":
        if not self.policy.urls and self.rollouts.max_tokens >= self.machine.max_model_len:
            raise ValueError(
                f"rollouts.max_tokens {self.rollouts.max_tokens} leaves no room for a prompt in machine.max_model_len "
                f"{self.machine.max_model_len}; lower the one, or raise the other"
            )
        return self
