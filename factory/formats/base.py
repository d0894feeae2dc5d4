"""What an export format is: a query over the run's tables, the files that its trainer reads, and the words of its card.

The rule that must not break: what a format cannot say is left out by the query itself, with a reason, so that what is counted
as left out is exactly what is not written.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from schemas.export import ExportFormat

PAIRS = "(SELECT pairs.*, source, tools, answer, constraints FROM pairs JOIN prompts USING (prompt_id, round))"
# How the chosen answer ended stands in its rollout alone; the pair says it of the rejected one.
PAIRS_AND_ENDS = f"""{PAIRS} LEFT JOIN (
    SELECT rollout_id AS chosen_id, round, finish_reason IN ('stop', 'tool_calls') AS chosen_ended FROM rollouts
) USING (chosen_id, round)"""
NO_IDS = (
    "chosen_token_ids IS NULL OR rejected_token_ids IS NULL OR prompt_token_ids IS NULL "
    "OR chosen_token_ids = [] OR rejected_token_ids = []"
)

TRACED = "prompt_id, cause, rejected_trimmed, rejected_ended"  # beside what a trainer reads

EMPTY_ANSWER = "empty_answer"
TOOLS = "tools"
TURNS = "turns"
WHY = {
    EMPTY_ANSWER: "a side without a word, which the loader would misread or refuse",
    TOOLS: "the loader renders no tool declarations: it would train on another prompt than the one that was answered",
    TURNS: "turns that the loader refuses: a system message in the middle, or two turns of one side in a row",
}
IS_EMPTY = r"NOT regexp_matches(chosen, '\S') OR NOT regexp_matches(rejected, '\S')"
HAS_TOOLS = "tools IS NOT NULL"
CLOSES = (
    "The loader closes both sides with an end token, also where the rejected side was cut behind a loop's onset or ran into "
    "the cap (`rejected_ended` is false there): it learns against an end that the model never wrote. The format `trl-tokens` "
    "is without that."
)


def not_alternating(*asking: str) -> str:
    """Turns that are not, after an optional system message, these roles and the assistant's by turns, ending with one of
    these.
    """
    turns = "list_filter(messages, lambda m, i: i > 1 OR m.role <> 'system')"
    roles = ", ".join(f"'{role}'" for role in asking)
    fits = f"list_transform({turns}, lambda m, i: (i % 2 = 1 AND m.role IN ({roles})) OR (i % 2 = 0 AND m.role = 'assistant'))"
    return f"len({turns}) % 2 = 0 OR NOT list_bool_and({fits})"


def assistant(column: str) -> str:
    """A side as one message, in SQL."""
    return f"{{'role': 'assistant', 'content': {column}}}"


class Files(StrEnum):
    """What a trainer reads: by the suffix of its files."""

    PARQUET = "parquet"
    JSON_LINES = "jsonl"


@dataclass(frozen=True, slots=True)
class Written:
    """What of a format is on the disk: rows by split (those without a row have no file), and by reason what is not."""

    files: Mapping[str, str]  # split -> path below the format's folder
    rows: Mapping[str, int]
    left_out: Mapping[str, int]


class RowsOf(StrEnum):
    """What a row of a format is made from: what people say of a pair holds of its rows alone."""

    PAIRS = "pairs"
    LOOPS = "loops"
    PROMPTS = "prompts"


def nothing_beside(_: Written) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class Format:
    """One way to write a run's pairs.

    `sql` gives the columns that the trainer reads, and `_prompt_id`, `_round`, `_place` (the order, and the split) and
    `_left_out` (why the row is not written; NULL: it is).
    """

    name: ExportFormat
    what: str  # for whom, in a line
    sql: str
    files: Files
    columns: str  # of the card: what the columns are
    use: str  # of the card: how to load it, as Markdown
    reasons: Mapping[str, str]  # every reason to leave a row out, in words
    beside: Callable[[Written], Mapping[str, str]] = nothing_beside  # file name -> content, as the trainer wants it
    rows_of: RowsOf = RowsOf.PAIRS

    def path(self, split: str) -> str:
        return f"data/{split}.parquet" if self.files is Files.PARQUET else f"{split}.jsonl"


def pair_rows(columns: str, left_out: Mapping[str, str], source: str = PAIRS) -> str:
    """A row for each pair. `left_out`: reason -> condition; the first that holds counts."""
    return (
        f"SELECT {columns}, prompt_id AS _prompt_id, round AS _round, 0 AS _place, {first_of(left_out)} AS _left_out "
        f"FROM {source}"
    )


def first_of(conditions: Mapping[str, str]) -> str:
    """The first reason whose condition holds, in SQL."""
    if not conditions:
        return "NULL"
    cases = " ".join(f"WHEN {condition} THEN '{reason}'" for reason, condition in conditions.items())
    return f"CASE {cases} END"
