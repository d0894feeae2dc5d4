"""One explicit Arrow schema for each table, with a comment for each column.

A column here is a promise to everybody who reads a run folder: a golden test pins names, order, types and nullability,
and nothing infers a schema from the first row.
"""

from enum import StrEnum

import pyarrow as pa


class Table(StrEnum):
    PROMPTS = "prompts"
    ROLLOUTS = "rollouts"
    VERDICTS = "verdicts"
    CANARIES = "canaries"
    REASKED = "reasked"
    SCORECARDS = "scorecards"
    CONFIRMATIONS = "confirmations"
    PAIRS = "pairs"
    DROPPED = "dropped"
    TRUST = "trust"


def _column(name: str, kind: pa.DataType, comment: str, *, null: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=null, metadata={"comment": comment})


def _optional(name: str, kind: pa.DataType, comment: str) -> pa.Field:
    return _column(name, kind, comment, null=True)


TEXT = pa.string()
TOKENS = pa.list_(pa.field("element", pa.int32(), nullable=False))
MESSAGES = pa.list_(
    pa.field(
        "element",
        pa.struct([pa.field("role", TEXT, nullable=False), pa.field("content", TEXT, nullable=False)]),
        nullable=False,
    )
)
CONSTRAINTS = pa.list_(
    pa.field(
        "element",
        pa.struct([pa.field("id", TEXT, nullable=False), pa.field("kwargs", TEXT, nullable=False)]),
        nullable=False,
    )
)

PROMPTS = pa.schema(
    [
        _column("prompt_id", TEXT, "hash of the canonical conversation, tools included: equal everywhere"),
        _column("source", TEXT, "the file or dataset that the prompt came from"),
        _column("messages", MESSAGES, "the conversation up to the answer"),
        _optional("tools", TEXT, "declared tools, a JSON list in OpenAI's form"),
        _optional("answer", TEXT, "the reference answer, where one can be checked"),
        _column("constraints", CONSTRAINTS, "checks on form: IFEval instruction ids with their arguments as JSON"),
        _optional("language", TEXT, "ISO 639-1 code of the answer that is wanted"),
    ]
)

ROLLOUTS = pa.schema(
    [
        _column("rollout_id", TEXT, "prompt_id and slot"),
        _column("prompt_id", TEXT, "the prompt that is answered"),
        _column("slot", TEXT, "`greedy`, or `t0`, `t1`, … for the sampled ones"),
        _column("temperature", pa.float64(), "0 for greedy"),
        _column("top_p", pa.float64(), "nucleus sampling; 1: off"),
        _column("min_p", pa.float64(), "min-p sampling; 0: off"),
        _column("seed", pa.int64(), "derived from (run seed, round, prompt id, slot)"),
        _column("model", TEXT, "the policy's name"),
        _column(
            "model_digest", TEXT, "sha256 of the policy's weights, or the address-independent name of a remote one"
        ),
        _optional("text", TEXT, "the answer without reasoning and end token; NULL where the request failed"),
        _optional(
            "reasoning", TEXT, "a <think> block with its tags: reasoning and text together are what was generated"
        ),
        _optional("finish_reason", TEXT, "as the engine said it"),
        _optional("prompt_token_ids", TOKENS, "as the engine made them"),
        _optional("token_ids", TOKENS, "the answer's tokens as generated, end token included where there is one"),
        _optional("loop", TEXT, "`clean`, `soft` or `hard`; NULL where there is no text"),
        _optional("loop_rule", TEXT, "the rule that fired"),
        _optional("loop_onset", pa.int64(), "character of reasoning and text together at which the second copy begins"),
        _optional("loop_onset_token", pa.int64(), "token at which the second copy begins"),
        _optional("loop_period", pa.int64(), "length of the repeated unit, in UTF-8 bytes"),
        _optional("loop_repeats", pa.float64(), "length of the run over its period"),
        _optional("loop_share", pa.float64(), "repeated bytes (all but the first copy) over all bytes"),
        _optional("error", TEXT, "why there is no answer"),
    ]
)

LOOPS = pa.schema([field for field in ROLLOUTS if field.name.startswith("loop")])  # what the detector adds to an answer

_COST = (
    _optional("prompt_tokens", pa.int64(), "tokens read by the judge"),
    _optional("completion_tokens", pa.int64(), "tokens written by the judge"),
)

