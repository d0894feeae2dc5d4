"""What holds of the rows of every run, as SQL that finds the rows of which it does not.

The rule that must not break: a law says what a stranger may rely on, and nothing of how the rows are made. Each names the stage
whose shard must be redone where it is broken, and selects `shard` and `id` of what breaks it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from factory.judging.heeding import Marks
from factory.jury import quorum
from factory.ledger.identity import Stage
from factory.ledger.part_queries import Ask
from factory.rollouts import slots
from schemas.marks import Mark
from schemas.recipe import Recipe
from schemas.rows import CanaryKind, Cause, DropReason, Loop, LoopRule, VerdictStatus

FINISHED = "finish_reason IN ('stop', 'tool_calls')"
_ANSWER = "coalesce(r.reasoning, '') || coalesce(r.text, '')"
_CHOSEN = "pairs p JOIN rollouts r ON r.shard = p.shard AND r.rollout_id = p.chosen_id"
_REJECTED = "pairs p JOIN rollouts r ON r.shard = p.shard AND r.rollout_id = p.rejected_id"
_CARD = "pairs p JOIN scorecards c ON c.shard = p.shard AND c.rollout_id ="


@dataclass(frozen=True, slots=True)
class Law:
    stage: Stage
    why: str  # what is wrong where it is broken
    sql: str  # SELECT shard, … AS id


@dataclass(frozen=True, slots=True)
class Broken:
    """A law that does not hold in a shard: of how many rows, and one of them."""

    law: Law
    shard: int
    rows: int
    example: str


def broken(ask: Ask, laws: Sequence[Law]) -> Iterator[Broken]:
    """The laws that the tables behind `ask` break, shard by shard."""
    for law in laws:
        found = ask(f"SELECT shard, count(*), min(id) FROM ({law.sql}) GROUP BY shard ORDER BY shard")
        for shard, rows, example in found:
            yield Broken(law, int(str(shard)), int(str(rows)), str(example))


def laws_of(recipe: Recipe, round_: int, policy: str, marks: Marks | None) -> list[Law]:
    """`policy`: the digest of its weights. `marks`: what people said when the pairs were made; None: that is not known."""
    found = [*_of_rollouts(recipe, round_, policy), *_of_verdicts(recipe), *_of_watching(recipe)]
    if recipe.jury.confirm:
        found += _OF_CONFIRMATIONS
    of_marks = [] if marks is None else _of_marks(marks)
    return [*found, *_OF_SCORECARDS, *_OF_ENDS, *_OF_PAIRS, *_of_jury_pairs(recipe), *of_marks]


def _of_rollouts(recipe: Recipe, round_: int, policy: str) -> list[Law]:
    names = sorted(name for name, _ in slots(recipe.rollouts))
    key = f"'{recipe.seed}/{round_}/' || prompt_id || '/' || slot"
    found = {
        "answers no prompt of its shard": "SELECT shard, rollout_id AS id FROM rollouts "
        "ANTI JOIN prompts USING (shard, prompt_id)",
        "has an id that is not prompt, round and slot": "SELECT shard, rollout_id AS id FROM rollouts "
        f"WHERE rollout_id <> prompt_id || ':{round_}:' || slot",
        f"prompts have not exactly one answer in each of {', '.join(names)}": "SELECT shard, prompt_id AS id FROM prompts "
        "LEFT JOIN rollouts USING (shard, prompt_id) GROUP BY ALL "
        f"HAVING list_sort(list(slot) FILTER (slot IS NOT NULL)) IS DISTINCT FROM [{_quoted(names)}]",
        "has not the seed of its slot": "SELECT shard, rollout_id AS id FROM rollouts "
        f"WHERE seed <> (('0x' || sha256({key})[1:16])::UBIGINT >> 11)::BIGINT",
        "has a text and an error, or neither": "SELECT shard, rollout_id AS id FROM rollouts "
        "WHERE (text IS NULL) <> (error IS NOT NULL)",
        "was not looked at for loops": f"SELECT shard, rollout_id AS id FROM rollouts WHERE (loop IS NULL) <> (text IS NULL) "
        f"OR loop NOT IN ({_words(Loop)}) OR loop_rule NOT IN ({_words(LoopRule)})",
        "is of another model": f"SELECT shard, rollout_id AS id FROM rollouts WHERE model_digest <> {_quoted([policy])}",
    }
    return [Law(Stage.ROLLOUTS, f"a rollout {why}" if "prompts" not in why else why, sql) for why, sql in found.items()]


def _of_verdicts(recipe: Recipe) -> list[Law]:
    jury = recipe.jury
    graded = [seat.seat for seat in jury.judges if seat.judge != "reward_model"]  # a reward has no bounds
    everyone = [*jury.seats, *jury.verifiers]
    found = {
        "is about no answer of its shard": "ANTI JOIN rollouts USING (shard, prompt_id, rollout_id)",
        "is of a judge that the recipe does not name": f"WHERE judge NOT IN ({_quoted(everyone)})",
        "has a status that no judge gives": f"WHERE status NOT IN ({_words(VerdictStatus)})",
        "has a score without being ok, or is ok without one": "WHERE (score IS NULL) = (status = 'ok')",
        "has a score out of bounds": f"WHERE (judge IN ({_quoted(graded)}) AND score NOT BETWEEN 1 AND 9) "
        f"OR (judge IN ({_quoted(jury.verifiers)}) AND score NOT IN (0, 1)) OR isnan(score)",
        "judges a hard loop": f"JOIN rollouts USING (shard, rollout_id) WHERE judge IN ({_quoted(jury.seats)}) "
        "AND loop = 'hard' AND status <> 'skipped_loop'",
        "stands there twice": "GROUP BY shard, rollout_id, judge HAVING count(*) > 1",
    }
    laws = [
        Law(Stage.VERDICTS, f"a verdict {why}", f"SELECT shard, rollout_id AS id FROM verdicts {rest}")
        for why, rest in found.items()
    ]
    missing = (
        "SELECT shard, rollout_id AS id FROM rollouts LEFT JOIN verdicts USING (shard, rollout_id) "
        f"WHERE error IS NULL AND {FINISHED} GROUP BY ALL HAVING count(judge) <> {len(everyone)}"
    )
    return [*laws, Law(Stage.VERDICTS, "an answer has not one verdict of each judge and verifier", missing)]


def _of_watching(recipe: Recipe) -> list[Law]:
    found = []
    for table, one, other in (("canaries", "original", "twin"), ("reasked", "first", "second")):
        select = f"SELECT shard, rollout_id AS id FROM {table}"
        found += [
            Law(Stage.VERDICTS, f"a row of {table} is about no answer of its shard", f"{select} ANTI JOIN rollouts "
                "USING (shard, prompt_id, rollout_id)"),
            Law(Stage.VERDICTS, f"a row of {table} is ok without both scores",
                f"{select} WHERE status = 'ok' AND ({one} IS NULL OR {other} IS NULL)"),
            Law(Stage.VERDICTS, f"a row of {table} has a judge or a status that there is not", f"{select} "
                f"WHERE judge NOT IN ({_quoted(recipe.jury.seats)}) OR status NOT IN ({_words(VerdictStatus)})"),
        ]  # fmt: skip
    kinds = f"SELECT shard, rollout_id AS id FROM canaries WHERE kind NOT IN ({_words(CanaryKind)})"
    return [*found, Law(Stage.VERDICTS, "a canary is of a kind that there is not", kinds)]


_OF_CONFIRMATIONS = [
    Law(Stage.CONFIRMATIONS, f"a confirmation's {side} answer is not of its prompt",
        f"SELECT c.shard, {side}_id AS id FROM confirmations c ANTI JOIN rollouts r "
        f"ON r.shard = c.shard AND r.prompt_id = c.prompt_id AND r.rollout_id = c.{side}_id")
    for side in ("chosen", "rejected")
] + [
    Law(Stage.CONFIRMATIONS, "a confirmation has a preference without being ok, or is ok without one",
        "SELECT shard, prompt_id AS id FROM confirmations WHERE (preference IS NULL) = (status = 'ok')"),
    Law(Stage.PAIRS, "a pair that opinion made was shown to nobody",
        "SELECT shard, prompt_id AS id FROM pairs ANTI JOIN confirmations USING (shard, prompt_id, chosen_id, rejected_id) "
        "WHERE cause = 'jury'"),
]  # fmt: skip

_OF_SCORECARDS = [
    Law(Stage.PAIRS, "an answer has not exactly one scorecard",
        "SELECT shard, coalesce(r.rollout_id, c.rollout_id) AS id FROM rollouts r FULL JOIN scorecards c "
        "USING (shard, prompt_id, rollout_id) GROUP BY ALL "
        "HAVING count(*) <> 1 OR count(r.rollout_id) <> 1 OR count(c.rollout_id) <> 1"),
    Law(Stage.PAIRS, "a scorecard calls something a loop that is none, or lets a loop or an error be chosen",
        "SELECT c.shard, c.rollout_id AS id FROM scorecards c JOIN rollouts r USING (shard, rollout_id) "
        "WHERE (tier = -2 AND loop <> 'hard') OR (eligible AND (loop IN ('hard', 'soft') OR error IS NOT NULL))"),
]  # fmt: skip

_OF_ENDS = [
    Law(Stage.PAIRS, "a prompt is not exactly once among pairs and drops",
        "SELECT shard, prompt_id AS id FROM prompts LEFT JOIN (SELECT shard, prompt_id, 1 AS ended FROM pairs UNION ALL "
        "SELECT shard, prompt_id, 1 FROM dropped) USING (shard, prompt_id) GROUP BY ALL HAVING count(ended) <> 1"),
    Law(Stage.PAIRS, "a pair or a drop is of no prompt of its shard",
        "SELECT shard, prompt_id AS id FROM (SELECT shard, prompt_id FROM pairs UNION ALL SELECT shard, prompt_id "
        "FROM dropped) ANTI JOIN prompts USING (shard, prompt_id)"),
    Law(Stage.PAIRS, "a cause or a reason is a word that there is not",
        f"SELECT shard, prompt_id AS id FROM pairs WHERE cause NOT IN ({', '.join(repr(one.value) for one in Cause)}) "
        "UNION ALL SELECT shard, prompt_id FROM dropped "
        f"WHERE reason NOT IN ({', '.join(repr(one.value) for one in DropReason)})"),
]  # fmt: skip

_OF_PAIRS = [
    Law(Stage.PAIRS, f"a pair's {side} answer is not of its prompt",
        f"SELECT p.shard, prompt_id AS id FROM pairs p ANTI JOIN rollouts r "
        f"ON r.shard = p.shard AND r.prompt_id = p.prompt_id AND r.rollout_id = p.{side}_id")
    for side in ("chosen", "rejected")
] + [
    Law(Stage.PAIRS, f"a pair's {side}_score is not that of its scorecard",
        f"SELECT p.shard, p.prompt_id AS id FROM {_CARD} p.{side}_id WHERE {side}_score IS DISTINCT FROM c.score")
    for side in ("chosen", "rejected")
] + [
    Law(Stage.PAIRS, why, f"SELECT p.shard, p.prompt_id AS id FROM {rest}")
    for why, rest in {
        "a pair's two sides are one answer": "pairs p WHERE chosen_id = rejected_id OR trim(chosen) = trim(rejected)",
        "a hard loop is chosen": f"{_CHOSEN} WHERE loop = 'hard'",
        "a soft loop is chosen": f"{_CHOSEN} WHERE loop = 'soft'",
        "a pair's chosen answer may not be chosen": f"{_CARD} p.chosen_id "
        f"WHERE NOT c.eligible AND cause <> '{Cause.HUMAN}'",  # a person overrules checks
        "a pair's chosen side is not what was generated": f"{_CHOSEN} WHERE p.chosen <> {_ANSWER} "
        "OR chosen_token_ids IS DISTINCT FROM r.token_ids",
        "a pair's rejected side is not what was generated, or trimmed without saying so": f"{_REJECTED} "
        f"WHERE NOT starts_with({_ANSWER}, p.rejected) OR rejected_trimmed <> (p.rejected <> {_ANSWER}) "
        "OR (NOT rejected_trimmed AND rejected_token_ids IS DISTINCT FROM r.token_ids)",
        "a pair says that its rejected side ended when it did not": f"{_REJECTED} "
        f"WHERE rejected_ended <> ({FINISHED} AND error IS NULL AND NOT rejected_trimmed)",
        "a pair's cause and its rejected answer's loop do not fit": f"{_REJECTED} WHERE (cause = 'loop') <> (loop = 'hard')",
        "a pair's margin is not the difference of its scores": "pairs p "
        "WHERE abs(margin - (chosen_score - rejected_score)) > 1e-9 OR (margin IS NULL AND cause <> 'loop')",
        "a pair's conversation is not its prompt's": "pairs p JOIN prompts q ON q.shard = p.shard "
        "AND q.prompt_id = p.prompt_id WHERE p.messages <> q.messages",
    }.items()
]  # fmt: skip


def _of_jury_pairs(recipe: Recipe) -> list[Law]:
    """Where the cascade spared a judge, or weights silence one, fewer make the quorum."""
    pairing, jury = recipe.pairing, recipe.jury
    wanted = 1 if jury.cascade or pairing.weights else quorum(jury)
    unclear = f"margin <= 0 OR margin < {pairing.margin!r} OR agreement < {pairing.agreement - 1e-6!r}"
    return [
        Law(Stage.PAIRS, "a pair that opinion made is not clear enough for the recipe",
            f"SELECT shard, prompt_id AS id FROM pairs WHERE cause = 'jury' AND ({unclear})"),
        Law(Stage.PAIRS, f"a pair has fewer than {wanted} judges behind it",
            f"SELECT p.shard, p.prompt_id AS id FROM {_CARD} p.chosen_id WHERE c.judges < {wanted}"),
    ]  # fmt: skip


def _of_marks(marks: Marks) -> list[Law]:
    """A pair or a drop is a person's where a person said so, and nowhere else."""
    said = ", ".join(
        f"({_quoted([mark.prompt_id])}, {_quoted([mark.chosen_id])}, {_quoted([mark.rejected_id])}, '{mark.mark}')"
        for mark in marks.values()
    )
    human = f"(SELECT * FROM (VALUES {said or '(NULL, NULL, NULL, NULL)'}) m (prompt_id, first, second, mark))"
    flipped = f"mark = '{Mark.FLIPPED}'"
    better = (
        f"(SELECT if({flipped}, second, first) AS better, if({flipped}, first, second) AS worse FROM {human} "
        f"WHERE mark <> '{Mark.BOTH_BAD}')"
    )
    bad = f"(SELECT * FROM {human} WHERE mark = '{Mark.BOTH_BAD}')"
    dropped = f"'{DropReason.MARKED_FLIPPED}', '{DropReason.MARKED_BOTH_BAD}'"
    return [
        Law(Stage.PAIRS, "a pair is said to be a person's, and no mark says so",
            f"SELECT shard, prompt_id AS id FROM pairs ANTI JOIN {better} m "
            f"ON chosen_id = better AND rejected_id = worse WHERE cause = '{Cause.HUMAN}'"),
        Law(Stage.PAIRS, "a pair prefers the answer that a person calls the worse one",
            f"SELECT shard, prompt_id AS id FROM pairs JOIN {better} m ON chosen_id = worse AND rejected_id = better"),
        Law(Stage.PAIRS, "a pair is there of which a person says that both answers are bad",
            f"SELECT shard, pairs.prompt_id AS id FROM pairs JOIN {bad} m "
            "ON (chosen_id = first AND rejected_id = second) OR (chosen_id = second AND rejected_id = first)"),
        Law(Stage.PAIRS, "a prompt is dropped for a mark that nobody made",
            f"SELECT shard, prompt_id AS id FROM dropped ANTI JOIN {human} m USING (prompt_id) WHERE reason IN ({dropped})"),
    ]  # fmt: skip


def _words(kind: type[StrEnum]) -> str:
    return _quoted([word.value for word in kind])


def _quoted(words: Sequence[str]) -> str:
    """As a list for SQL; a list without a word matches nothing."""
    return ", ".join("'" + word.replace("'", "''") + "'" for word in words) or "NULL"
