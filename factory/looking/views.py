"""The views that answer what people ask of a run, over its tables: SQL, and a comment for each view and column.

The rule that must not break: a view counts what the tables hold, in all rounds, and makes nothing up. What a table has no
rows for is absent or NULL here, never 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from judges.registry import VERIFIERS


@dataclass(frozen=True, slots=True)
class View:
    """A view of the catalog. `columns`: name -> comment, in the order of the SELECT."""

    name: str
    comment: str
    columns: Mapping[str, str]
    sql: str


_ROUND = "the round that the rows are of"

ANSWERS = View(
    "answers",
    "every rollout with its prompt, its score, its loop, and the side of a pair that it became",
    {
        "round": _ROUND,
        "rollout_id": "prompt_id, round and slot",
        "prompt_id": "the prompt that is answered",
        "source": "the file or dataset that the prompt came from",
        "asked": "the last message of the prompt",
        "slot": "`greedy`, or `t0`, `t1`, … for the sampled ones",
        "temperature": "0 for greedy",
        "text": "the answer; NULL where the request failed",
        "reasoning": "what the model thought before it",
        "characters": "of the text",
        "tokens": "of reasoning and text; NULL where the server does not say",
        "finish_reason": "as the engine said it",
        "loop": "`clean`, `soft` or `hard`",
        "loop_rule": "the rule that fired",
        "loop_onset": "character at which the second copy begins",
        "loop_share": "repeated bytes over all bytes",
        "tier": "-2 loop, -1 failed a check, 0 nothing to check, +1 passed",
        "score": "mean over judges of the centred score in pooled within-prompt SDs",
        "spread": "SD of the judges' scaled scores",
        "eligible": "may be chosen",
        "note": "why it may not, or what else is odd",
        "side": "`chosen` or `rejected`; NULL where it is in no pair",
        "model_digest": "of the weights that wrote it",
        "error": "why there is no answer",
    },
    """
    SELECT r.round, r.rollout_id, r.prompt_id, p.source, p.messages[-1].content AS asked, r.slot, r.temperature, r.text,
           r.reasoning, length(r.text) AS characters, len(r.token_ids) AS tokens, r.finish_reason, r.loop, r.loop_rule,
           r.loop_onset, r.loop_share, s.tier, s.score, s.spread, s.eligible, s.note, sides.side, r.model_digest, r.error
    FROM rollouts r
    LEFT JOIN prompts p ON p.prompt_id = r.prompt_id AND p.round = r.round
    LEFT JOIN scorecards s ON s.rollout_id = r.rollout_id AND s.round = r.round
    LEFT JOIN (
        SELECT round, chosen_id AS rollout_id, 'chosen' AS side FROM pairs
        UNION ALL SELECT round, rejected_id, 'rejected' FROM pairs
    ) sides ON sides.rollout_id = r.rollout_id AND sides.round = r.round
    """,
)

FUNNEL = View(
    "funnel",
    "from prompts to pairs: every prompt of a round is a pair or a drop with its reason",
    {
        "round": _ROUND,
        "step": "`prompts`, `dropped: REASON`, `paired: CAUSE`, `pairs`",
        "prompts": "how many",
        "share": "of the round's prompts",
    },
    """
    WITH counted AS (
        SELECT round, 0 AS place, 'prompts' AS step, count(*) AS prompts FROM prompts GROUP BY round
        UNION ALL SELECT round, 1, 'dropped: ' || reason, count(*) FROM dropped GROUP BY round, reason
        UNION ALL SELECT round, 2, 'paired: ' || cause, count(*) FROM pairs GROUP BY round, cause
        UNION ALL SELECT round, 3, 'pairs', count(*) FROM pairs GROUP BY round
    )
    SELECT round, step, prompts, prompts / max(prompts) FILTER (place = 0) OVER (PARTITION BY round) AS share
    FROM counted ORDER BY round, place, prompts DESC, step
    """,
)

JUDGE_STATS = View(
    "judge_stats",
    "what each judge and verifier said, how far it can be trusted, and what became of its replies",
    {
        "round": _ROUND,
        "judge": "the judge's or verifier's name",
        "ok": "answers that it scored",
        "skipped": "loops and duplicate texts, which nobody judges",
        "not_asked": "answers that a cascade settled without it",
        "abstained": "answers in which a verifier had nothing to check",
        "failed": "answers without a score: unreadable, refused, or no reply came",
        "mean": "of its scores: 1 to 9 from a judge, 0 or 1 from a verifier",
        "sd": "of its scores",
        "mass": "mean probability that it put on grades",
        "tau": "mean Kendall tau-b with the mean of the other judges, within a prompt",
        "canaries": "share of planted twins that it set below the original",
        "flips": "share of its orderings that another asking turned or levelled",
    },
    """
    WITH trusted AS (
        SELECT round, judge, max(value) FILTER (figure = 'tau') AS tau,
               max(value) FILTER (figure = 'canaries') AS canaries, max(value) FILTER (figure = 'flips') AS flips
        FROM trust WHERE judge IS NOT NULL GROUP BY round, judge
    ), said AS (
        SELECT round, judge, count(*) FILTER (status = 'ok') AS ok, count(*) FILTER (status LIKE 'skipped%') AS skipped,
               count(*) FILTER (status = 'not_asked') AS not_asked, count(*) FILTER (status = 'abstained') AS abstained,
               count(*) FILTER (status NOT IN ('ok', 'abstained', 'not_asked') AND status NOT LIKE 'skipped%') AS failed,
               avg(score) AS mean, stddev_pop(score) AS sd, avg(mass) AS mass
        FROM verdicts GROUP BY round, judge
    )
    SELECT round, judge, ok, skipped, not_asked, abstained, failed, mean, sd, mass, tau, canaries, flips
    FROM said LEFT JOIN trusted USING (round, judge) ORDER BY round, judge
    """,
)

_VERIFIERS = ", ".join(f"'{name}'" for name in VERIFIERS)

LENGTH_BIAS = View(
    "length_bias",
    "whether a judge likes long answers: its scores less their prompt's mean, against the answers' length",
    {
        "round": _ROUND,
        "judge": "the judge's name",
        "answers": "that it scored, of prompts with at least two of them",
        "slope": "grades that an answer gains with each doubling of its characters",
        "correlation": "Pearson's, of the same two",
        "liked_longer": "mean of log2 of the characters, best answer less worst, over prompts",
    },
    f"""
    WITH scored AS (
        SELECT v.round, v.judge, v.prompt_id, v.score, log2(1 + length(r.text)) AS size
        FROM verdicts v JOIN rollouts r ON r.rollout_id = v.rollout_id AND r.round = v.round
        WHERE v.status = 'ok' AND v.judge NOT IN ({_VERIFIERS}) AND r.text IS NOT NULL
    ), apart AS (
        SELECT round, judge, prompt_id, score - avg(score) OVER own AS score, size - avg(size) OVER own AS size,
               count(*) OVER own AS together
        FROM scored WINDOW own AS (PARTITION BY round, judge, prompt_id)
    ), ends AS (
        SELECT round, judge, prompt_id, arg_max(size, score) - arg_min(size, score) AS longer
        FROM apart WHERE together > 1 GROUP BY round, judge, prompt_id HAVING max(score) > min(score)
    )
    SELECT a.round, a.judge, count(*) AS answers, regr_slope(a.score, a.size) AS slope, corr(a.score, a.size) AS correlation,
           (SELECT avg(longer) FROM ends e WHERE e.round = a.round AND e.judge = a.judge) AS liked_longer
    FROM apart a WHERE together > 1 GROUP BY a.round, a.judge ORDER BY a.round, a.judge
    """,
)

COST = View(
    "cost",
    "requests and tokens of every stage, by who answered; what was asked in vain is in the records and in spent.json",
    {
        "round": _ROUND,
        "stage": "`rollouts`, `verdicts` or `confirmations`",
        "who": "the policy's name, or the judge's",
        "requests": "that were answered",
        "prompt_tokens": "read; NULL where the server does not say",
        "completion_tokens": "written; NULL where the server does not say",
        "money": "that those tokens cost by the recipe's `budget.prices`; NULL where a price or a count is not known",
    },
    """
    WITH counted AS (
        SELECT r.round, 'rollouts' AS stage, 'policy' AS role, model AS who, count(*) FILTER (error IS NULL) AS requests,
               coalesce(sum(len(prompt_token_ids)), any_value(t.prompt_tokens))::BIGINT AS prompt_tokens,
               coalesce(sum(len(token_ids)), any_value(t.completion_tokens))::BIGINT AS completion_tokens
        FROM rollouts r LEFT JOIN policy_tokens t ON t.round = r.round GROUP BY r.round, model
        UNION ALL
        SELECT round, 'verdicts', judge, judge, sum(calls)::BIGINT, sum(prompt_tokens)::BIGINT, sum(completion_tokens)::BIGINT
        FROM verdicts GROUP BY round, judge HAVING sum(calls) > 0
        UNION ALL
        SELECT round, 'confirmations', judge, judge, count(*) FILTER (status <> 'not_asked'), sum(prompt_tokens)::BIGINT,
               sum(completion_tokens)::BIGINT
        FROM confirmations GROUP BY round, judge
    )
    SELECT c.round, stage, who, requests, prompt_tokens, completion_tokens,
           (prompt_tokens * p.prompt + completion_tokens * p.completion) / 1e6 AS money
    FROM counted c LEFT JOIN prices p ON p.round = c.round AND p.role = c.role
    ORDER BY c.round, stage, who
    """,
)

VIEWS = (ANSWERS, FUNNEL, JUDGE_STATS, LENGTH_BIAS, COST)