VERDICTS = pa.schema(
    [
        _column("prompt_id", TEXT, "the prompt"),
        _column("rollout_id", TEXT, "the answer that was judged"),
        _column("judge", TEXT, "the judge's or verifier's name"),
        _column("status", TEXT, "`ok`, or why there is no score"),
        _optional("score", pa.float64(), "1 to 9 from a judge, 0 or 1 from a verifier; NULL unless ok"),
        _optional("variance", pa.float64(), "of the judge's distribution over the digits"),
        _optional("mass", pa.float64(), "probability that the judge put on the digits"),
        _optional("reply", TEXT, "what the judge wrote, or what the verifier compared"),
        *_COST,
        _column("calls", pa.int64(), "replies behind this row; one about several rollouts is counted at the first"),
    ]
)

CANARIES = pa.schema(
    [
        _column("prompt_id", TEXT, "the prompt"),
        _column("rollout_id", TEXT, "the answer whose twin was planted"),
        _column("judge", TEXT, "the judge's name"),
        _column("kind", TEXT, "how the twin was made worse"),
        _column("status", TEXT, "`ok` where both have a score, else why not"),
        _optional("original", pa.float64(), "score of the answer itself"),
        _optional("twin", pa.float64(), "score of its twin; the original should be higher"),
    ]
)

REASKED = pa.schema(
    [
        _column("prompt_id", TEXT, "the prompt"),
        _column("rollout_id", TEXT, "the answer that was judged twice"),
        _column("judge", TEXT, "the judge's name"),
        _column("status", TEXT, "`ok` where both have a score, else why not"),
        _optional("first", pa.float64(), "score that counts"),
        _optional("second", pa.float64(), "score when asked once more"),
    ]
)

SCORECARDS = pa.schema(
    [
        _column("prompt_id", TEXT, "the prompt"),
        _column("rollout_id", TEXT, "the answer"),
        _column("tier", pa.int8(), "-2 loop, -1 failed a check, 0 nothing to check, +1 passed"),
        _optional("score", pa.float64(), "mean over judges of the centred score in pooled within-prompt SDs"),
        _optional("spread", pa.float64(), "SD of the judges' scaled scores"),
        _column("judges", pa.int32(), "how many judges count for this prompt"),
        _column("eligible", pa.bool_(), "may be chosen"),
        _optional("note", TEXT, "why it may not, or what else is odd"),
    ]
)

CONFIRMATIONS = pa.schema(
    [
        _column("prompt_id", TEXT, "the prompt"),
        _column("chosen_id", TEXT, "rollout_id of the answer that the jury would choose"),
        _column("rejected_id", TEXT, "rollout_id of the answer that it would reject"),
        _column("judge", TEXT, "the judge's name"),
        _column("chosen_first", pa.bool_(), "the order in which the two were shown"),
        _column("status", TEXT, "`ok`, or why there is no preference"),
        _optional("preference", pa.float64(), "probability put on the chosen one; NULL unless ok"),
        _optional("mass", pa.float64(), "probability that the judge put on naming one of the two"),
        _optional("reply", TEXT, "what the judge wrote"),
        *_COST,
    ]
)

PAIRS = pa.schema(
    [
        _column("prompt_id", TEXT, "the prompt"),
        _column("messages", MESSAGES, "the conversation up to the answer"),
        _column("chosen", TEXT, "the better answer"),
        _column("rejected", TEXT, "the worse answer; a loop is cut after a few periods"),
        _column("chosen_id", TEXT, "rollout_id of the chosen answer"),
        _column("rejected_id", TEXT, "rollout_id of the rejected answer"),
        _optional("chosen_score", pa.float64(), "its scorecard's score"),
        _optional("rejected_score", pa.float64(), "its scorecard's score; NULL for a loop, which no judge reads"),
        _optional("margin", pa.float64(), "chosen_score - rejected_score"),
        _optional("agreement", pa.float64(), "share of the judges that prefer the chosen one"),
        _column("cause", TEXT, "what separates the two: `jury`, `loop`, `verifier` or `human`"),
        _optional("prompt_token_ids", TOKENS, "as the engine made them"),
        _optional("chosen_token_ids", TOKENS, "as generated"),
        _optional("rejected_token_ids", TOKENS, "as generated, cut where the text is cut"),
        _column("rejected_trimmed", pa.bool_(), "the rejected side was cut behind a loop's onset"),
        _column("rejected_ended", pa.bool_(), "the rejected side ended by itself: only then may a trainer close it"),
    ]
)

