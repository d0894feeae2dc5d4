"""The rows of the tables: what a prompt, a rollout, a verdict, a scorecard, a pair and a drop are.

Rows never change after they are made, refer to each other by id only, and say NULL where nothing is known: a failed
judgement has no score, never a made-up one. `schemas.tables` holds the Arrow form of each.
"""

from dataclasses import dataclass
from enum import StrEnum

from schemas.chat import Message


class Loop(StrEnum):
    CLEAN = "clean"
    SOFT = "soft"  # can never be chosen
    HARD = "hard"  # is forced to be rejected


class LoopRule(StrEnum):
    EXACT = "exact"
    TEMPLATE = "template"
    NEAR_DUPLICATE = "near-duplicate"
    FINISHED = "finished"
    INTERIOR = "interior"


class VerdictStatus(StrEnum):
    OK = "ok"
    UNREADABLE = "unreadable"  # the reply holds no verdict
    LOW_MASS = "low_mass"  # the digits hold too little of the probability to mean anything
    REFUSED = "refused"  # the judge declined to answer
    FILTERED = "filtered"  # a content filter stood in between
    TRUNCATED = "truncated"  # the reply ended before the verdict
    FAILED = "failed"  # no reply came, whatever was tried
    STOPPED = "stopped"  # the judge was stopped: too many of its replies were bad
    NOT_ASKED = "not_asked"  # the cascade had settled the prompt without this judge
    ABSTAINED = "abstained"  # a verifier with nothing to check
    SKIPPED_LOOP = "skipped_loop"  # hard loops are not judged
    SKIPPED_DUPLICATE = "skipped_duplicate"  # the same text was judged already


class Cause(StrEnum):
    LOOP = "loop"  # the rejected side is a hard loop
    VERIFIER = "verifier"  # a check, not an opinion, separates the two
    JURY = "jury"
    HUMAN = "human"  # a person's mark


class DropReason(StrEnum):
    PROMPT_TOO_LONG = "prompt_too_long"
    ENGINE_ERROR = "engine_error"  # too few rollouts came back to make a pair
    ALL_LOOPS = "all_loops"
    ALL_FAILED_CHECKS = "all_failed_checks"
    ALL_SAME = "all_same"  # one text, six times
    UNFINISHED = "unfinished"  # every answer that could be chosen ran into the cap
    NO_CHOSEN = "no_chosen"  # none may be chosen, for mixed reasons
    NO_QUORUM = "no_quorum"
    BELOW_MARGIN = "below_margin"
    BELOW_AGREEMENT = "below_agreement"
    BELOW_FLOOR = "below_floor"
    NOT_CONFIRMED = "not_confirmed"  # shown side by side in both orders, the chosen one does not win
    LOOP_SHARE = "loop_share"  # a loop would have made the pair, and loops made enough of them
    MARKED_FLIPPED = "marked_flipped"  # the rejected answer is the better one, as a person says
    MARKED_BOTH_BAD = "marked_both_bad"  # neither answer should be learned from, as a person says


@dataclass(frozen=True, slots=True)
class Constraint:
    """A check on the answer's form: an IFEval instruction id and its arguments as canonical JSON."""

    id: str
    kwargs: str


@dataclass(frozen=True, slots=True)
class Prompt:
    prompt_id: str
    source: str
    messages: tuple[Message, ...]
    tools: str | None = None  # JSON list of OpenAI tool declarations
    answer: str | None = None
    constraints: tuple[Constraint, ...] = ()
    language: str | None = None


@dataclass(frozen=True, slots=True)
class LoopEvidence:
    """What the detector saw. All but `kind` is None on a clean text. Offsets count characters of the whole answer.

    `unit` is what is repeated, as it stands in the answer; the tables leave it out, it is the `period` bytes before the
    onset.
    """

    kind: Loop = Loop.CLEAN
    rule: LoopRule | None = None
    onset: int | None = None
    onset_token: int | None = None
    period: int | None = None
    repeats: float | None = None
    share: float | None = None
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Rollout:
    rollout_id: str
    prompt_id: str
    slot: str
    temperature: float
    top_p: float
    min_p: float
    seed: int
    model: str
    model_digest: str
    text: str | None
    reasoning: str | None
    finish_reason: str | None
    prompt_token_ids: tuple[int, ...] | None
    token_ids: tuple[int, ...] | None
    loop: Loop | None = None
    loop_rule: LoopRule | None = None
    loop_onset: int | None = None
    loop_onset_token: int | None = None
    loop_period: int | None = None
    loop_repeats: float | None = None
    loop_share: float | None = None
    error: str | None = None

    @property
    def answer(self) -> str:
        """The whole answer as generated: reasoning with its tags, then the text. Loop offsets count in it."""
        return (self.reasoning or "") + (self.text or "")

    @property
    def finished(self) -> bool:
        """The answer ended by itself: not at the cap, not stopped by the engine, not by an error."""
        return self.error is None and self.finish_reason in ("stop", "tool_calls")


@dataclass(frozen=True, slots=True)
class Verdict:
    prompt_id: str
    rollout_id: str
    judge: str
    status: VerdictStatus
    score: float | None = None
    variance: float | None = None
    mass: float | None = None
    reply: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    calls: int = 0  # replies that this row stands for: one about several rollouts is counted at the first


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What one judge says of a final pair in one of the two orders."""

    prompt_id: str
    chosen_id: str
    rejected_id: str
    judge: str
    chosen_first: bool
    status: VerdictStatus
    preference: float | None = None  # probability that the judge puts on the chosen one; NULL unless ok
    mass: float | None = None
    reply: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class CanaryKind(StrEnum):
    LOOPED = "looped"
    EMPTY = "empty"
    TRUNCATED = "truncated"
    PADDED = "padded"
    OFF_PROMPT = "off_prompt"
    INJECTED = "injected"


@dataclass(frozen=True, slots=True)
class Canary:
    """A planted twin of a rollout, made worse on purpose, and what a judge said of both."""

    prompt_id: str
    rollout_id: str
    judge: str
    kind: CanaryKind
    status: VerdictStatus  # of the twin; ok only where both have a score
    original: float | None = None
    twin: float | None = None


@dataclass(frozen=True, slots=True)
class Reasked:
    """A judgement that was asked for twice."""

    prompt_id: str
    rollout_id: str
    judge: str
    status: VerdictStatus  # of the second; ok only where both have a score
    first: float | None = None
    second: float | None = None


@dataclass(frozen=True, slots=True)
class TrustFigure:
    """One figure about the jury of a run, of one judge or of all together."""

    figure: str
    judge: str | None = None
    value: float | None = None
    low: float | None = None  # of a 95% interval
    high: float | None = None
    n: int = 0  # what it was counted over


@dataclass(frozen=True, slots=True)
class Scorecard:
    prompt_id: str
    rollout_id: str
    tier: int
    score: float | None
    spread: float | None
    judges: int
    eligible: bool
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    prompt_id: str
    messages: tuple[Message, ...]
    chosen: str
    rejected: str
    chosen_id: str
    rejected_id: str
    chosen_score: float | None
    rejected_score: float | None
    margin: float | None
    agreement: float | None
    cause: Cause
    prompt_token_ids: tuple[int, ...] | None
    chosen_token_ids: tuple[int, ...] | None
    rejected_token_ids: tuple[int, ...] | None
    rejected_trimmed: bool
    rejected_ended: bool


@dataclass(frozen=True, slots=True)
class Dropped:
    prompt_id: str
    reason: DropReason
    detail: str | None = None


Row = Prompt | Rollout | Verdict | Canary | Reasked | Scorecard | Confirmation | Pair | Dropped | TrustFigure