DROPPED = pa.schema(
    [
        _column("prompt_id", TEXT, "the prompt without a pair"),
        _column("reason", TEXT, "why"),
        _optional("detail", TEXT, "the figures behind the reason"),
    ]
)

TRUST = pa.schema(
    [
        _column("figure", TEXT, "what was measured, see factory/judging/trust.py"),
        _optional("judge", TEXT, "of which judge; NULL: of the whole jury"),
        _optional("value", pa.float64(), "NULL where it cannot be known from this run"),
        _optional("low", pa.float64(), "lower end of the 95% interval"),
        _optional("high", pa.float64(), "upper end of the 95% interval"),
        _column("n", pa.int64(), "what it was counted over"),
    ]
)

_DIGESTS = pa.map_(TEXT, TEXT)

ROUNDS = pa.schema(
    [
        _column("round", pa.int64(), "0 for the first"),
        _column("policy", TEXT, "digest of the checkpoint that answered"),
        _column(
            "judges", _DIGESTS, "digest of each judge's model by its seat; a seat that is not here is the policy itself"
        ),
        _optional("reference", TEXT, "digest of the training's reference model"),
        _optional(
            "trained", TEXT, "digest of the checkpoint that was trained from the round's pairs and held the gates"
        ),
        _optional(
            "promoted", TEXT, "digest of the checkpoint that answers the next round: the trained one, or its merge"
        ),
    ]
)

LINEAGE = pa.schema(
    [
        _column("round", pa.int64(), "the pair's round"),
        _column("prompt_id", TEXT, "the prompt"),
        _column("cause", TEXT, "what separates the two sides"),
        _column("chosen_id", TEXT, "rollout_id of the chosen answer"),
        _column("rejected_id", TEXT, "rollout_id of the rejected answer"),
        _column("chosen_by", TEXT, "digest of the checkpoint that wrote the chosen answer"),
        _column("rejected_by", TEXT, "digest of the checkpoint that wrote the rejected answer"),
        *(ROUNDS.field(name).with_nullable(True) for name in ("judges", "reference", "trained", "promoted")),
    ]
)

HUMAN = pa.schema(
    [
        _column("round", pa.int64(), "the pair's round"),
        _column("prompt_id", TEXT, "the prompt"),
        _column("chosen_id", TEXT, "rollout_id of the answer that was the chosen one when it was marked"),
        _column("rejected_id", TEXT, "rollout_id of the answer that was the rejected one"),
        _column("mark", TEXT, "`right`, `flipped` (the rejected answer is better), or `both_bad`"),
        _column("why", TEXT, "the note that the person left"),
        _column("marked_by", TEXT, "who marked it"),
        _column("marked_at", TEXT, "when, as ISO 8601"),
    ]
)

PRICES = pa.schema(
    [
        _column("round", pa.int64(), "the round that was paid for"),
        _column("role", TEXT, "`policy`, or the judge's name"),
        _column("prompt", pa.float64(), "for a million tokens read, in the currency of the recipe's `budget.prices`"),
        _column("completion", pa.float64(), "for a million tokens written"),
    ]
)

POLICY_TOKENS = pa.schema(
    [
        _column("round", pa.int64(), "the round whose answers these are"),
        _optional("prompt_tokens", pa.int64(), "read by the policy, as its server counted; NULL where it did not"),
        _optional("completion_tokens", pa.int64(), "written by the policy"),
    ]
)

OF_ROUNDS: dict[str, pa.Schema] = {
    "rounds": ROUNDS,
    "lineage": LINEAGE,
    "human": HUMAN,
    "prices": PRICES,
    "policy_tokens": POLICY_TOKENS,
}  # beside the tables, over them and the run's documents

SCHEMAS: dict[Table, pa.Schema] = {
    Table.PROMPTS: PROMPTS,
    Table.ROLLOUTS: ROLLOUTS,
    Table.VERDICTS: VERDICTS,
    Table.CANARIES: CANARIES,
    Table.REASKED: REASKED,
    Table.SCORECARDS: SCORECARDS,
    Table.CONFIRMATIONS: CONFIRMATIONS,
    Table.PAIRS: PAIRS,
    Table.DROPPED: DROPPED,
    Table.TRUST: TRUST,
}
